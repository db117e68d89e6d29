//! What the receiver says of signatures, and how it answers.

use super::*;
use http_body_util::Full;
use hyper::client::conn::http1::handshake;
use std::io::Write;

const ID: &str = "evt_1";
const AT: u64 = 1_732_000_000;
const BODY: &[u8] = br#"{"type":"a:b","data":{}}"#;

fn one(key: &Key) -> &[Key] {
    std::slice::from_ref(key)
}

fn signed(key: &Key, at: &str) -> HeaderMap {
    let mut mac = Hmac::<Sha256>::new_from_slice(&key.0).unwrap();
    mac.update(format!("{ID}.{at}.").as_bytes());
    mac.update(BODY);
    let signature = format!("v2,x v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    [("webhook-id", ID), ("webhook-timestamp", at), ("webhook-signature", &signature)]
        .into_iter()
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
        .collect::<HeaderMap>()
}

#[test]
fn a_signature_is_judged_and_what_is_wrong_is_said() {
    let (ours, other) = (secret(DEVELOPMENT_SECRET).unwrap(), Key(vec![7; 32]));
    let headers = signed(&ours, &AT.to_string());
    let judged =
        |headers: &HeaderMap, body: &[u8], keys: &[Key], now| judge(headers, body, keys, Duration::from_secs(now));
    assert_eq!(judged(&headers, BODY, one(&ours), AT + 300), Verdict::Good);
    assert_eq!(judged(&headers, BODY, &[other.clone(), ours.clone()], AT), Verdict::Good);
    assert_eq!(judged(&headers, BODY, one(&other), AT), Verdict::Other);
    assert_eq!(judged(&headers, b"{}", one(&ours), AT), Verdict::Other);
    assert_eq!(judged(&headers, BODY, one(&ours), AT + 301), Verdict::Stale(301));
    assert_eq!(judged(&headers, BODY, one(&ours), AT - 301), Verdict::Stale(301));
    assert_eq!(judged(&signed(&ours, "soon"), BODY, one(&ours), AT), Verdict::NoTime);
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        let mut without = headers.clone();
        without.remove(name);
        assert_eq!(judged(&without, BODY, one(&ours), AT), Verdict::Missing(name));
    }
    let mut unversioned = headers;
    unversioned.insert("webhook-signature", "abc".parse().unwrap());
    assert_eq!(judged(&unversioned, BODY, one(&ours), AT), Verdict::NoVersion);
}

/// The published example of the Standard Webhooks specification, so that both sides are not wrong alike.
#[test]
fn the_example_of_the_specification_holds() {
    let key = secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let headers: HeaderMap = [
        ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
        ("webhook-timestamp", "1614265330"),
        ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
    ]
    .into_iter()
    .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
    .collect();
    let now = Duration::from_secs(1_614_265_330);
    assert_eq!(judge(&headers, br#"{"test": 2432232314}"#, one(&key), now), Verdict::Good);
}

#[test]
fn a_wrong_secret_or_delay_is_wrong_use() {
    assert!(
        secret("").is_err() && secret("whsec_").is_err() && secret("whsec_!!!").is_err() && secret("hello").is_err()
    );
    assert!(delay("300").is_err() && delay("300ms").is_ok());
    assert_eq!(format!("{:?}", secret(DEVELOPMENT_SECRET).unwrap()), "Key(…)");
}

#[test]
fn a_body_is_shown_on_one_line_and_cut() {
    assert_eq!(shown(b"a\n\x1b[2J"), "a\\n\\u{1b}[2J");
    assert!(shown("x".repeat(9999).as_bytes()).chars().count() < SHOWN_MAX + 3);
}

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

/// A receiver on a free port of loopback.
async fn receiver(listen: Listen, output: Output) -> (SocketAddr, tokio::task::JoinHandle<Result<(), Failure>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (address, tokio::spawn(receive_all(listener, listen, output)))
}

async fn post(address: SocketAddr, headers: HeaderMap, body: Vec<u8>) -> u16 {
    answer(address, headers, body).await.0
}

async fn answer(address: SocketAddr, headers: HeaderMap, body: Vec<u8>) -> (u16, Bytes) {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::post("/").header("host", "x").body(Full::new(Bytes::from(body))).unwrap();
    request.headers_mut().extend(headers);
    let response = sender.send_request(request).await.unwrap();
    (response.status().as_u16(), response.into_body().collect().await.unwrap().to_bytes())
}

fn listen(status: u16, fail_first: u64) -> Listen {
    Listen { addr: ([127, 0, 0, 1], 0).into(), secret: Vec::new(), status, fail_first, delay: Duration::ZERO }
}

#[tokio::test]
async fn it_fails_first_as_often_as_asked_and_prints_what_arrived() {
    let printed = Printed::default();
    let (address, _) = receiver(listen(204, 2), Output::to(printed.clone())).await;
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(post(address, HeaderMap::new(), BODY.to_vec()).await);
    }
    assert_eq!(answers, [500, 500, 204, 204]);
    let text = String::from_utf8(printed.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("a:b  -  attempt -  ✗ not signed: the header webhook-id is missing"), "{text}");
    assert!(text.contains(r#"{"type":"a:b","data":{}}"#) && text.contains("answered 500"), "{text}");
}

#[tokio::test]
async fn a_batch_is_told_event_by_event_and_answered_as_its_backend_wants_it() {
    let printed = Printed::default();
    let (address, _) = receiver(listen(200, 1), Output::to(printed.clone())).await;
    let batch = br#"{"api_key":"phc_x","batch":[{"event":"a:b","properties":{"event_properties":{"n":1}}}]}"#;
    assert_eq!(answer(address, HeaderMap::new(), batch.to_vec()).await, (500, Bytes::new()));
    assert_eq!(answer(address, HeaderMap::new(), batch.to_vec()).await, (200, Bytes::from_static(b"{\"status\":1}")));
    let protobuf = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"))]);
    assert_eq!(answer(address, protobuf, Vec::new()).await, (200, Bytes::new()));
    let text = String::from_utf8(printed.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("posthog  1 event\n  a:b  {\"event_properties\":{\"n\":1}}\n  answered 200"), "{text}");
    assert!(text.contains("otlp  0 events"), "{text}");
}

#[tokio::test]
async fn a_body_without_end_is_refused() {
    let printed = Printed::default();
    let (address, _) = receiver(listen(200, 0), Output::to(printed.clone())).await;
    assert_eq!(post(address, HeaderMap::new(), vec![b'x'; BODY_MAX + 1]).await, 413);
    assert_eq!(post(address, HeaderMap::new(), vec![b'x'; BODY_MAX]).await, 200);
}

#[tokio::test]
async fn it_ends_when_nobody_reads_what_it_prints() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let (address, running) = receiver(listen(200, 0), Output::to(Closed)).await;
    post(address, HeaderMap::new(), BODY.to_vec()).await;
    assert!(matches!(running.await.unwrap(), Err(Failure::Output(_))));
}
