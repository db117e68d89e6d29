//! A webhook as it arrives, and what its receiver's answer leads to.

use crate::receiver::{Receiver, read_request};
use crate::sending::{Answers, BODY, Bench, NOW, OTHER_SECRET, SECRET, deliver, delivery, loopback, send};
use futures_util::future::{BoxFuture, FutureExt as _};
use posthaste_deliverees::http::{Bounds, Parts, Resolve, ResolveError};
use posthaste_deliverees::webhook::sign::{Received, Secret};
use posthaste_events::{Outcome, Signal};
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn verified(headers: &BTreeMap<String, String>, body: &[u8], secret: &str, now: i64) -> bool {
    let header = |name: &str| headers.get(name).map(String::as_str);
    let received = Received {
        id: header("webhook-id"),
        timestamp: header("webhook-timestamp"),
        signature: header("webhook-signature"),
        body,
    };
    received.verify(&Secret::parse(secret).unwrap(), now).is_ok()
}

#[tokio::test]
async fn a_webhook_arrives_as_the_contract_says() {
    let (receiver, bench) = (Receiver::answering(OK).await, Bench::new());
    let headers = json!({ "X-Env": "prod", "authorization": "Bearer canary" });
    let webhook = bench.webhook(&receiver.url(), json!({ "secrets": [SECRET, OTHER_SECRET], "headers": headers }));
    let first = deliver(&webhook, vec![delivery(41, 1, BODY)]).await;
    let Outcome::Delivered(detail) = first.one() else { panic!("{first:?}") };
    assert_eq!((detail.status, detail.answer.as_deref()), (Some(200), Some(&b"ok"[..])));

    let request = &receiver.requests()[0];
    assert_eq!(request.line, "POST /hooks?token=canary HTTP/1.1");
    assert_eq!(request.body, BODY.as_bytes());
    let id = delivery(41, 1, BODY).event().to_string();
    let mut headers = request.headers.clone();
    for secret in [SECRET, OTHER_SECRET] {
        assert!(verified(&headers, &request.body, secret, NOW));
    }
    assert_eq!(headers.remove("webhook-signature").unwrap().split(' ').count(), 2);
    let expected = [
        ("host", receiver.address.to_string()),
        ("content-length", BODY.len().to_string()),
        ("content-type", "application/json".into()),
        ("user-agent", "Posthaste/0.1".into()),
        ("webhook-id", id),
        ("webhook-timestamp", NOW.to_string()),
        ("posthaste-attempt", "1".into()),
        ("posthaste-sequence", "41".into()),
        ("x-env", "prod".into()),
        ("authorization", "Bearer canary".into()),
    ];
    assert_eq!(headers, expected.into_iter().map(|(name, value)| (name.to_owned(), value)).collect());
}

#[tokio::test]
async fn another_attempt_has_the_same_id_and_body_and_its_own_time() {
    let (receiver, bench) = (Receiver::answering(OK).await, Bench::new());
    let webhook = bench.webhook(&receiver.url(), json!({}));
    deliver(&webhook, vec![delivery(1, 1, BODY)]).await;
    bench.clock.0.store(NOW + 3_600, Ordering::SeqCst);
    deliver(&webhook, vec![delivery(1, 2, BODY)]).await;
    let requests = receiver.requests();
    assert_eq!(requests[0].headers["webhook-id"], requests[1].headers["webhook-id"]);
    assert_eq!(requests[0].body, requests[1].body);
    assert_eq!(requests[1].headers["webhook-timestamp"], (NOW + 3_600).to_string());
    assert_eq!(requests[1].headers["posthaste-attempt"], "2");
    assert!(verified(&requests[1].headers, &requests[1].body, SECRET, NOW + 3_600));
}

#[tokio::test]
async fn a_body_of_256_kib_arrives_whole() {
    let (receiver, bench) = (Receiver::answering(OK).await, Bench::new());
    let body = format!("{{\"data\":\"{}\"}}", "x".repeat(256 * 1024 - 11));
    let reported = deliver(&bench.webhook(&receiver.url(), json!({})), vec![delivery(1, 1, body.clone())]).await;
    assert!(matches!(reported.one(), Outcome::Delivered(_)), "{reported:?}");
    assert!(receiver.requests()[0].body == body.as_bytes());
}

#[tokio::test]
async fn deliveries_in_a_row_share_a_connection() {
    let (receiver, bench) = (Receiver::answering(OK).await, Bench::new());
    let webhook = bench.webhook(&receiver.url(), json!({}));
    for _ in 0..10 {
        assert!(matches!(send(&webhook).await.one(), Outcome::Delivered(_)));
    }
    assert_eq!((receiver.connections(), receiver.requests().len()), (1, 10));
}

#[tokio::test]
async fn deliveries_at_once_have_a_connection_each() {
    let (receiver, bench) = (Receiver::answering(OK).await, Bench::new());
    let webhook = bench.webhook(&receiver.url(), json!({}));
    for _ in 0..2 {
        let all = futures_util::future::join_all((0..8).map(|_| send(&webhook))).await;
        assert!(all.iter().all(|one| matches!(one.one(), Outcome::Delivered(_))));
    }
    assert_eq!((receiver.connections(), receiver.requests().len()), (8, 16));
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_costs_no_attempt() {
    // Each connection serves one request without saying that it will close, then closes.
    let (closed, was_closed) = oneshot::channel();
    let closed = Mutex::new(Some(closed));
    let receiver = Receiver::at("127.0.0.1", move |mut stream, seen| {
        let closed = closed.lock().unwrap().take();
        async move {
            seen.keep(read_request(&mut stream).await.unwrap());
            stream.write_all(OK.as_bytes()).await.unwrap();
            drop(stream);
            closed.map(|closed| closed.send(()));
        }
    })
    .await;
    let bench = Bench::new();
    let webhook = bench.webhook(&receiver.url(), json!({}));
    assert!(matches!(send(&webhook).await.one(), Outcome::Delivered(_)));
    was_closed.await.unwrap();
    // The end of a connection on loopback is there once it is sent; this lets the runtime see it.
    tokio::task::yield_now().await;
    assert!(matches!(send(&webhook).await.one(), Outcome::Delivered(_)));
    assert_eq!((receiver.connections(), receiver.requests().len()), (2, 2));
}

#[tokio::test]
async fn an_idle_connection_is_closed_when_its_time_is_over() {
    let (ended, has_ended) = oneshot::channel();
    let ended = Mutex::new(Some(ended));
    let receiver = Receiver::at("127.0.0.1", move |mut stream, _| {
        let ended = ended.lock().unwrap().take();
        async move {
            read_request(&mut stream).await.unwrap();
            stream.write_all(OK.as_bytes()).await.unwrap();
            let rest = stream.read(&mut [0; 16]).await;
            ended.map(|ended| ended.send(rest.is_ok_and(|read| read == 0)));
        }
    })
    .await;
    let bounds = Bounds { idle_time_max: Duration::from_millis(50), ..Bounds::default() };
    let bench = Bench::with(Parts { guard: loopback(), bounds, ..Parts::default() });
    send(&bench.webhook(&receiver.url(), json!({}))).await;
    let closed = tokio::time::timeout(Duration::from_secs(20), has_ended).await.unwrap();
    assert_eq!(closed, Ok(true));
}

#[tokio::test]
async fn an_answer_that_was_sent_ahead_is_never_taken_for_the_next_one() {
    let receiver = Receiver::at("127.0.0.1", |mut stream, seen| async move {
        while let Some(request) = read_request(&mut stream).await {
            seen.keep(request);
            let two = "HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(two.as_bytes()).await.unwrap();
        }
    })
    .await;
    let bench = Bench::new();
    let webhook = bench.webhook(&receiver.url(), json!({}));
    for _ in 0..2 {
        assert_eq!(send(&webhook).await.error(), "status 500");
    }
    assert_eq!(receiver.connections(), 2);
}

#[tokio::test]
async fn the_receiver_can_slow_down_disable_and_reject() {
    let bench = Bench::new();
    let slow = Receiver::answering("HTTP/1.1 429 Slow\r\nretry-after: 7\r\ncontent-length: 4\r\n\r\nlate").await;
    let reported = send(&bench.webhook(&slow.url(), json!({}))).await;
    assert_eq!(reported.signals, [Signal::SlowDown(Duration::from_secs(7))]);
    let Outcome::Retry { detail, after: Some(after) } = reported.one() else { panic!("{reported:?}") };
    assert_eq!((detail.status, detail.error.as_deref(), after.as_secs()), (Some(429), Some("status 429"), 7));
    assert_eq!(detail.answer.as_deref(), Some(&b"late"[..]));

    let gone = Receiver::answering("HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n").await;
    let reported = send(&bench.webhook(&gone.url(), json!({}))).await;
    assert!(matches!(reported.signals[..], [Signal::Disable(_)]) && matches!(reported.one(), Outcome::Retry { .. }));

    let wrong = Receiver::answering("HTTP/1.1 422 Wrong\r\ncontent-length: 0\r\n\r\n").await;
    let reported = send(&bench.webhook(&wrong.url(), json!({ "give_up_on": [422] }))).await;
    assert!(matches!(reported.one(), Outcome::Rejected(_)) && reported.signals.is_empty());
}

#[tokio::test]
async fn what_fails_before_a_connection_stands_is_named() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let bench = Bench::new();
    let reported = send(&bench.webhook(&format!("http://127.0.0.1:{port}/"), json!({}))).await;
    assert!(
        matches!(reported.one(), Outcome::Retry { .. }) && reported.error().starts_with("connect: "),
        "{reported:?}"
    );
}

#[tokio::test]
async fn a_missing_name_is_the_endpoints_fault_and_a_failing_resolver_is_ours() {
    let of = |error: ResolveError| {
        let resolver = Arc::new(Answers(Mutex::new(VecDeque::from([Err(error)]))));
        Bench::with(Parts { guard: loopback(), resolver, ..Parts::default() })
    };
    let missing = of(ResolveError::Name("Name or service not known".into()));
    let reported = send(&missing.webhook("http://nowhere.example/", json!({}))).await;
    assert!(matches!(reported.one(), Outcome::Retry { .. }));
    assert_eq!(reported.error(), "dns: Name or service not known");
    let failing = of(ResolveError::Resolver("Temporary failure in name resolution".into()));
    let reported = send(&failing.webhook("http://somewhere.example/", json!({}))).await;
    assert!(matches!(reported.one(), Outcome::Unattempted(_)), "{reported:?}");
}

/// A resolver that never answers; it works for other names or it does not.
#[derive(Debug)]
struct Silent {
    works: bool,
}

impl Resolve for Silent {
    fn resolve(&self, _name: &str) -> BoxFuture<'static, Result<Vec<IpAddr>, ResolveError>> {
        std::future::pending().boxed()
    }

    fn works(&self) -> bool {
        self.works
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_that_finds_no_answer_is_charged_only_where_others_do() {
    for works in [true, false] {
        let bench = Bench::with(Parts { resolver: Arc::new(Silent { works }), ..Parts::default() });
        let reported = send(&bench.webhook("http://slow.example/", json!({}))).await;
        assert!(reported.error().starts_with("timeout: the name did not resolve within 1000 ms"), "{reported:?}");
        assert_eq!(matches!(reported.one(), Outcome::Retry { .. }), works);
        assert_eq!(matches!(reported.one(), Outcome::Unattempted(_)), !works);
    }
}

#[tokio::test]
async fn a_name_is_tried_at_each_of_its_addresses() {
    let receiver = Receiver::answering(OK).await;
    // Nothing listens at the first one.
    let resolver = Answers::of(&[&["127.0.0.3", "127.0.0.1"]]);
    let bench = Bench::with(Parts { guard: loopback(), resolver, ..Parts::default() });
    let url = format!("http://two.example:{}/", receiver.address.port());
    let reported = send(&bench.webhook(&url, json!({}))).await;
    assert!(matches!(reported.one(), Outcome::Delivered(_)), "{reported:?}");
    assert_eq!(receiver.requests()[0].headers["host"], format!("two.example:{}", receiver.address.port()));
}

async fn tls_receiver() -> Receiver {
    let certificate = CertificateDer::from(include_bytes!("tls/receiver.der").as_slice());
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(include_bytes!("tls/receiver-key.der").as_slice()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    Receiver::at("127.0.0.1", move |stream, seen| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            while let Some(request) = read_request(&mut stream).await {
                seen.keep(request);
                stream.write_all(OK.as_bytes()).await.unwrap();
            }
        }
    })
    .await
}

#[tokio::test]
async fn https_needs_a_trusted_certificate_of_that_name() {
    let receiver = tls_receiver().await;
    let port = receiver.address.port();
    let authority = CertificateDer::from(include_bytes!("tls/authority.der").as_slice());
    let bench = |roots: Vec<CertificateDer<'static>>| {
        let resolver = Answers::of(&[&["127.0.0.1"]]);
        Bench::with(Parts { guard: loopback(), resolver, roots, ..Parts::default() })
    };
    let trusting = bench(vec![authority]);
    for host in ["receiver.test", "127.0.0.1"] {
        let webhook = trusting.webhook(&format!("https://{host}:{port}/"), json!({ "https_only": true }));
        for _ in 0..2 {
            let reported = send(&webhook).await;
            assert!(matches!(reported.one(), Outcome::Delivered(_)), "{reported:?}");
        }
    }
    assert_eq!((receiver.connections(), receiver.requests().len()), (2, 4));
    // Another name, and an authority that nobody trusts.
    for (bench, host) in [(&trusting, "other.test"), (&bench(vec![]), "receiver.test")] {
        let reported = send(&bench.webhook(&format!("https://{host}:{port}/"), json!({}))).await;
        assert!(
            matches!(reported.one(), Outcome::Retry { .. }) && reported.error().starts_with("tls: "),
            "{reported:?}"
        );
    }
    assert_eq!(receiver.requests().len(), 4);
}
