//! Measures what an attempt costs: webhooks to a receiver on loopback, which runs in a thread of its own.
//!
//! `cargo run --release -p posthaste-deliverees --example attempts -- [attempts] [at once] [url] [file with an authority] [secrets]`;
//! prints attempts a second and the CPU time of the sending thread for one, what the guard takes to judge an address, and what a
//! signature takes. With a URL that receiver is taken, over TLS if it is https; each secret more is a signature more.

#![expect(
    clippy::disallowed_methods,
    reason = "a program of its own: its clocks and threads are what it measures with"
)]

use posthaste_deliverees::webhook::sign::Secret;
use posthaste_deliverees::{Guard, Http, Kinds, Tools};
use posthaste_events::seams::Clock;
use posthaste_events::{
    AnyDeliveree, Batch, Delivery, DeliveryId, EventId, EventType, Facts, Installation, Notification, Origin, Outcome,
    Payload as _, Payloads, Report, Reporter, SubscriptionId, Ticket, Timestamp, Told,
};
use std::error::Error;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What is signed with.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

struct WallClock;

impl Clock for WallClock {
    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }

    fn wall(&self) -> Timestamp {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_micros(i64::try_from(now.as_micros()).unwrap_or(0))
    }
}

/// Answers whatever comes; requests are small enough to come in one piece.
fn answer(mut stream: TcpStream) {
    let mut buffer = [0; 8 * 1024];
    while stream.read(&mut buffer).is_ok_and(|read| read > 0) {
        if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").is_err() {
            return;
        }
    }
}

fn thread_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(stat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0))
}

async fn attempts(to: &AnyDeliveree, delivery: Delivery<Notification>, count: u64, arrived: Arc<AtomicU64>) {
    let AnyDeliveree::Notification(to) = to else { return };
    for _ in 0..count {
        let arrived = Arc::clone(&arrived);
        let report = Reporter::new(move |report| {
            if matches!(report, Report::Outcome(_, Outcome::Delivered(_))) {
                arrived.fetch_add(1, Ordering::Relaxed);
            }
        });
        to.deliver(Batch { deliveries: vec![delivery.clone()], deadline: to.timeout() }, report).await;
    }
}

/// Nanoseconds that the guard takes to judge an address that it lets through.
fn judging(guard: &Guard) -> Result<f64, Box<dyn Error>> {
    const TIMES: u32 = 1_000_000;
    let addresses: Vec<std::net::IpAddr> = vec!["8.8.8.8".parse()?, "2a00:1450::1".parse()?, "127.0.0.1".parse()?];
    let began = Instant::now();
    let through = (0..TIMES as usize).filter(|n| guard.check(std::hint::black_box(addresses[n % 3])).is_ok()).count();
    let took = began.elapsed();
    if through != TIMES as usize {
        return Err("an address was refused".into());
    }
    Ok(took.as_secs_f64() * 1e9 / f64::from(TIMES))
}

/// Nanoseconds that a signature of a body of so many bytes takes.
fn signing(secret: &Secret, bytes: usize) -> Result<f64, Box<dyn Error>> {
    let times = u32::try_from(200_000_000 / (bytes + 1_000))?;
    let body = vec![b'x'; bytes];
    let began = Instant::now();
    let signed = (0..times).filter(|_| secret.v1("msg_1", "1900000000", std::hint::black_box(&body)).is_some()).count();
    let took = began.elapsed();
    if signed != times as usize {
        return Err("there was no signature".into());
    }
    Ok(took.as_secs_f64() * 1e9 / f64::from(times))
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut given = std::env::args().skip(1);
    let count = given.next().map(|text| text.parse::<u64>()).transpose()?.unwrap_or(200_000);
    let at_once = given.next().map(|text| text.parse::<u64>()).transpose()?.unwrap_or(64).max(1);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });

    let guard = Guard::allowing(vec!["127.0.0.0/8".parse()?]);
    let url = given.next().unwrap_or_else(|| format!("http://{address}/hooks"));
    let authority = given.next().map(std::fs::read_to_string).transpose()?;
    let secrets = given.next().map(|text| text.parse::<usize>()).transpose()?.unwrap_or(1);
    let mut options = serde_json::json!({ "url": url, "secrets": vec![SECRET; secrets] });
    if let Some(authority) = authority {
        options["ca"] = authority.into();
    }
    let judging = judging(&guard)?;
    let secret = Secret::parse(SECRET)?;
    let (short, long) = (signing(&secret, 300)?, signing(&secret, 20 * 1024)?);
    let kinds = Kinds::built_in();
    let kind = kinds.get("webhook").ok_or("no such kind")?;
    let options = options.as_object().ok_or("not an object")?;
    let parsed = (kind.parse)(options, &guard).map_err(|problems| format!("{problems:?}"))?;
    let tools = Tools {
        http: Http::new(guard),
        clock: Arc::new(WallClock),
        print: Arc::new(|_| Box::pin(std::future::ready(Ok(())))),
        subscription: Arc::from("ops"),
    };
    let webhook = parsed.make(tools)();
    let body =
        format!(r#"{{"type":"a:b","timestamp":"2026-01-31T12:00:00.000Z","data":{{"x":"{}"}}}}"#, "x".repeat(230));
    let facts = Facts {
        event_type: EventType::parse("a:b")?,
        key: None,
        tenant: None,
        origin: Origin::Record,
        occurred_at: None,
        recorded_at: Timestamp::from_millis(0),
    };
    let id = DeliveryId { event: EventId::new(1, 1, 1), subscription: SubscriptionId(1) };
    let told = Told { id, facts: Arc::new(facts) };
    let payloads = Payloads::restored(Some(body.into()), None);
    let (payload, about) = Notification::of(&payloads, told, &Installation::new(&[7; 32])).ok_or("no payload")?;
    let delivery = Delivery { ticket: Ticket(0), attempt: 1, about, payload };

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let arrived = Arc::new(AtomicU64::new(0));
    let (began, cpu) = (Instant::now(), thread_cpu());
    runtime.block_on(async {
        let webhook = Arc::new(webhook);
        let all = (0..at_once).map(|_| {
            let (webhook, delivery, arrived) = (Arc::clone(&webhook), delivery.clone(), Arc::clone(&arrived));
            tokio::spawn(async move { attempts(&webhook, delivery, count / at_once, arrived).await })
        });
        futures_util::future::join_all(all).await;
    });
    let (took, cpu, arrived) = (began.elapsed(), thread_cpu() - cpu, arrived.load(Ordering::Relaxed));
    let each = cpu.as_secs_f64() * 1e6 / arrived.max(1) as f64;
    let line =
        format!("{arrived} delivered, {:.0} a second, {each:.1} µs of CPU each\n", arrived as f64 / took.as_secs_f64());
    let line = format!(
        "{line}the guard takes {judging:.0} ns an address\na signature takes {short:.0} ns of 300 bytes, {long:.0} ns of 20 KiB\n"
    );
    std::io::stdout().write_all(line.as_bytes())?;
    Ok(())
}
