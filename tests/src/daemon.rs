//! One posthaste as a process, with a folder, a port and a config of its own.

use crate::{Client, Config, process, until};
use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// The variable that switches a protection off, in builds with the feature `fault-injection` only.
pub const FAULT: &str = "POSTHASTE_FAULT";

/// The built daemon: `POSTHASTE_BIN`, else what a release build of this workspace makes.
#[must_use]
pub fn binary() -> PathBuf {
    if let Some(given) = std::env::var_os("POSTHASTE_BIN") {
        return given.into();
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    target.join("release/posthaste")
}

/// The root of the source tree.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Runs one command of the daemon's to its end, without the caller's own `POSTHASTE_…` variables.
///
/// # Errors
/// Where it can not be started or takes more than 30 seconds.
pub fn command(home: &Path, args: &[&str], env: &[(&str, &str)]) -> Result<Output> {
    let mut child = clean(home)?
        .args(args)
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let end = Instant::now() + Duration::from_secs(30);
    // What a command prints fits the pipe, so it can be waited for before it is read.
    while child.try_wait()?.is_none() {
        if Instant::now() > end {
            child.kill()?;
            bail!("posthaste {args:?} did not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(child.wait_with_output()?)
}

fn clean(home: &Path) -> Result<Command> {
    let binary = binary();
    ensure!(binary.is_file(), "no daemon at {}: build it, or use tests/run", binary.display());
    let mut command = Command::new(binary);
    command.current_dir(home);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("POSTHASTE_") {
            command.env_remove(name);
        }
    }
    Ok(command)
}

/// A daemon that a test starts, stops and kills; what still runs when it is dropped is killed.
#[derive(Debug)]
pub struct Daemon {
    home: PathBuf,
    port: u16,
    config: Config,
    env: BTreeMap<String, String>,
    child: Option<Child>,
}

impl Daemon {
    /// Lays the folder and the config, with the data in `home/data`; starts nothing.
    ///
    /// # Errors
    /// Where the folder can not be written or no port is free.
    pub fn new(home: &Path, config: Config) -> Result<Self> {
        fs::create_dir_all(home)?;
        let port = free_port()?;
        let data = home.join("data");
        let config = config.set("daemon", "listen", format!("127.0.0.1:{port}")).set(
            "daemon",
            "data_dir",
            data.to_str().context("a folder's name in UTF-8")?,
        );
        let daemon = Self { home: home.to_owned(), port, config, env: BTreeMap::new(), child: None };
        daemon.write()?;
        Ok(daemon)
    }

    /// Switches a protection off from the next start on.
    #[must_use]
    pub fn with_fault(mut self, fault: Option<&str>) -> Self {
        if let Some(fault) = fault {
            self.env.insert(FAULT.to_owned(), fault.to_owned());
        }
        self
    }

    /// Gives it a variable of the environment, from the next start on.
    #[must_use]
    pub fn with_env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Changes the config for the next start or reload.
    ///
    /// # Errors
    /// Where it can not be written.
    pub fn configure(&mut self, change: impl FnOnce(Config) -> Config) -> Result<()> {
        self.config = change(self.config.clone());
        self.write()
    }

    /// Starts it and waits until it is ready; answers how long that took.
    ///
    /// # Errors
    /// Where it ends, or is not ready within 30 s; with the end of its log.
    pub fn start(&mut self) -> Result<Duration> {
        ensure!(self.child.is_none(), "it runs already");
        let log = File::options().create(true).append(true).open(self.log_file())?;
        let begun = Instant::now();
        let child = clean(&self.home)?
            .args(["serve", "--config", "config.toml"])
            .envs(&self.env)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.child = Some(child);
        let mut client = self.client();
        until("readiness", Duration::from_secs(30), || {
            if let Some(status) = self.child.as_mut().map(Child::try_wait).transpose()?.flatten() {
                bail!("the daemon ended with {status}");
            }
            Ok(client.send("GET", "/readyz", &[], b"").ok().filter(|answer| answer.status == 200))
        })
        .with_context(|| format!("the daemon's log ends:\n{}", self.log_end()))?;
        Ok(begun.elapsed())
    }

    /// A client of its API, one connection.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(self.address())
    }

    /// Where its API listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Its folder.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Runs one of its commands against it.
    ///
    /// # Errors
    /// As [`command`].
    pub fn cli(&self, args: &[&str]) -> Result<Output> {
        command(&self.home, args, &[("POSTHASTE_URL", &format!("http://{}", self.address()))])
    }

    /// The id of its process.
    ///
    /// # Errors
    /// Where it does not run.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.child.as_ref().context("the daemon does not run")?.id())
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// Where it does not run.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid()?)?).context("a process id")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Stops it for the machine's scheduler, as if the machine had lost its power this moment.
    ///
    /// # Errors
    /// Where it does not run or does not stand still within a second.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)?;
        let pid = self.pid()?;
        until("standing still", Duration::from_secs(1), || {
            let tasks = fs::read_dir(format!("/proc/{pid}/task"))?;
            let mut running = tasks.flatten().filter(|task| {
                let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
                stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('T'))
            });
            Ok(running.next().is_none().then_some(()))
        })
    }

    /// Kills it at once, and waits until it is gone.
    ///
    /// # Errors
    /// Where it does not run.
    pub fn kill9(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the daemon does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Asks it to end and waits at most `bound`.
    ///
    /// # Errors
    /// Where it does not run, or is still there after the bound; it is killed then.
    pub fn stop(&mut self, bound: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        let ended = until("the end of the daemon", bound, || {
            self.child.as_mut().map(Child::try_wait).transpose().map(Option::flatten).map_err(Into::into)
        });
        match ended {
            Ok(status) => {
                self.child = None;
                Ok(status)
            }
            Err(late) => {
                self.kill9()?;
                Err(late.context(self.log_end()))
            }
        }
    }

    /// Waits until a subscription is owed nothing more.
    ///
    /// # Errors
    /// Where it still is after the bound.
    pub fn settled(&self, subscription: &str, bound: Duration) -> Result<()> {
        let mut client = self.client();
        until(&format!("{subscription} is owed nothing"), bound, || {
            let shown = client.get(&format!("/v1/subscriptions/{subscription}"))?;
            let backlog = shown["backlog"].as_u64().with_context(|| format!("no backlog in {shown}"))?;
            Ok((backlog == 0).then_some(()))
        })
        .with_context(|| self.log_end())
    }

    /// Resident memory now, in bytes.
    ///
    /// # Errors
    /// Where it does not run.
    pub fn rss(&self) -> Result<u64> {
        process::resident(self.pid()?)
    }

    /// CPU time used since its start, in seconds.
    ///
    /// # Errors
    /// Where it does not run.
    pub fn cpu_seconds(&self) -> Result<f64> {
        process::cpu_seconds(self.pid()?)
    }

    /// Everything it wrote to its standard output and error.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(self.log_file()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    fn log_end(&self) -> String {
        let log = self.log();
        let start = log.char_indices().rev().nth(3000).map_or(0, |(at, _)| at);
        log[start..].to_owned()
    }

    fn log_file(&self) -> PathBuf {
        self.home.join("out.log")
    }

    fn write(&self) -> Result<()> {
        // In one step, as an editor does it: a reload must never see half a file.
        let (new, file) = (self.home.join("config.new"), self.home.join("config.toml"));
        fs::write(&new, self.config.to_toml())?;
        Ok(fs::rename(new, file)?)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.is_some() {
            drop(self.kill9());
        }
    }
}

/// A port of loopback where nobody listens now.
///
/// # Errors
/// Where there is none.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
