//! `examples/orchest` as it stands, as a daemon in a network of its own, so that the ports of its config are free.

use anyhow::{Context, Result, bail, ensure};
use posthaste_tests::daemon::{binary, root};
use posthaste_tests::{Answer, Client, Receiver, Reply, Request, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Where the config says that the daemon listens.
const DAEMON: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8321);
/// Where its webhooks go.
const RECEIVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8322);

/// A webhook as it arrived.
#[derive(Debug, Clone)]
pub(super) struct Hook {
    /// The path, which in the example names the subscription.
    pub(super) path: String,
    /// The event's id.
    pub(super) id: String,
    /// The header `posthaste-sequence`.
    pub(super) sequence: String,
    /// The body.
    pub(super) body: Value,
}

/// The running example; it ends with this value.
pub(crate) struct Platform {
    home: PathBuf,
    child: Option<Child>,
    hooks: Arc<Mutex<Vec<Hook>>>,
    answers: Arc<dyn Fn(&Request) -> u16 + Send + Sync>,
    receiver: Option<Receiver>,
}

impl Platform {
    /// Copies the example, changes its config, and starts it; its webhooks are answered with 200.
    ///
    /// Call it on a thread in a [`posthaste_tests::PrivateNetwork`].
    pub(super) fn start(home: &Path, change: impl FnOnce(String) -> String) -> Result<Self> {
        Self::start_answering(home, change, |_| 200)
    }

    /// The same with answers of the test's own.
    pub(super) fn start_answering(
        home: &Path,
        change: impl FnOnce(String) -> String,
        answers: impl Fn(&Request) -> u16 + Send + Sync + 'static,
    ) -> Result<Self> {
        Self::up(copy(home, change)?, answers)
    }

    /// Starts it in a folder that has its files already.
    pub(crate) fn at(home: &Path) -> Result<Self> {
        Self::up(home.to_owned(), |_| 200)
    }

    fn up(home: PathBuf, answers: impl Fn(&Request) -> u16 + Send + Sync + 'static) -> Result<Self> {
        let mut platform =
            Self { home, child: None, hooks: Arc::default(), answers: Arc::new(answers), receiver: None };
        platform.listen()?;
        platform.launch()?;
        Ok(platform)
    }

    fn listen(&mut self) -> Result<()> {
        let (kept, answers) = (Arc::clone(&self.hooks), Arc::clone(&self.answers));
        let receiver = Receiver::on(RECEIVER, move |request| {
            let header = |name| request.header(name).to_owned();
            let hook = Hook {
                path: request.path.clone(),
                id: header("webhook-id"),
                sequence: header("posthaste-sequence"),
                body: serde_json::from_slice(&request.body).unwrap_or_default(),
            };
            held(&kept).push(hook);
            Reply::Status(answers(request))
        })?;
        self.receiver = Some(receiver);
        Ok(())
    }

    /// Starts the daemon; it is ready when this returns.
    pub(super) fn launch(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.home.join("out.log"))?;
        let child = Command::new(binary())
            .args(["serve", "--config", "config.toml"])
            .current_dir(&self.home)
            .env("POSTHASTE__OUTBOX__FREE_MIN", "16MiB")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.child = Some(child);
        let mut client = self.client();
        until("readiness", Duration::from_secs(30), || {
            if let Some(status) = self.child.as_mut().map(Child::try_wait).transpose()?.flatten() {
                bail!("the daemon ended with {status}: {}", self.log());
            }
            Ok(client.send("GET", "/readyz", &[], b"").ok().filter(|answer| answer.status == 200).map(drop))
        })
    }

    /// Lets it read its files again.
    pub(crate) fn reload(&self) -> Result<()> {
        let begun = self.log().matches("configuration was reloaded").count();
        let pid = self.child.as_ref().context("the daemon does not run")?.id();
        kill_process(Pid::from_raw(i32::try_from(pid)?).context("a process")?, Signal::HUP)?;
        until("a reload", Duration::from_secs(10), || {
            Ok((self.log().matches("configuration was reloaded").count() > begun).then_some(()))
        })
    }

    pub(super) fn client(&self) -> Client {
        Client::new(DAEMON)
    }

    /// The folder with its files.
    pub(super) fn home(&self) -> &Path {
        &self.home
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.home.join("out.log")).unwrap_or_default()
    }

    /// Records an event that must be taken, and answers its id.
    pub(super) fn record(&self, event_type: &str, properties: &Value) -> Result<String> {
        let answer = self.try_record(event_type, properties)?;
        ensure!(answer.status == 202, "{event_type}: {} {}", answer.status, String::from_utf8_lossy(&answer.body));
        Ok(answer.json()?["id"].as_str().context("an id")?.to_owned())
    }

    pub(super) fn try_record(&self, event_type: &str, properties: &Value) -> Result<Answer> {
        self.client().post("/v1/events", &json!({ "type": event_type, "properties": properties }))
    }

    /// The webhooks so far, in the order of arrival.
    pub(super) fn hooks(&self) -> Vec<Hook> {
        held(&self.hooks).clone()
    }

    /// The webhooks of one path.
    pub(super) fn hooks_of(&self, path: &str) -> Vec<Hook> {
        self.hooks().into_iter().filter(|hook| hook.path == path).collect()
    }

    /// Waits until a subscription is owed nothing.
    pub(super) fn settled(&self, subscription: &str) -> Result<()> {
        let mut client = self.client();
        until(&format!("{subscription} is owed nothing"), Duration::from_secs(60), || {
            let shown = client.get(&format!("/v1/subscriptions/{subscription}"))?;
            Ok((shown["backlog"].as_u64().context("a backlog")? == 0).then_some(()))
        })
        .with_context(|| self.log())
    }

    /// What has left as telemetry: the lines of the file, once nothing more is owed.
    pub(super) fn telemetry(&self) -> Result<Vec<Value>> {
        self.settled("product")?;
        let text = fs::read_to_string(self.home.join("data/telemetry.ndjson")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Lays a copy of the example into a folder, with its config changed.
pub(crate) fn copy(home: &Path, change: impl FnOnce(String) -> String) -> Result<PathBuf> {
    let example = root().join("examples/orchest");
    let home = home.join("orchest");
    fs::create_dir_all(&home)?;
    fs::copy(example.join("events.toml"), home.join("events.toml"))?;
    fs::write(home.join("config.toml"), change(fs::read_to_string(example.join("config.toml"))?))?;
    Ok(home)
}

/// Locks; a holder that panicked has failed its test already.
pub(super) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
