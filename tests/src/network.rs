//! A network that leads nowhere: every address is local to it, so a daemon that dials 10.0.0.1 or 8.8.8.8 reaches a
//! listener of the test, and nothing can leave the machine.

use anyhow::{Context, Result, bail, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::thread;

/// The network; it ends with this value and what runs in it.
#[derive(Debug)]
pub struct PrivateNetwork {
    /// Holds the namespace open; it ends by itself when this process does, since it reads our pipe.
    keeper: Child,
}

impl PrivateNetwork {
    /// Makes one.
    ///
    /// # Errors
    /// Where the machine does not let us: root, `unshare` and `ip` are needed. A test that needs this fails then.
    pub fn make() -> Result<Self> {
        let script = "ip link set lo up && ip route add local 0.0.0.0/0 dev lo && ip -6 route add local ::/0 dev lo \
                      && echo ready && exec cat";
        let mut keeper = Command::new("unshare")
            .args(["--net", "sh", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("no network namespace could be made; this test needs root, unshare and ip")?;
        let mut said = String::new();
        if let Some(out) = keeper.stdout.take() {
            BufReader::new(out).read_line(&mut said)?;
        }
        let network = Self { keeper };
        ensure!(said.trim() == "ready", "no network namespace could be made; this test needs root, unshare and ip");
        Ok(network)
    }

    /// Runs `inside` on a thread that lives in the network; the sockets it makes and the processes that it starts do
    /// so too.
    ///
    /// # Errors
    /// What `inside` answers; where the thread can not enter.
    pub fn run<T: Send>(&self, inside: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let namespace = File::open(format!("/proc/{}/ns/net", self.keeper.id()))?;
        let done = thread::scope(|scope| {
            scope
                .spawn(|| {
                    // Only this thread moves, and it ends here.
                    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
                    inside()
                })
                .join()
        });
        match done {
            Ok(result) => result,
            Err(_) => bail!("what ran in the network panicked"),
        }
    }
}

impl Drop for PrivateNetwork {
    fn drop(&mut self) {
        drop(self.keeper.kill());
        drop(self.keeper.wait());
    }
}
