//! How an endpoint is reached: deadlines of its parts, several addresses, bounds of open connections.

use crate::receiver::{Receiver, read_request};
use crate::sending::{Answers, Bench, SECRET, loopback, send};
use futures_util::future::join_all;
use posthaste_deliverees::http::{Bounds, Parts};
use posthaste_deliverees::{Guard, Kinds};
use posthaste_events::Outcome;
use serde_json::json;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Somebody who listens and lets nobody in: its queue is full, so a connection neither stands nor fails.
struct Full {
    address: SocketAddr,
    _listener: TcpListener,
    _waiting: Vec<TcpStream>,
}

impl Full {
    async fn at(address: &str) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(address.parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        for _ in 0..64 {
            match timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
                Ok(stream) => waiting.push(stream.unwrap()),
                Err(_) => return Self { address, _listener: listener, _waiting: waiting },
            }
        }
        panic!("its queue is never full");
    }
}

#[tokio::test]
async fn a_connection_has_a_deadline_of_its_own() {
    let full = Full::at("127.0.0.1:0").await;
    let url = format!("http://{}/", full.address);
    let bench = Bench::new();
    let short = json!({ "timeout": "10m", "connect_timeout": "100ms" });
    let reported = timeout(Duration::from_secs(20), send(&bench.webhook(&url, short))).await.unwrap();
    assert!(reported.error().starts_with("timeout: no connection within 1"), "{reported:?}");
    assert!(reported.error().ends_with(" ms (connect_timeout)"), "{reported:?}");
    assert!(matches!(reported.one(), Outcome::Retry { .. }));
    // The control: without it the whole's deadline ends it, and is named.
    let whole = json!({ "timeout": "300ms" });
    let reported = timeout(Duration::from_secs(20), send(&bench.webhook(&url, whole))).await.unwrap();
    assert!(reported.error().starts_with("timeout: no connection within 3"), "{reported:?}");
    assert!(reported.error().ends_with(" ms (timeout)"), "{reported:?}");
}

#[tokio::test]
async fn a_handshake_that_hangs_ends_with_the_deadline_of_the_connection() {
    let receiver = Receiver::at("127.0.0.1", |stream, _| async move {
        sleep(Duration::from_secs(60)).await;
        drop(stream);
    })
    .await;
    let url = receiver.url().replace("http:", "https:");
    let short = json!({ "timeout": "10m", "connect_timeout": "100ms" });
    let reported = timeout(Duration::from_secs(20), send(&Bench::new().webhook(&url, short))).await.unwrap();
    assert!(reported.error().starts_with("timeout: no TLS handshake within 1"), "{reported:?}");
    assert!(reported.error().ends_with(" ms (connect_timeout)"), "{reported:?}");
}

#[tokio::test]
async fn the_first_byte_has_a_deadline_of_its_own_and_the_body_has_not() {
    let silent = Receiver::at("127.0.0.1", |mut stream, _| async move {
        read_request(&mut stream).await;
        sleep(Duration::from_secs(60)).await;
    })
    .await;
    let bench = Bench::new();
    let options = json!({ "timeout": "400ms", "first_byte_timeout": "100ms" });
    let reported = send(&bench.webhook(&silent.url(), options.clone())).await;
    assert!(reported.error().starts_with("timeout: no answer within 1"), "{reported:?}");
    assert!(reported.error().ends_with(" ms (first_byte_timeout)"), "{reported:?}");
    let stalls = Receiver::at("127.0.0.1", |mut stream, _| async move {
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n").await.unwrap();
        sleep(Duration::from_secs(60)).await;
    })
    .await;
    let reported = send(&bench.webhook(&stalls.url(), options)).await;
    assert!(reported.error().starts_with("timeout: the answer was not complete within 4"), "{reported:?}");
    assert!(reported.error().ends_with(" ms (timeout)"), "{reported:?}");
}

#[tokio::test]
async fn an_address_that_leads_nowhere_does_not_hold_up_the_next() {
    let receiver = Receiver::answering(OK).await;
    let port = receiver.address.port();
    let full = Full::at(&format!("127.0.0.7:{port}")).await;
    let resolver = Answers::of(&[&["127.0.0.7", "127.0.0.1"]]);
    let bench = Bench::with(Parts { guard: loopback(), resolver, ..Parts::default() });
    let url = format!("http://two.example:{port}/");
    let reported = timeout(Duration::from_secs(20), send(&bench.webhook(&url, json!({ "timeout": "10m" })))).await;
    let reported = reported.unwrap();
    assert!(matches!(reported.one(), Outcome::Delivered(_)), "{reported:?}");
    let trace = reported.one().detail().trace.clone().unwrap();
    assert_eq!(trace.address, Some(receiver.address));
    // Not before the second address had its turn.
    assert!(trace.connect.is_some_and(|took| took >= Duration::from_millis(250)), "{trace:?}");
    drop(full);
}

#[tokio::test]
async fn both_families_are_tried_whichever_leads_nowhere() {
    // Nothing listens at the receiver's port on the other family.
    let receiver = Receiver::answering(OK).await;
    let port = receiver.address.port();
    for answers in [&["::1", "127.0.0.1"], &["127.0.0.1", "::1"]] {
        let bench = Bench::with(Parts { guard: loopback(), resolver: Answers::of(&[answers]), ..Parts::default() });
        let reported = send(&bench.webhook(&format!("http://two.example:{port}/"), json!({}))).await;
        assert!(matches!(reported.one(), Outcome::Delivered(_)), "{reported:?}");
    }
}

#[tokio::test]
async fn no_more_connections_are_open_than_may_be_and_who_waits_gets_the_next() {
    let receiver = Receiver::at("127.0.0.1", |mut stream, seen| async move {
        while let Some(request) = read_request(&mut stream).await {
            seen.keep(request);
            sleep(Duration::from_millis(5)).await;
            if stream.write_all(OK.as_bytes()).await.is_err() {
                return;
            }
        }
    })
    .await;
    let bounds = Bounds { open_per_host_max: 2, ..Bounds::default() };
    let bench = Bench::with(Parts { guard: loopback(), bounds, ..Parts::default() });
    let webhook = bench.webhook(&receiver.url(), json!({ "timeout": "60s" }));
    let all = join_all((0..40).map(|_| send(&webhook))).await;
    assert!(all.iter().all(|one| matches!(one.one(), Outcome::Delivered(_))));
    assert_eq!((receiver.connections(), receiver.requests().len()), (2, 40));
    // The control: without the bound each has its own.
    let bench = Bench::new();
    let webhook = bench.webhook(&receiver.url(), json!({ "timeout": "60s" }));
    join_all((0..40).map(|_| send(&webhook))).await;
    assert_eq!(receiver.connections(), 42);
}

#[tokio::test]
async fn who_waits_for_a_connection_until_the_deadline_is_not_charged() {
    let silent = Receiver::at("127.0.0.1", |mut stream, _| async move {
        read_request(&mut stream).await;
        sleep(Duration::from_secs(60)).await;
    })
    .await;
    let bounds = Bounds { open_per_host_max: 1, ..Bounds::default() };
    let bench = Bench::with(Parts { guard: loopback(), bounds, ..Parts::default() });
    let patient = bench.webhook(&silent.url(), json!({ "timeout": "400ms" }));
    let hasty = bench.webhook(&silent.url(), json!({ "timeout": "200ms" }));
    let (first, second) = tokio::join!(send(&patient), send(&hasty));
    assert!(matches!(first.one(), Outcome::Retry { .. }), "{first:?}");
    assert!(matches!(second.one(), Outcome::Unattempted(_)), "{second:?}");
    assert!(second.error().starts_with("timeout: no connection became free within 2"), "{second:?}");
    assert_eq!(silent.connections(), 1);
    // Its connection was closed with the first one, so there is room again.
    assert!(matches!(send(&hasty).await.one(), Outcome::Retry { .. }));
    assert_eq!(silent.connections(), 2);
}

#[tokio::test]
async fn a_port_that_is_not_named_is_a_problem_of_the_url_and_never_dialled() {
    let receiver = Receiver::answering(OK).await;
    let guard = loopback().at_ports(vec![443]);
    let options = json!({ "url": receiver.url(), "secrets": [SECRET] });
    let kinds = Kinds::built_in();
    let parse = &kinds.get("webhook").unwrap().parse;
    let problems = parse(options.as_object().unwrap(), &guard).unwrap_err();
    assert!(problems.len() == 1 && problems[0].path == "url" && problems[0].what.contains("none of [network] ports"));
    // Past the config all the same: the connector judges.
    let bench = Bench::with(Parts { guard, ..Parts::default() });
    let parsed = parse(options.as_object().unwrap(), &Guard::off()).unwrap();
    let reported = send(&parsed.make(bench.tools.clone())()).await;
    assert_eq!(reported.one().detail().class(), Some("refused"), "{reported:?}");
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn a_denied_network_is_not_dialled_though_it_is_allowed() {
    let receiver = Receiver::answering(OK).await;
    let guard = loopback().denying(vec!["127.0.0.1/32".parse().unwrap()]);
    let resolver = Answers::of(&[&["127.0.0.1", "::ffff:127.0.0.1"]]);
    let bench = Bench::with(Parts { guard, resolver, ..Parts::default() });
    let url = format!("http://denied.example:{}/", receiver.address.port());
    let reported = send(&bench.webhook(&url, json!({}))).await;
    assert!(reported.error().contains("127.0.0.1 is in [network] deny_networks"), "{reported:?}");
    assert_eq!(receiver.connections(), 0);
}
