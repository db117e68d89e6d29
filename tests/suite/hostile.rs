//! R12: receivers that answer with malice.

use crate::folder;
use anyhow::{Context, Result, ensure};
use posthaste_tests::{Client, Config, Count, Daemon, Receiver, Reply, Subscription, process, until};
use rustix::net::sockopt::set_socket_linger;
use serde_json::{Value, json};
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What a delivery to a hostile receiver ends as.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    /// A failed attempt.
    Dead,
    /// A 2xx that counts all the same.
    Delivered,
    /// Either is sound; it must only end.
    Either,
}
use End::{Dead, Delivered, Either};

/// How one receiver misbehaves once it has read the request.
struct Kind {
    name: &'static str,
    end: End,
    answer: fn(&mut TcpStream),
}

/// Longest that a hostile answer goes on by itself.
const STAMINA: Duration = Duration::from_secs(30);
/// The subscription's `timeout`.
const TIMEOUT: Duration = Duration::from_secs(1);
/// By how much memory may grow while all of it happens.
const GROWTH_MAX: u64 = 8 * 1024 * 1024;

fn say(stream: &mut TcpStream, text: &str) {
    drop(stream.write_all(text.as_bytes()));
}

/// Writes the same again and again, until the other side has had enough.
fn forever(stream: &mut TcpStream, text: &str, pause: Duration) {
    let end = Instant::now() + STAMINA;
    while Instant::now() < end && stream.write_all(text.as_bytes()).is_ok() {
        sleep(pause);
    }
}

/// Without time to linger, the end of a connection is a reset.
fn reset_on_close(stream: &mut TcpStream) {
    // Where it can not be set the connection just ends, which is another of these kinds.
    let _unset = set_socket_linger(stream, Some(Duration::ZERO));
}

const AT_ONCE: Duration = Duration::ZERO;
const SLOWLY: Duration = Duration::from_millis(150);
const OK_CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

fn kinds() -> Vec<Kind> {
    let kind = |name, end, answer| Kind { name, end, answer };
    let page: fn(&mut TcpStream) = |s| forever(s, &"x".repeat(4096), AT_ONCE);
    vec![
        kind("endless-headers", Dead, |s| {
            say(s, "HTTP/1.1 200 OK\r\n");
            forever(s, &format!("x-more: {}\r\n", "x".repeat(1000)), AT_ONCE);
        }),
        kind("endless-header-line", Dead, |s| {
            say(s, "HTTP/1.1 200 OK\r\nx-more: ");
            forever(s, &"x".repeat(4096), AT_ONCE);
        }),
        kind("endless-status-line", Dead, |s| {
            say(s, "HTTP/1.1 200 ");
            forever(s, &"x".repeat(4096), AT_ONCE);
        }),
        kind("endless-body", Delivered, |s| {
            say(s, "HTTP/1.1 200 OK\r\n\r\n");
            forever(s, &"x".repeat(4096), AT_ONCE);
        }),
        kind("endless-chunks", Delivered, |s| {
            say(s, OK_CHUNKED);
            forever(s, &format!("1000\r\n{}\r\n", "x".repeat(4096)), AT_ONCE);
        }),
        kind("endless-failure", Dead, |s| {
            say(s, "HTTP/1.1 500 No\r\n\r\n");
            forever(s, &"x".repeat(4096), AT_ONCE);
        }),
        kind("endless-chunk-extension", Dead, |s| {
            say(s, &format!("{OK_CHUNKED}5;"));
            forever(s, &"x".repeat(4096), AT_ONCE);
        }),
        kind("endless-trailers", Dead, |s| {
            say(s, &format!("{OK_CHUNKED}0\r\n"));
            forever(s, &format!("x-more: {}\r\n", "x".repeat(1000)), AT_ONCE);
        }),
        kind("endless-noise", Dead, page),
        kind("a-head-byte-by-byte", Dead, |s| forever(s, "H", SLOWLY)),
        kind("a-header-line-at-a-time", Dead, |s| {
            say(s, "HTTP/1.1 200 OK\r\n");
            forever(s, "x-slow: 1\r\n", SLOWLY);
        }),
        kind("a-body-byte-by-byte", Dead, |s| {
            say(s, "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n");
            forever(s, "x", SLOWLY);
        }),
        kind("silence", Dead, |_| sleep(STAMINA / 5)),
        kind("hints-forever", Dead, |s| forever(s, "HTTP/1.1 103 Early Hints\r\n\r\n", AT_ONCE)),
        kind("hints-slowly", Dead, |s| forever(s, "HTTP/1.1 100 Continue\r\n\r\n", SLOWLY)),
        kind("a-bad-chunk-size", Dead, |s| say(s, &format!("{OK_CHUNKED}zz\r\nhello\r\n0\r\n\r\n"))),
        kind("a-huge-chunk-size", Dead, |s| say(s, &format!("{OK_CHUNKED}{}\r\nhello", "f".repeat(40)))),
        kind("a-chunk-cut-off", Dead, |s| say(s, &format!("{OK_CHUNKED}5\r\nhe"))),
        kind("a-reset", Dead, reset_on_close),
        kind("a-reset-in-the-body", Dead, |s| {
            say(s, "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nhello");
            sleep(Duration::from_millis(50));
            reset_on_close(s);
        }),
        kind("a-half-close", Dead, |s| {
            drop(s.shutdown(Shutdown::Write));
            sleep(STAMINA / 5);
        }),
        kind("an-end-without-a-word", Dead, |_| {}),
        kind("a-header-not-in-ascii", Either, |s| {
            drop(s.write_all(b"HTTP/1.1 200 OK\r\nx-name: Bj\xf6rn \xff\xfe\r\ncontent-length: 0\r\n\r\n"));
        }),
        kind("a-header-name-not-in-ascii", Dead, |s| {
            drop(s.write_all(b"HTTP/1.1 200 OK\r\nx-n\xe4me: x\r\ncontent-length: 0\r\n\r\n"));
        }),
        kind("ten-thousand-headers", Dead, |s| {
            say(s, &format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", "x-more: 1\r\n".repeat(10_000)));
        }),
        kind("a-redirect-to-itself", Dead, |s| {
            say(s, "HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n");
        }),
        kind("a-redirect-that-keeps-the-method", Dead, |s| {
            say(s, "HTTP/1.1 307 Go\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n");
        }),
        kind("a-retry-after-of-ages", Dead, |s| {
            say(s, "HTTP/1.1 503 No\r\nretry-after: 99999999999999999999999\r\ncontent-length: 0\r\n\r\n");
        }),
        kind("a-retry-after-that-is-none", Dead, |s| {
            say(s, "HTTP/1.1 429 No\r\nretry-after: Thu, 99 Foo 99999 -1:-1:-1 GMT\r\ncontent-length: 0\r\n\r\n");
        }),
        kind("no-http", Dead, |s| say(s, "SSH-2.0-OpenSSH_9.2\r\n\r\n")),
        kind("a-status-that-is-no-number", Dead, |s| say(s, "HTTP/1.1 2OO OK\r\ncontent-length: 0\r\n\r\n")),
        kind("a-body-shorter-than-said", Dead, |s| {
            say(s, "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nhello");
        }),
        kind("two-lengths", Dead, |s| {
            say(s, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!");
        }),
        kind("a-negative-length", Dead, |s| say(s, "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\nhello")),
        kind("a-length-past-every-number", Dead, |s| {
            say(s, &format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\nhello", "9".repeat(40)));
        }),
        kind("another-protocol", Dead, |s| {
            say(s, "HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n");
            forever(s, "noise", AT_ONCE);
        }),
        kind("frames-of-http-2", Dead, |s| drop(s.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0]))),
        kind("a-gzip-bomb", Delivered, |s| {
            let bomb = gzip_bomb();
            say(s, &format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", bomb.len()));
            drop(s.write_all(&bomb));
            sleep(SLOWLY);
        }),
    ]
}

/// About 9 MiB of zeros in 60 kB of gzip: one literal, then matches of length 258 at distance 1, in the fixed code.
fn gzip_bomb() -> Vec<u8> {
    let mut bits: Vec<bool> = vec![true, true, false];
    // The literal 0 is 00110000; Huffman codes go from the highest bit down.
    bits.extend("00110000".chars().map(|c| c == '1'));
    for _ in 0..37_000 {
        bits.extend("1100010100000".chars().map(|c| c == '1'));
    }
    bits.extend([false; 7]);
    let packed = bits.chunks(8).map(|byte| byte.iter().enumerate().fold(0, |b, (at, on)| b | (u8::from(*on) << at)));
    [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3].into_iter().chain(packed).collect()
}

/// What holds its subscription back for a day, as it may: it answers once, and then gets nothing more.
const ONCE: &str = "a-retry-after-of-ages";

/// Sends one event of each kind and waits until none is pending; answers the deliveries by kind.
fn round(client: &mut Client, tame: bool, with_once: bool) -> Result<Vec<(Kind, Value)>> {
    let mut sent = Vec::new();
    for kind in kinds().into_iter().filter(|kind| with_once || kind.name != ONCE) {
        let event = json!({ "type": format!("hostile:{}", kind.name), "properties": { "tame": tame } });
        let answer = client.post("/v1/events", &event)?;
        ensure!(answer.status == 202, "{}: {}", kind.name, answer.status);
        sent.push((kind, answer.json()?["id"].as_str().context("an id")?.to_owned()));
    }
    let mut ended = Vec::new();
    for (kind, id) in sent {
        let delivery = until(&format!("the end of {}", kind.name), Duration::from_secs(15), || {
            let event = client.get(&format!("/v1/events/{id}"))?;
            let delivery = event["deliveries"][0].clone();
            Ok((delivery["state"] != "pending").then_some(delivery))
        })?;
        ended.push((kind, delivery));
    }
    Ok(ended)
}

fn subscriptions(receiver: &Receiver, timeout: &str) -> Config {
    let base = Config::default().set("retry", "attempts", 1);
    kinds().iter().fold(base, |config, kind| {
        let webhook = Subscription::webhook(kind.name, &receiver.url(&format!("/{}", kind.name)))
            .set("events", vec![format!("hostile:{}", kind.name)])
            .set("timeout", timeout);
        config.subscribe(webhook)
    })
}

/// A receiver that behaves for tame events and else as its path says; and how often a redirect was followed.
fn hostile_receiver() -> Result<(Receiver, Count)> {
    let followed = Count::default();
    let elsewhere = followed.clone();
    let receiver = Receiver::start(move |request| {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        if request.path == "/elsewhere" {
            elsewhere.add(1);
        }
        if body["data"]["tame"] == true {
            return Reply::Status(200);
        }
        match kinds().into_iter().find(|kind| request.path == format!("/{}", kind.name)) {
            Some(kind) => Reply::Raw(Box::new(move |stream| (kind.answer)(stream))),
            None => Reply::Status(200),
        }
    })?;
    Ok((receiver, followed))
}

/// What an attempt at a hostile receiver must look like; `None` where it does.
fn fault(kind: &Kind, delivery: &Value) -> Option<String> {
    let state = delivery["state"].as_str().unwrap_or_default();
    let right = match kind.end {
        Dead => state == "dead",
        Delivered => state == "delivered",
        Either => state == "dead" || state == "delivered",
    };
    let attempt = &delivery["attempts"][0];
    let duration = attempt["duration_ms"].as_f64().unwrap_or(f64::MAX);
    let in_time = duration <= (TIMEOUT + Duration::from_secs(1)).as_millis() as f64;
    let kept = attempt["answer"].as_str().unwrap_or_default().len();
    // What is not UTF-8 may be shown as up to three bytes each.
    let bounded = kept <= 3 * 2048;
    (!right || !in_time || !bounded).then(|| format!("{}: {delivery}", kind.name))
}

#[test]
fn every_hostile_answer_ends_in_time_and_costs_no_memory() -> Result<()> {
    let folder = folder()?;
    let (receiver, followed) = hostile_receiver()?;
    let mut daemon = Daemon::new(folder.path(), subscriptions(&receiver, "1s"))?;
    daemon.start()?;
    let mut client = daemon.client();
    // A tame round first, so that what a subscription costs by itself is not taken for growth.
    for (kind, delivery) in round(&mut client, true, true)? {
        ensure!(delivery["state"] == "delivered", "{} when tame: {delivery}", kind.name);
    }
    let pid = daemon.pid()?;
    process::forget_peak(pid)?;
    let before = daemon.rss()?;
    let mut faults = Vec::new();
    for turn in 0..3 {
        faults
            .extend(round(&mut client, false, turn == 0)?.iter().filter_map(|(kind, delivery)| fault(kind, delivery)));
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    ensure!(followed.get() == 0, "a redirect was followed");
    let growth = process::peak(pid)?.saturating_sub(before);
    ensure!(growth <= GROWTH_MAX, "memory grew by {growth} bytes");
    // It still serves: nothing of this ended a part of it.
    for (kind, delivery) in round(&mut client, true, false)? {
        ensure!(delivery["state"] == "delivered", "{} afterwards: {delivery}", kind.name);
    }
    Ok(())
}

#[test]
fn control_an_attempt_without_its_bound_is_seen_to_take_too_long() -> Result<()> {
    let folder = folder()?;
    let (receiver, _) = hostile_receiver()?;
    // The bound that the test looks at is a second; here nothing ends an attempt for five.
    let mut daemon = Daemon::new(folder.path(), subscriptions(&receiver, "5s"))?;
    daemon.start()?;
    let ended = round(&mut daemon.client(), false, true)?;
    let late: Vec<&str> = ended.iter().filter(|(k, d)| fault(k, d).is_some()).map(|(k, _)| k.name).collect();
    ensure!(late.contains(&"silence") && late.contains(&"a-body-byte-by-byte"), "the test can not see delay: {late:?}");
    Ok(())
}

#[test]
fn control_memory_that_is_kept_is_seen_to_grow() -> Result<()> {
    let folder = folder()?;
    let mut daemon = Daemon::new(folder.path(), Config::default().set("daemon", "body_max", "64MiB"))?;
    daemon.start()?;
    let pid = daemon.pid()?;
    process::forget_peak(pid)?;
    let before = daemon.rss()?;
    // Read whole, since it may be a good event; refused, since its payload is too long.
    let body = json!({ "type": "load:posted", "properties": { "padding": "x".repeat(32 * 1024 * 1024) } });
    let answer = daemon.client().post("/v1/events", &body)?;
    ensure!(answer.status == 413, "{}", answer.status);
    let growth = process::peak(pid)?.saturating_sub(before);
    ensure!(growth > GROWTH_MAX, "the test can not see memory: it grew by {growth} bytes");
    Ok(())
}
