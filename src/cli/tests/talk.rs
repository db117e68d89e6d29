//! What the commands ask of a daemon and print of its answers, over a real socket to a server that answers by script.
//! The daemon itself is met in the tests from outside.

use super::*;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::io::Write;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

/// Answers of a route: status and body.
type Answer = (u16, String);
type Script = dyn Fn(&str, usize) -> Answer + Send + Sync;

/// What was asked, as `METHOD /path?query`.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<String>>>);

#[derive(Clone, Default)]
struct Printed(Arc<Mutex<Vec<u8>>>);

impl Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Printed {
    fn lines(&self) -> Vec<String> {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap().lines().map(str::to_owned).collect()
    }
}

/// A server on loopback that answers by `script`, given what is asked and how many requests came before; its URL.
async fn server(script: impl Fn(&str, usize) -> Answer + Send + Sync + 'static) -> (String, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (script, asked): (Arc<Script>, Asked) = (Arc::new(script), Asked::default());
    let seen = asked.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (script, seen) = (Arc::clone(&script), seen.clone());
            let service = service_fn(move |request: Request<Incoming>| {
                let (script, seen) = (Arc::clone(&script), seen.clone());
                async move {
                    let authorized = if request.headers().contains_key("authorization") { " authorized" } else { "" };
                    let key = request.headers().get("idempotency-key").map(|k| format!(" key={}", k.to_str().unwrap()));
                    let key = key.unwrap_or_default();
                    let line = format!("{} {}{authorized}{key}", request.method(), request.uri());
                    let before = {
                        let mut seen = seen.0.lock().unwrap();
                        seen.push(line.clone());
                        seen.len() - 1
                    };
                    let (status, body) = script(&line, before);
                    let response = Response::builder().status(status).body(Full::new(Bytes::from(body)));
                    Ok::<_, std::convert::Infallible>(response.unwrap())
                }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    (url, asked)
}

/// Runs a command line against a server; what it printed, and how it ended.
async fn command(url: &str, args: &[&str]) -> (Vec<String>, Result<(), Failure>) {
    let place = ["--url", url];
    let args = ["posthaste"].iter().chain(args).chain(&place);
    let cli = Cli::try_parse_from(args).unwrap();
    let printed = Printed::default();
    let mut output = Output::to(printed.clone());
    let done = match cli.command.unwrap() {
        Command::Send(send) => send::run(send, &mut output).await,
        Command::Events(events) => listing::events(events, &mut output).await,
        Command::Deliveries(them) => listing::deliveries(them, &mut output).await,
        Command::Subscriptions(them) => listing::subscriptions(them, &mut output).await,
        Command::Tail(tail) => tail::run(tail, &mut output).await,
        other => panic!("{other:?} talks to no daemon"),
    };
    (printed.lines(), done)
}

fn why(done: Result<(), Failure>) -> String {
    done.unwrap_err().to_string()
}

fn page(rows: std::ops::Range<usize>, next: Option<&str>) -> Answer {
    let data: Vec<Value> = rows.map(|n| json!({"id": format!("evt_{n}"), "type": "a:b"})).collect();
    (200, json!({"data": data, "next": next}).to_string())
}

#[tokio::test]
async fn a_listing_goes_from_page_to_page_until_it_has_enough() {
    // A page may be short, or empty, and still have a next one.
    let (url, asked) = server(|line, before| match before {
        0 => page(0..2, Some("x/y")),
        1 => page(0..0, Some("z")),
        _ if line.contains("after=z") => page(2..3, Some("more")),
        _ => (500, String::new()),
    })
    .await;
    let (lines, done) = command(&url, &["events", "--json", "--limit", "3", "--type", "a:b"]).await;
    done.unwrap();
    assert_eq!(lines.len(), 3);
    assert!(lines.iter().all(|l| serde_json::from_str::<Value>(l).unwrap().is_object()));
    let asked = asked.0.lock().unwrap().clone();
    assert_eq!(asked[0], "GET /v1/events?type=a%3Ab&limit=3");
    assert_eq!(asked[1], "GET /v1/events?type=a%3Ab&limit=1&after=x%2Fy");
}

#[tokio::test]
async fn a_listing_says_that_there_are_more_only_where_a_row_follows() {
    // What a listing that has all it wants asks once more: whether something stands behind its cursor.
    for (behind, more) in [(page(0..0, None), false), (page(1..2, None), true)] {
        let (url, asked) = server(move |line, _| match line {
            l if l.contains("after=b") => behind.clone(),
            l if l.contains("after=a") => page(0..0, Some("b")),
            _ => page(0..1, Some("a")),
        })
        .await;
        let cli = Cli::try_parse_from(["posthaste", "deliveries", "--url", &url, "list", "--limit", "1"]).unwrap();
        let Some(Command::Deliveries(them)) = cli.command else { panic!("no listing") };
        assert_eq!(listing::more_behind("a", &them).await, more);
        command(&url, &["deliveries", "--limit", "1"]).await.1.unwrap();
        assert_eq!(asked.0.lock().unwrap().last().unwrap(), "GET /v1/deliveries?limit=1&after=b");
    }
}

#[tokio::test]
async fn options_of_a_listing_before_its_word_are_refused_and_not_lost() {
    let (url, asked) = server(|_, _| page(0..0, None)).await;
    for args in [
        ["events", "--limit", "1", "list"],
        ["deliveries", "--state", "dead", "list"],
        ["subscriptions", "--after", "x", "list"],
    ] {
        assert!(matches!(command(&url, &args).await.1, Err(Failure::Usage(_))), "{args:?}");
    }
    assert!(asked.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_table_has_a_heading_even_without_rows() {
    let (url, _) = server(|_, _| page(0..0, None)).await;
    let (lines, done) = command(&url, &["deliveries", "list"]).await;
    assert!(done.is_ok() && lines.len() == 1 && lines[0].starts_with("ID"), "{lines:?}");
}

#[tokio::test]
async fn an_id_is_one_segment_of_the_path_whatever_stands_in_it() {
    let (url, asked) = server(|_, _| (200, "{}".into())).await;
    command(&url, &["deliveries", "show", "../events?x#y/z"]).await.1.unwrap();
    command(&url, &["subscriptions", "pause", "a b", "c"]).await.1.unwrap();
    let asked = asked.0.lock().unwrap().clone();
    assert_eq!(asked[0], "GET /v1/deliveries/..%2Fevents%3Fx%23y%2Fz");
    assert_eq!(asked[1..], ["POST /v1/subscriptions/a%20b/pause", "POST /v1/subscriptions/c/pause"]);
}

#[tokio::test]
async fn a_refusal_is_told_with_every_field_and_without_control_characters() {
    let problem =
        json!({"title": "Wrong\u{1b}[2J", "status": 422, "errors": [{"pointer": "/type", "detail": "no type"}]});
    let (url, _) = server(move |_, _| (422, problem.to_string())).await;
    let why = why(command(&url, &["send", "Not A Type"]).await.1);
    assert!(why.contains("422") && why.contains("/type: no type") && !why.contains('\u{1b}'), "{why}");
}

#[tokio::test]
async fn what_is_no_daemon_of_ours_is_said_to_be_none() {
    let (url, _) = server(|_, _| (200, "<html>".into())).await;
    for args in [&["events"][..], &["send", "a:b"]] {
        let why = why(command(&url, args).await.1);
        assert!(why.contains(&url) && why.contains("is this a Posthaste daemon?"), "{why}");
    }
}

#[tokio::test]
async fn an_unreachable_daemon_is_named() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let url = format!("http://{free}");
    for args in [&["send", "t:x"][..], &["events", "list"], &["deliveries", "list"], &["subscriptions"], &["tail"]] {
        let why = why(command(&url, args).await.1);
        assert!(why.contains(&url) && why.contains("cannot be reached"), "{why}");
    }
}

#[tokio::test]
async fn a_token_goes_along_and_one_that_no_header_takes_is_wrong_use() {
    let (url, asked) = server(|_, _| page(0..0, None)).await;
    command(&url, &["events", "--token", "0123456789abcdef"]).await.1.unwrap();
    assert!(asked.0.lock().unwrap()[0].ends_with(" authorized"));
    let done = command(&url, &["events", "--token", "a\nb"]).await.1;
    assert!(matches!(&done, Err(Failure::Usage(why)) if !why.contains("a\nb")), "{done:?}");
    for wrong in ["ftp://x", "not a url", "http://u:p@x", "file:///x"] {
        assert!(matches!(command(wrong, &["events"]).await.1, Err(Failure::Usage(_))), "{wrong}");
    }
}

fn event(states: &[&str]) -> Answer {
    let delivery =
        |(at, state): (usize, &&str)| json!({"subscription": format!("s{at}"), "state": state, "reason": null});
    let deliveries: Vec<Value> = states.iter().enumerate().map(delivery).collect();
    (200, json!({"id": "evt_1", "deliveries": deliveries}).to_string())
}

fn recorded() -> Answer {
    (202, json!({"id": "evt_1", "duplicate": false, "deliveries": 2}).to_string())
}

#[tokio::test]
async fn wait_follows_until_everything_is_settled() {
    let (url, asked) = server(|line, before| match before {
        _ if line.starts_with("POST") => recorded(),
        1 => event(&["pending", "delivered"]),
        2 => event(&["held", "delivered"]),
        _ => event(&["cancelled", "delivered"]),
    })
    .await;
    let (lines, done) = command(&url, &["send", "a:b", "--wait"]).await;
    done.unwrap();
    assert_eq!(lines, ["evt_1", "s1  delivered", "s0  cancelled"]);
    assert_eq!(asked.0.lock().unwrap().len(), 4);
}

#[tokio::test]
async fn wait_fails_when_a_delivery_is_dead_but_only_when_all_are_settled() {
    let (url, _) = server(|line, before| match before {
        _ if line.starts_with("POST") => recorded(),
        1 => event(&["dead", "pending"]),
        _ => event(&["dead", "delivered"]),
    })
    .await;
    let (lines, done) = command(&url, &["send", "a:b", "--wait"]).await;
    assert_eq!(lines, ["evt_1", "s0  dead", "s1  delivered"]);
    assert!(matches!(&done, Err(Failure::Failed(why)) if why.contains("dead")), "{done:?}");
}

#[tokio::test]
async fn one_refused_change_does_not_keep_the_others_back() {
    let (url, asked) =
        server(|line, _| if line.contains("/a/") { (404, "{}".into()) } else { (200, "{}".into()) }).await;
    let (lines, done) = command(&url, &["deliveries", "retry", "a", "b"]).await;
    assert_eq!((lines.len(), asked.0.lock().unwrap().len()), (1, 2));
    assert!(matches!(done, Err(Failure::Told(1))));
}

#[tokio::test]
async fn tail_shows_each_object_and_passes_over_what_keeps_the_stream_alive() {
    let attempt = json!({"event": "evt_1", "type": "a:b", "subscription": "s", "number": 1, "state": "delivered"});
    let (url, _) = server(move |_, _| (200, format!("\n{attempt}\r\n\n{attempt}\n"))).await;
    let (lines, done) = command(&url, &["tail", "--json"]).await;
    assert!(lines.len() == 2 && lines.iter().all(|l| l.contains("evt_1")), "{lines:?}");
    assert!(why(done).contains("ended the stream"));
    assert!(command(&url, &["tail"]).await.0[0].contains("attempt 1  delivered"));
}

#[tokio::test]
async fn telemetry_goes_to_the_relay_and_what_it_dropped_does_not_stand_beside_the_id() {
    let said = json!({"id": "evt_1", "duplicate": false, "dropped": ["/properties/x"]});
    let (url, asked) = server(move |_, _| (202, said.to_string())).await;
    let given = ["send", "a:b", "--telemetry", "--derived-properties", "{\"n\":1}", "--idempotency-key", "k"];
    let (lines, done) = command(&url, &given).await;
    done.unwrap();
    assert_eq!(lines, ["evt_1"]);
    assert_eq!(*asked.0.lock().unwrap(), ["POST /analytics key=k"]);
    // Switched off is no failure, and nothing has an id.
    let (url, _) = server(|_, _| (204, String::new())).await;
    let (lines, done) = command(&url, &["send", "a:b", "--telemetry"]).await;
    assert!(done.is_ok() && lines.is_empty(), "{lines:?}");
    for wrong in [&["--derived-properties", "{"][..], &["--properties", "-", "--derived-properties", "-"]] {
        let args = [&["send", "a:b", "--telemetry"], wrong].concat();
        assert!(matches!(command(&url, &args).await.1, Err(Failure::Usage(_))), "{wrong:?}");
    }
}

#[tokio::test]
async fn a_test_of_a_subscription_fails_where_nothing_arrived() {
    for (outcome, arrived) in [("delivered", true), ("retry", false)] {
        let attempt = json!({"number": 1, "outcome": outcome, "status": 500});
        let (url, asked) = server(move |_, _| (200, attempt.to_string())).await;
        let (lines, done) = command(&url, &["subscriptions", "test", "a b", "--type", "a:b"]).await;
        assert_eq!(done.is_ok(), arrived, "{done:?}");
        assert!(lines.iter().any(|line| line.contains("500")), "{lines:?}");
        assert_eq!(*asked.0.lock().unwrap(), ["POST /v1/subscriptions/a%20b/test"]);
    }
}

#[tokio::test]
async fn a_replay_that_is_waited_for_is_looked_at_until_it_ends() {
    let (url, asked) = server(|line, before| {
        let state = if before < 2 { "running" } else { "done" };
        let status = if line.starts_with("POST") { 202 } else { 200 };
        (status, json!({"id": "rpl_7", "subscription": "ops", "state": state, "replayed": before}).to_string())
    })
    .await;
    let (printed, done) =
        command(&url, &["subscriptions", "replay", "ops", "--state", "dead", "--wait", "--json"]).await;
    assert!(done.is_ok(), "{done:?}");
    assert_eq!(printed.len(), 1, "{printed:?}");
    assert!(printed[0].contains(r#""state":"done""#), "{printed:?}");
    let asked = asked.0.lock().unwrap().clone();
    assert_eq!(
        asked,
        ["POST /v1/subscriptions/ops/replay", "GET /v1/replays/rpl_7", "GET /v1/replays/rpl_7"].map(str::to_owned)
    );
}

#[tokio::test]
async fn subscriptions_are_made_changed_and_removed_by_the_methods_of_the_api() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("s.json");
    std::fs::write(&file, r#"{"deliveree":"webhook","url":"https://x.example"}"#).unwrap();
    let file = file.to_str().unwrap();
    let (url, asked) = server(|line, _| match line.split(' ').next() {
        Some("DELETE") => (204, String::new()),
        _ => (200, json!({"name": "ops", "secret": "whsec_once"}).to_string()),
    })
    .await;
    let (made, _) = command(&url, &["subscriptions", "create", "ops", "--file", file]).await;
    assert!(made.iter().any(|line| line.contains("whsec_once")), "{made:?}");
    command(&url, &["subscriptions", "update", "ops", "--file", file]).await.1.unwrap();
    command(&url, &["subscriptions", "rotate-secret", "ops", "--grace", "1h"]).await.1.unwrap();
    let (removed, _) = command(&url, &["subscriptions", "delete", "ops"]).await;
    assert_eq!(removed, ["ops  deleted"]);
    let asked = asked.0.lock().unwrap().clone();
    let expected = [
        "POST /v1/subscriptions",
        "PATCH /v1/subscriptions/ops",
        "POST /v1/subscriptions/ops/rotate-secret",
        "DELETE /v1/subscriptions/ops",
    ];
    assert_eq!(asked, expected.map(str::to_owned));
    let (_, refused) = command(&url, &["subscriptions", "create", "other", "--file", "/no/such/file"]).await;
    assert!(matches!(refused, Err(Failure::Usage(_))), "{refused:?}");
}
