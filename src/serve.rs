//! The life of the daemon: open, listen, say so, go by signals, stop.
//!
//! SIGTERM and SIGINT stop it: nothing new is taken, what is in flight may finish within `GRACE`, the rest is
//! returned to the outbox. A second one ends it at once, which loses nothing that was acknowledged. SIGHUP reloads the
//! configuration; a wrong one is refused whole.

use crate::config::{self, Config, Env};
use crate::engine::Engine;
use crate::http::{self, Access, Desk, Shared, Token};
use actix_web::dev::ServerHandle;
use actix_web::web;
use anyhow::{Context as _, bail};
use posthaste_events::builtin::News;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long what is in flight may go on at a stop.
const GRACE: Duration = Duration::from_secs(6);
/// How long requests that are being answered may take at a stop.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(1);
/// How long a stop takes at most, whatever hangs.
const STOP_MAX: Duration = Duration::from_secs(9);
/// How many files and connections may be open at once, where the system allows it.
const DESCRIPTORS: u64 = 65_536;
/// How many threads answer HTTP requests at most; the engine has its own.
const WORKERS_MAX: usize = 8;

/// Runs the daemon until it is told to stop. `env` is what `config` was read with; a reload reads with it again.
///
/// # Errors
/// It could not start: the data is in use or unreadable, the port is taken. Or it could not stop well.
pub fn run(config: Config, env: Env) -> anyhow::Result<()> {
    #[cfg(feature = "fault-injection")]
    crate::fault::of_this_process()?.begin();
    raise_descriptors();
    actix_web::rt::System::new().block_on(async {
        // From here on no signal ends the process by itself.
        let signals = Signals::new()?;
        let engine = Engine::start(&config).await?;
        let access = access(&config);
        let snapshot = engine.snapshot();
        let body_max = usize::try_from(config.daemon.body_max).unwrap_or(usize::MAX);
        let latest: http::LatestSnapshot = Arc::new(move || snapshot.current());
        let shared = web::Data::new(Shared::new(Desk::of(engine.registry()), latest, engine.clock(), access, body_max));
        shared.set_relay(&config.relay);
        let workers = std::thread::available_parallelism().map_or(2, usize::from).min(WORKERS_MAX);
        let listening = http::listen(shared.clone(), config.daemon.listen, workers);
        let (server, addresses) = match listening {
            Ok(listening) => listening,
            Err(error) => {
                // What was leased meanwhile is returned.
                let _ = tokio::time::timeout(STOP_MAX, engine.stop(Duration::ZERO)).await;
                return Err(error).with_context(|| format!("cannot listen on {}", config.daemon.listen));
            }
        };
        let handle = server.handle();
        actix_web::rt::spawn(server);
        tell_start(&config, &addresses);
        let version = env!("CARGO_PKG_VERSION").to_owned();
        engine.announce(News::Started { version }).await;
        let daemon = Daemon { config, env, engine, shared, handle };
        daemon.live(signals).await
    })
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

struct Daemon {
    config: Config,
    env: Env,
    engine: Engine,
    shared: web::Data<Shared>,
    handle: ServerHandle,
}

impl Daemon {
    async fn live(mut self, mut signals: Signals) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                _ = signals.hang_up.recv() => self.reload().await,
                _ = signals.terminate.recv() => break,
                _ = signals.interrupt.recv() => break,
            }
        }
        tracing::info!("stopping: nothing new is taken, what is in flight may finish");
        tokio::select! {
            stopped = tokio::time::timeout(STOP_MAX, self.stop()) => match stopped {
                Ok(stopped) => stopped,
                Err(_) => {
                    tracing::error!("something hung at the stop; what was acknowledged is kept all the same");
                    Ok(())
                }
            },
            () = signals.stop() => bail!("stopped at once by a second signal; what was acknowledged is kept"),
        }
    }

    /// Reads the configuration again. A wrong one changes nothing.
    async fn reload(&mut self) {
        let config = match config::load(&self.config.file, &self.env) {
            Ok(config) => config,
            Err(problems) => {
                for problem in &problems {
                    tracing::error!(%problem, "the configuration is wrong");
                }
                tracing::error!(problems = problems.len(), "the configuration was not reloaded; the running one stays");
                return;
            }
        };
        let (old, new) = (&self.config, &config);
        let fixed = [
            ("daemon.listen", old.daemon.listen != new.daemon.listen),
            ("daemon.data_dir", old.daemon.data_dir != new.daemon.data_dir),
            ("daemon.body_max", old.daemon.body_max != new.daemon.body_max),
            ("daemon.encryption_key", old.daemon.encryption_key != new.daemon.encryption_key),
            (
                "daemon.previous_encryption_keys",
                old.daemon.previous_encryption_keys != new.daemon.previous_encryption_keys,
            ),
            (
                "outbox",
                crate::config::OutboxLimits { backlog_max: new.outbox.backlog_max, ..old.outbox.clone() } != new.outbox,
            ),
        ];
        for (key, _) in fixed.iter().filter(|(_, changed)| *changed) {
            tracing::warn!(key, "this key was changed and counts from the next start on");
        }
        match self.engine.reload(&config).await {
            Ok(()) => {
                self.shared.set_access(access(&config));
                self.shared.set_relay(&config.relay);
                tracing::info!(subscriptions = config.subscriptions.len(), "the configuration was reloaded");
                self.config = config;
            }
            Err(error) => tracing::error!(%error, "the configuration was not reloaded; the running one stays"),
        }
    }

    async fn stop(&self) -> anyhow::Result<()> {
        self.shared.stop();
        let answered = async {
            while self.shared.active() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let _ = tokio::time::timeout(ANSWER_WAIT_MAX, answered).await;
        let stopped = self.engine.stop(GRACE).await;
        // Idle connections are not waited for, and answers are long written.
        self.handle.stop(false).await;
        stopped.context("the outbox could not be closed well; what was settled last may be attempted again")?;
        tracing::info!("stopped");
        Ok(())
    }
}

fn access(config: &Config) -> Access {
    let token = |t: &config::Token| Token::new(&t.name, t.token.reveal(), &t.scopes, t.tenant.as_deref());
    Access::new(config.daemon.tokens.iter().map(token).collect())
}

/// Says where it listens, whatever the level of the log.
fn tell_start(config: &Config, addresses: &[SocketAddr]) {
    let version = env!("CARGO_PKG_VERSION");
    let (file, data) = (config.file.display(), config.daemon.data_dir.display());
    let data = match config.outbox.engine {
        config::Engine::Memory => "in memory only".to_owned(),
        config::Engine::Sled => format!("in {data}"),
    };
    for address in addresses {
        let line = format!("posthaste {version} listens on http://{address} (config {file}, data {data})\n");
        // A closed stream is no reason not to run.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}

/// Raises the number of open files to what the system allows: each receiver and each caller is one.
fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(DESCRIPTORS, |max| max.min(DESCRIPTORS));
    if limit.current.is_some_and(|current| current < wanted) {
        // It then runs with what it has.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum });
    }
}
