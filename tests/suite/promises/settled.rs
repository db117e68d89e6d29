//! What counts as delivered, and what an answer does to its delivery and its subscription.

use super::stage::{Case, Row, play, row, same};
use anyhow::{Context, Result, ensure};
use posthaste_tests::{Config, Reply, Wire, daemon, until};
use serde_json::{Value, json};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What ends by itself well within a test, and long after what it must not delay.
const STALL: Duration = Duration::from_secs(4);

fn say(stream: &mut dyn Wire, text: &str) {
    drop(stream.write_all(text.as_bytes()));
}

/// A first answer that asks to wait; then all is well.
fn wait_first(n: u64, status: u16, wait: &str) -> Reply {
    let headers = vec![("retry-after", wait.to_owned())];
    if n == 1 { Reply::Full(status, headers, Vec::new()) } else { Reply::Status(200) }
}

/// Sends one event that is answered with a wait of two seconds, then a second; tells when the second arrived after it.
fn second_after_the_first(case: &Case<'_>) -> Result<Duration> {
    case.send(json!({}))?;
    let first = case.first()?.at;
    // What the answer does is done once its attempt is noted.
    sleep(Duration::from_millis(200));
    let second = case.send(json!({}))?;
    case.becomes(&second, "delivered")?;
    let all = case.arrivals();
    let arrived = all.iter().find(|a| a.header("webhook-id") == second).context("the second")?;
    Ok(arrived.at - first)
}

fn held_back(case: &Case<'_>) -> Result<()> {
    let waited = second_after_the_first(case)?;
    ensure!(waited >= Duration::from_millis(1900), "another event of it was sent after {waited:?}");
    Ok(())
}

fn delays_nothing_else(case: &Case<'_>) -> Result<()> {
    let waited = second_after_the_first(case)?;
    ensure!(waited < Duration::from_millis(1900), "another event of it waited {waited:?}");
    Ok(())
}

/// Every redirect fails, and nobody asks where it leads.
fn redirect(status: u16) -> Reply {
    Reply::Full(status, vec![("location", "/r-elsewhere".to_owned())], Vec::new())
}

fn dead_by_redirect(case: &Case<'_>) -> Result<()> {
    same(case.outcome()?["state"].clone(), json!("dead"))?;
    ensure!(case.arrivals_of("r-elsewhere").is_empty(), "it was followed");
    Ok(())
}

/// A time as seconds since 1970.
pub(super) fn seconds(value: &Value) -> Result<i64> {
    let text = value.as_str().with_context(|| format!("{value} is no time"))?;
    Ok(date(&[text, "+%s"])?.parse()?)
}

/// A moment in a form, as the machine's `date` writes it.
fn date(moment_and_form: &[&str]) -> Result<String> {
    let mut command = Command::new("date");
    // In English, whatever the machine speaks.
    let done = command.env("LC_ALL", "C").args(["-u", "-d"]).args(moment_and_form).output()?;
    Ok(String::from_utf8(done.stdout)?.trim().to_owned())
}

fn now() -> Result<i64> {
    Ok(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?)
}

pub(super) const ROWS: &[Row] = &[
    row(
        "given a receiver, when it answers 200, 201, 202, 204 and 299, then each delivery is delivered at once",
        |hook| hook,
        |case| {
            for status in [200, 201, 202, 204, 299] {
                let id = case.send(json!({ "status": status }))?;
                let delivery = case.becomes(&id, "delivered")?;
                same((delivery["attempt_count"].clone(), delivery["attempts"][0]["status"].clone()), (json!(1), json!(status)))?;
            }
            Ok(())
        },
    )
    .answering(|request, _| {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        Reply::Status(body["data"]["status"].as_u64().and_then(|s| s.try_into().ok()).unwrap_or(500))
    }),
    row(
        "given a receiver, when it answers 301, then it failed and nobody asks there",
        |hook| hook.set("retry", json!({ "attempts": 2 })),
        dead_by_redirect,
    )
    .answering(|_, _| redirect(301)),
    row(
        "given a receiver, when it answers 302, then it failed and nobody asks there",
        |hook| hook.set("retry", json!({ "attempts": 2 })),
        dead_by_redirect,
    )
    .answering(|_, _| redirect(302)),
    row(
        "given a receiver, when it answers 307 or 308, then it failed and nobody asks there",
        |hook| hook.set("retry", json!({ "attempts": 2 })),
        dead_by_redirect,
    )
    .answering(|_, n| redirect(if n == 1 { 307 } else { 308 })),
    row(
        "given a receiver, when it answers 400, 401, 404 and 422 first, then each is tried again until it takes it",
        |hook| hook,
        |case| {
            let id = case.send(json!({}))?;
            let delivery = case.becomes(&id, "delivered")?;
            let statuses: Vec<_> = delivery["attempts"].as_array().into_iter().flatten().map(|a| a["status"].clone()).collect();
            same(json!(statuses), json!([400, 401, 404, 422, 200]))
        },
    )
    .answering(|_, n| Reply::Status([400, 401, 404, 422].get(n as usize - 1).copied().unwrap_or(200))),
    row(
        "given give_up_on with 422, when it is answered, then the delivery is dead at once with that reason",
        |hook| hook.set("give_up_on", json!([422])),
        |case| {
            let delivery = case.outcome()?;
            same((delivery["state"].clone(), delivery["attempt_count"].clone()), (json!("dead"), json!(1)))?;
            ensure!(delivery["reason"].as_str().is_some_and(|r| r.starts_with("rejected") && r.contains("422")), "{delivery}");
            same(delivery["attempts"][0]["outcome"].clone(), json!("rejected"))
        },
    )
    .answering(|_, _| Reply::Status(422)),
    row(
        "given a receiver with retries waiting, when it answers 410, then it is disabled, all is held, and resume sends it",
        |hook| hook.set("retry", json!({ "initial": "1s", "max": "1s" })),
        |case| {
            // Three wait for their second attempt when the fourth is told that nobody is there.
            let mut ids = Vec::new();
            for n in 0..4 {
                ids.push(case.send(json!({ "gone": n == 3 }))?);
            }
            let shown = case.shows("disabled", |s| s["state"] == "disabled")?;
            ensure!(shown["reason"].as_str().is_some_and(|r| r.contains("410")), "{shown}");
            for id in &ids {
                case.becomes(id, "held")?;
            }
            let before = case.arrivals().len();
            case.keep("resumed");
            case.granted("resume")?;
            for id in &ids {
                case.becomes(id, "delivered")?;
            }
            ensure!(case.arrivals().len() == before + 4, "{} arrivals", case.arrivals().len());
            Ok(())
        },
    )
    .answering(|request, n| {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        match n {
            1..=4 if body["data"]["gone"] == true => {
                // The others have failed by then, and are not yet due again.
                sleep(Duration::from_millis(50));
                Reply::Status(410)
            }
            1..=4 => Reply::Status(500),
            _ => Reply::Status(200),
        }
    }),
    row(
        "given a 429 with Retry-After, when another event comes, then the whole subscription waits that long",
        |hook| hook,
        held_back,
    )
    .answering(|_, n| wait_first(n, 429, "2")),
    row(
        "given a 502 with Retry-After, when another event comes, then the whole subscription waits that long",
        |hook| hook,
        held_back,
    )
    .answering(|_, n| wait_first(n, 502, "2")),
    row(
        "given a 503 with Retry-After as a date, when another event comes, then the whole subscription waits until then",
        |hook| hook,
        |case| {
            let waited = second_after_the_first(case)?;
            ensure!(waited >= Duration::from_millis(1400), "{waited:?}");
            Ok(())
        },
    )
    .answering(|_, n| {
        wait_first(n, 503, &date(&["+3 seconds", "+%a, %d %b %Y %H:%M:%S GMT"]).unwrap_or_default())
    }),
    row(
        "given a 504 with Retry-After, when another event comes, then the whole subscription waits that long",
        |hook| hook,
        held_back,
    )
    .answering(|_, n| wait_first(n, 504, "2")),
    row(
        "given a 500 with Retry-After, when another event comes, then only that delivery waits",
        |hook| hook,
        delays_nothing_else,
    )
    .answering(|_, n| wait_first(n, 500, "2")),
    row(
        "given a 429 without Retry-After, when another event comes, then it is sent at once",
        |hook| hook.set("retry", json!({ "initial": "2500ms", "max": "3s", "jitter": 0.0 })),
        delays_nothing_else,
    )
    .answering(|_, n| Reply::Status(if n == 1 { 429 } else { 200 })),
    row(
        "given a Retry-After of years, when the subscription is shown, then it waits a day and not longer",
        |hook| hook,
        |case| {
            case.send(json!({}))?;
            let shown = case.shows("held_until", |s| s["held_until"].is_string())?;
            let wait = seconds(&shown["held_until"])? - now()?;
            ensure!((86_000..=86_401).contains(&wait), "{wait} s: {shown}");
            Ok(())
        },
    )
    .answering(|_, n| wait_first(n, 503, "99999999999")),
    row(
        "given a subscription that waits for its receiver, when it is resumed, then what has not asked to wait goes at once",
        |hook| hook,
        |case| {
            case.send(json!({}))?;
            case.shows("held_until", |s| s["held_until"].is_string())?;
            let other = case.send(json!({}))?;
            case.granted("resume")?;
            case.becomes(&other, "delivered")?;
            same(case.shown()?["held_until"].clone(), Value::Null)
        },
    )
    .answering(|_, n| wait_first(n, 429, "3600")),
    row(
        "given a Retry-After that is no number and no date, when it comes, then it is as if it were not there",
        |hook| hook,
        |case| {
            let id = case.send(json!({}))?;
            case.becomes(&id, "delivered")?;
            same(case.shown()?["held_until"].clone(), Value::Null)
        },
    )
    .answering(|_, n| wait_first(n, 429, "Thu, 99 Foo 99999 -1:-1:-1 GMT")),
    row(
        "given a 200 whose body never ends, when 64 KiB were read, then it counts and 2 KiB are kept",
        |hook| hook,
        |case| {
            let begun = Instant::now();
            let delivery = case.outcome()?;
            same(delivery["state"].clone(), json!("delivered"))?;
            same(delivery["attempts"][0]["answer"].as_str().map(str::len), Some(2048))?;
            ensure!(begun.elapsed() < STALL, "{:?}", begun.elapsed());
            Ok(())
        },
    )
    .answering(|_, _| {
        Reply::Raw(Box::new(|stream| {
            say(stream, "HTTP/1.1 200 OK\r\n\r\n");
            // Closed by the other side long before.
            for _ in 0..100_000 {
                if stream.write_all(&[b'x'; 4096]).is_err() {
                    return;
                }
            }
        }))
    }),
    row(
        "given a 200 whose body stalls, when the timeout is over, then the attempt failed and nothing hangs",
        |hook| hook.set("timeout", "400ms").set("retry", json!({ "attempts": 1 })),
        |case| {
            let delivery = case.outcome()?;
            same(delivery["state"].clone(), json!("dead"))?;
            let attempt = &delivery["attempts"][0];
            ensure!(attempt["duration_ms"].as_f64().is_some_and(|ms| (350.0..2000.0).contains(&ms)), "{attempt}");
            ensure!(attempt["error"].as_str().is_some_and(|e| e.starts_with("timeout")), "{attempt}");
            Ok(())
        },
    )
    .answering(|_, _| {
        Reply::Raw(Box::new(|stream| {
            say(stream, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nxx");
            sleep(STALL);
        }))
    }),
    row(
        "given a receiver that never answers, when the timeout is over, then the attempt failed as timeout",
        |hook| hook.set("timeout", "300ms").set("retry", json!({ "attempts": 1 })),
        |case| {
            let delivery = case.outcome()?;
            ensure!(delivery["reason"].as_str().is_some_and(|r| r.contains("timeout")), "{delivery}");
            Ok(())
        },
    )
    .answering(|_, _| Reply::Raw(Box::new(|_| sleep(STALL)))),
    row(
        "given a 200 that breaks off within its body, when it is judged, then the attempt failed",
        |hook| hook,
        |case| {
            let id = case.send(json!({}))?;
            let delivery = case.becomes(&id, "delivered")?;
            same(delivery["attempts"][0]["outcome"].clone(), json!("failed"))?;
            same(delivery["attempt_count"].clone(), json!(2))
        },
    )
    .answering(|_, n| match n {
        1 => Reply::Raw(Box::new(|s| say(s, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhello"))),
        _ => Reply::Status(200),
    }),
    row(
        "given a receiver slower than every retry wait, when it answers in time, then it is asked only once",
        |hook| hook.set("timeout", "10s"),
        |case| {
            let delivery = case.outcome()?;
            same((delivery["state"].clone(), case.arrivals().len()), (json!("delivered"), 1))
        },
    )
    .answering(|_, _| {
        sleep(Duration::from_millis(1500));
        Reply::Status(200)
    }),
    row(
        "given an attempt, when it is looked at, then it says when, how long, what status and what was answered",
        |hook| hook.set("retry", json!({ "attempts": 1 })),
        |case| {
            let attempt = case.outcome()?["attempts"][0].clone();
            same((attempt["number"].clone(), attempt["status"].clone()), (json!(1), json!(503)))?;
            same((attempt["outcome"].clone(), attempt["answer"].clone()), (json!("failed"), json!("we are closed")))?;
            ensure!(attempt["at"].is_string() && attempt["duration_ms"].is_number() && attempt["error"].is_string(), "{attempt}");
            Ok(())
        },
    )
    .answering(|_, _| Reply::Full(503, Vec::new(), b"we are closed".to_vec())),
    row(
        "given a port where nobody listens, when it is dialled, then the attempt says that the connection failed",
        |hook| {
            // A port that was free a moment ago.
            let port = daemon::free_port().unwrap_or(9);
            hook.set("url", format!("http://127.0.0.1:{port}/")).set("retry", json!({ "attempts": 2 }))
        },
        |case| {
            let delivery = case.outcome()?;
            ensure!(delivery["reason"].as_str().is_some_and(|r| r.starts_with("attempts: connect")), "{delivery}");
            same(delivery["attempts"][0]["status"].clone(), Value::Null)
        },
    ),
    row(
        "given a kept connection that the receiver closed, when the next event goes, then it is replaced in the same attempt",
        |hook| hook,
        |case| {
            for _ in 0..3 {
                let id = case.send(json!({}))?;
                same(case.becomes(&id, "delivered")?["attempt_count"].clone(), json!(1))?;
                // Long enough for the end of the connection to be there.
                sleep(Duration::from_millis(50));
            }
            same(case.arrivals().len(), 3)
        },
    )
    .answering(|_, _| {
        // It says that it will keep the connection, and closes it all the same.
        Reply::Raw(Box::new(|s| say(s, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: keep-alive\r\n\r\n")))
    }),
    row(
        "given two subscriptions of one event, when one fails, then only that one is tried again",
        |hook| hook,
        |case| {
            let id = case.send(json!({}))?;
            case.becomes(&id, "delivered")?;
            let beside = format!("{}-b", case.name);
            until("the other", STALL, || Ok((case.delivery_to(&id, &beside)?["state"] == "delivered").then_some(())))?;
            same((case.arrivals().len(), case.arrivals_of(&beside).len()), (3, 1))
        },
    )
    .answering(|_, n| Reply::Status(if n < 3 { 500 } else { 200 }))
    .beside(|hook| hook),
];

#[test]
fn every_promise_of_what_counts_as_delivered_holds() -> Result<()> {
    play(ROWS, Config::default())
}
