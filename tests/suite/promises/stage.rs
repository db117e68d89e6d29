//! Where promises are played: one daemon for a group of rows, a subscription and a path of the receiver for each.

use crate::folder;
use anyhow::{Context, Result, ensure};
use posthaste_tests::{
    Answer, Authority, Client, Config, Daemon, Identity, Receiver, Reply, Request, SecureReceiver, Subscription, held,
    until,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Longest wait for something that a row expects.
const PATIENCE: Duration = Duration::from_secs(20);

/// One promise, and how it is kept.
pub(super) struct Row {
    /// The promise as a sentence: given, when, then.
    pub(super) name: &'static str,
    /// Makes the row's subscription out of a webhook for the row's own events and path.
    pub(super) given: fn(Subscription) -> Subscription,
    /// What its receiver answers to the n-th request, counted from 1.
    pub(super) answers: fn(&Request, u64) -> Reply,
    /// Brings it about and judges.
    pub(super) holds: fn(&Case<'_>) -> Result<()>,
    /// A second subscription for the same events, at a path of its own that always takes them.
    pub(super) beside: Option<fn(Subscription) -> Subscription>,
    /// Judged once more after the daemon was killed and started again.
    pub(super) after: Option<fn(&Case<'_>) -> Result<()>>,
    /// How its receiver is reached.
    pub(super) over: Over,
}

/// Which receiver a row's subscription posts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Over {
    /// HTTP/1.1 without encryption.
    Plain,
    /// TLS with a certificate that the daemon's machine trusts, for HTTP/2 and HTTP/1.1 as a client likes.
    Http2,
    /// The same for HTTP/1.1 alone.
    Http1,
    /// A certificate whose time is over.
    Expired,
    /// A certificate that nobody else vouches for.
    SelfSigned,
    /// A certificate of another host.
    WrongHost,
    /// A certificate of an authority that the machine does not know.
    UnknownAuthority,
}

const SECURE: [Over; 6] =
    [Over::Http2, Over::Http1, Over::Expired, Over::SelfSigned, Over::WrongHost, Over::UnknownAuthority];

/// A row whose receiver takes everything.
pub(super) const fn row(
    name: &'static str,
    given: fn(Subscription) -> Subscription,
    holds: fn(&Case<'_>) -> Result<()>,
) -> Row {
    Row { name, given, answers: |_, _| Reply::Status(204), holds, beside: None, after: None, over: Over::Plain }
}

impl Row {
    /// With a receiver that answers so.
    pub(super) const fn answering(self, answers: fn(&Request, u64) -> Reply) -> Self {
        Self { answers, ..self }
    }

    /// Over another wire.
    pub(super) const fn over(self, over: Over) -> Self {
        Self { over, ..self }
    }

    /// With a second subscription, named as the first and `-b`.
    pub(super) const fn beside(self, beside: fn(Subscription) -> Subscription) -> Self {
        Self { beside: Some(beside), ..self }
    }

    /// Also judged after a kill -9 and a start.
    pub(super) const fn after(self, after: fn(&Case<'_>) -> Result<()>) -> Self {
        Self { after: Some(after), ..self }
    }
}

/// A request, and when it had arrived whole.
#[derive(Debug, Clone)]
pub(super) struct Arrival {
    pub(super) at: Instant,
    pub(super) request: Request,
}

impl Arrival {
    pub(super) fn header(&self, name: &str) -> &str {
        self.request.header(name)
    }

    pub(super) fn json(&self) -> Result<Value> {
        Ok(serde_json::from_slice(&self.request.body)?)
    }
}

type Arrivals = Arc<Mutex<BTreeMap<String, Vec<Arrival>>>>;

/// What a row works with.
pub(super) struct Case<'a> {
    /// The row's subscription.
    pub(super) name: String,
    pub(super) daemon: &'a Daemon,
    pub(super) receiver: &'a Receiver,
    pub(super) world: &'a World,
    arrivals: Arrivals,
    /// What a row keeps for its second half.
    kept: Mutex<Value>,
}

impl Case<'_> {
    pub(super) fn client(&self) -> Client {
        let mut client = self.daemon.client();
        client.token = self.world.token.map(str::to_owned);
        client
    }

    /// The type of the row's events.
    pub(super) fn event_type(&self) -> String {
        format!("promise:{}", self.name)
    }

    /// Records an event with these properties; answers its id.
    pub(super) fn send(&self, properties: Value) -> Result<String> {
        self.record(json!({ "properties": properties }))
    }

    /// Records an event with these fields beside its type.
    pub(super) fn record(&self, mut event: Value) -> Result<String> {
        event["type"] = self.event_type().into();
        let answer = self.client().post("/v1/events", &event)?;
        ensure!(answer.status == 202, "{}: {}", answer.status, String::from_utf8_lossy(&answer.body));
        Ok(answer.json()?["id"].as_str().context("an id")?.to_owned())
    }

    /// Records one event and waits until its delivery is no longer pending; answers that delivery with its attempts.
    pub(super) fn outcome(&self) -> Result<Value> {
        let id = self.send(json!({}))?;
        self.settled(&id)
    }

    /// The delivery of an event to the row's subscription.
    pub(super) fn delivery(&self, event: &str) -> Result<Value> {
        self.delivery_to(event, &self.name)
    }

    pub(super) fn delivery_to(&self, event: &str, subscription: &str) -> Result<Value> {
        let event = self.client().get(&format!("/v1/events/{event}"))?;
        let found = event["deliveries"].as_array().into_iter().flatten().find(|d| d["subscription"] == subscription);
        found.cloned().with_context(|| format!("{subscription} is not owed {event}"))
    }

    pub(super) fn settled(&self, event: &str) -> Result<Value> {
        until("a settled delivery", PATIENCE, || Ok(Some(self.delivery(event)?).filter(|d| d["state"] != "pending")))
    }

    /// Waits until the delivery is in this state.
    pub(super) fn becomes(&self, event: &str, state: &str) -> Result<Value> {
        until(state, PATIENCE, || Ok(Some(self.delivery(event)?).filter(|d| d["state"] == state)))
            .with_context(|| format!("{:?}", self.delivery(event)))
    }

    /// Waits until the delivery has had so many attempts.
    pub(super) fn tried(&self, event: &str, times: u64) -> Result<Value> {
        let enough = |d: &Value| d["attempt_count"].as_u64().is_some_and(|n| n >= times);
        until("attempts", PATIENCE, || Ok(Some(self.delivery(event)?).filter(enough)))
    }

    pub(super) fn arrivals(&self) -> Vec<Arrival> {
        self.arrivals_of(&self.name)
    }

    pub(super) fn arrivals_of(&self, path: &str) -> Vec<Arrival> {
        held(&self.arrivals).get(path).cloned().unwrap_or_default()
    }

    /// Waits until at least so many requests have arrived.
    pub(super) fn arrived(&self, at_least: usize) -> Result<Vec<Arrival>> {
        until(&format!("{at_least} arrivals"), PATIENCE, || {
            Ok(Some(self.arrivals()).filter(|all| all.len() >= at_least))
        })
    }

    /// Waits for the first request.
    pub(super) fn first(&self) -> Result<Arrival> {
        self.arrived(1)?.into_iter().next().context("an arrival")
    }

    /// The subscription as the API shows it.
    pub(super) fn shown(&self) -> Result<Value> {
        self.client().get(&format!("/v1/subscriptions/{}", self.name))
    }

    /// Waits until the subscription is shown so.
    pub(super) fn shows(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
        until(what, PATIENCE, || Ok(Some(self.shown()?).filter(|shown| is_so(shown))))
            .with_context(|| format!("{:?}", self.shown()))
    }

    /// `pause`, `resume`, `test` …
    pub(super) fn ask(&self, what: &str) -> Result<Answer> {
        self.client().post(&format!("/v1/subscriptions/{}/{what}", self.name), &json!({}))
    }

    /// As [`Case::ask`], where it must be granted.
    pub(super) fn granted(&self, what: &str) -> Result<Value> {
        let answer = self.ask(what)?;
        ensure!(answer.status == 200, "{what}: {} {}", answer.status, String::from_utf8_lossy(&answer.body));
        answer.json()
    }

    pub(super) fn keep(&self, what: impl Into<Value>) {
        *held(&self.kept) = what.into();
    }

    pub(super) fn kept(&self) -> String {
        held(&self.kept).as_str().unwrap_or_default().to_owned()
    }
}

/// The receivers over TLS, who vouches for them, and who asks.
pub(super) struct World {
    trusted: Authority,
    secure: BTreeMap<Over, SecureReceiver>,
    token: Option<&'static str>,
}

impl World {
    fn make(handler: impl Fn(&Request) -> Reply + Send + Sync + Clone + 'static) -> Result<Self> {
        let (trusted, unknown) = (Authority::new()?, Authority::named("Nobody knows it")?);
        let here = &["127.0.0.1"];
        let identity = |over: Over| -> Result<Identity> {
            match over {
                Over::Expired => trusted.certify_expired(here),
                Over::SelfSigned => Identity::self_signed(here),
                Over::WrongHost => trusted.certify(&["elsewhere.example.com"]),
                Over::UnknownAuthority => unknown.certify(here),
                Over::Plain | Over::Http2 | Over::Http1 => trusted.certify(here),
            }
        };
        let mut secure = BTreeMap::new();
        for over in SECURE {
            let both: &[&str] = if over == Over::Http1 { &["http/1.1"] } else { &["h2", "http/1.1"] };
            secure.insert(over, SecureReceiver::start(identity(over)?.server(both)?, handler.clone())?);
        }
        Ok(Self { trusted, secure, token: None })
    }

    /// A receiver over TLS.
    pub(super) fn secure(&self, over: Over) -> Result<&SecureReceiver> {
        self.secure.get(&over).context("a receiver over TLS")
    }

    fn url(&self, over: Over, plain: &Receiver, path: &str) -> String {
        self.secure.get(&over).map_or_else(|| plain.url(path), |secure| secure.url("127.0.0.1", path))
    }
}

/// Answers a refusal unless the two are equal.
pub(super) fn same<T: PartialEq + std::fmt::Debug>(found: T, wanted: T) -> Result<()> {
    ensure!(found == wanted, "{found:?} instead of {wanted:?}");
    Ok(())
}

/// The config of a group: quick retries, and whatever else the group wants.
fn config(rows: &[Row], receiver: &Receiver, world: &World, base: Config) -> Config {
    let hook = |over: Over, name: &str, events: &str| {
        let url = world.url(over, receiver, &format!("/{name}"));
        Subscription::webhook(name, &url).set("events", vec![format!("promise:{events}")])
    };
    rows.iter().enumerate().fold(base, |config, (at, row)| {
        let name = format!("r{at}");
        let config = config.subscribe((row.given)(hook(row.over, &name, &name)));
        match row.beside {
            Some(beside) => config.subscribe(beside(hook(Over::Plain, &format!("{name}-b"), &name))),
            None => config,
        }
    })
}

/// Plays every row of a group at once, on one daemon; fails with the name of each that does not hold.
pub(super) fn play(rows: &'static [Row], base: Config) -> Result<()> {
    play_as(rows, base, None)
}

/// As [`play`], where the config has tokens: rows ask with this one.
pub(super) fn play_as(rows: &'static [Row], base: Config, token: Option<&'static str>) -> Result<()> {
    let folder = folder()?;
    let arrivals = Arrivals::default();
    let noted = Arc::clone(&arrivals);
    let handler = move |request: &Request| {
        let path = request.path.trim_start_matches('/').to_owned();
        // What a row makes by the API is answered as its own.
        let own = path.strip_suffix("-api").unwrap_or(&path);
        let at = own.strip_prefix('r').and_then(|n| n.parse::<usize>().ok());
        let count = {
            let mut noted = held(&noted);
            let all = noted.entry(path).or_default();
            all.push(Arrival { at: Instant::now(), request: request.clone() });
            all.len() as u64
        };
        at.and_then(|at| rows.get(at)).map_or(Reply::Status(204), |row| (row.answers)(request, count))
    };
    let world = World { token, ..World::make(handler.clone())? };
    let receiver = Receiver::start(handler)?;
    let trusted = folder.path().join("trusted.pem");
    std::fs::write(&trusted, world.trusted.pem())?;
    let config = config(rows, &receiver, &world, base);
    let trusted = trusted.to_str().context("a path")?;
    let mut daemon = Daemon::new(&folder.path().join("home"), config)?.with_env("SSL_CERT_FILE", trusted);
    daemon.start()?;
    let kept: Vec<_> = rows.iter().map(|_| Mutex::default()).collect();
    let mut faults = each(rows, &daemon, &receiver, &world, &arrivals, &kept, |row| Some(row.holds));
    if rows.iter().any(|row| row.after.is_some()) {
        daemon.kill9()?;
        daemon.start()?;
        faults.extend(each(rows, &daemon, &receiver, &world, &arrivals, &kept, |row| row.after));
    }
    ensure!(faults.is_empty(), "{} of {} rows do not hold:\n{}", faults.len(), rows.len(), faults.join("\n"));
    Ok(())
}

type Judge = fn(&Case<'_>) -> Result<()>;

/// Runs one half of every row that has it, each on a thread; answers what failed.
fn each(
    rows: &'static [Row],
    daemon: &Daemon,
    receiver: &Receiver,
    world: &World,
    arrivals: &Arrivals,
    kept: &[Mutex<Value>],
    half: fn(&Row) -> Option<Judge>,
) -> Vec<String> {
    std::thread::scope(|scope| {
        let running: Vec<_> = rows
            .iter()
            .enumerate()
            .filter_map(|(at, row)| Some((at, row, half(row)?)))
            .map(|(at, row, judge)| {
                let arrivals = Arc::clone(arrivals);
                let judged = scope.spawn(move || {
                    let kept_before = kept.get(at).map(|k| held(k).clone()).unwrap_or_default();
                    let case =
                        Case { name: format!("r{at}"), daemon, receiver, world, arrivals, kept: kept_before.into() };
                    let verdict = judge(&case);
                    if let Some(kept) = kept.get(at) {
                        *held(kept) = held(&case.kept).clone();
                    }
                    verdict
                });
                (row.name, judged)
            })
            .collect();
        running
            .into_iter()
            .filter_map(|(name, judged)| match judged.join() {
                Ok(Ok(())) => None,
                Ok(Err(why)) => Some(format!("- {name}: {why:#}")),
                Err(_) => Some(format!("- {name}: it panicked")),
            })
            .collect()
    })
}

/// The other secret of a rotation.
pub(super) const OTHER: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
