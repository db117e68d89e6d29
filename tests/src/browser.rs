//! A real browser, Chromium without a window, that opens one page.

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process_group};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Keeps it to this machine, and without all that a person's browser would do beside.
const FLAGS: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    // With it the browser stays open; nobody connects.
    "--remote-debugging-port=0",
];

/// A running browser; it and its processes end when it is dropped.
#[derive(Debug)]
pub struct Browser {
    child: Child,
}

impl Browser {
    /// Opens a page, with a profile of its own in `profile`: `POSTHASTE_CHROMIUM`, else `chromium`.
    ///
    /// # Errors
    /// Where there is no such browser.
    pub fn open(profile: &Path, url: &str) -> Result<Self> {
        let program = std::env::var("POSTHASTE_CHROMIUM").unwrap_or_else(|_| "chromium".to_owned());
        let child = Command::new(&program)
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg(url)
            .env("HOME", profile)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A group of its own, so that its helpers end with it.
            .process_group(0)
            .spawn()
            .with_context(|| format!("no browser {program}: install Debian's package chromium, or use tests/run"))?;
        Ok(Self { child })
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // It may have ended by itself.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}
