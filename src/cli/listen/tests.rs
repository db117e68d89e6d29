//! What the receiver says of signatures, and how it answers.

use super::*;
use http_body_util::Full;
use hyper::client::conn::http1::handshake;
use std::io::Write;

const BODY: &[u8] = br#"{"type":"a:b","data":{}}"#;

#[test]
fn a_wrong_delay_is_wrong_use() {
    assert!(delay("300").is_err() && delay("300ms").is_ok());
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
async fn an_id_that_comes_again_is_told_with_the_time_since_the_event() {
    let printed = Printed::default();
    let (address, _) = receiver(listen(200, 0), Output::to(printed.clone())).await;
    let headers = HeaderMap::from_iter([("webhook-id".parse().unwrap(), HeaderValue::from_static("evt_1"))]);
    let body = br#"{"type":"a:b","timestamp":"2024-05-01T02:03:04Z","data":{}}"#.to_vec();
    for _ in 0..3 {
        post(address, headers.clone(), body.clone()).await;
    }
    let text = String::from_utf8(printed.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("the 2. time") && text.contains("the 3. time") && !text.contains("the 1. time"), "{text}");
    assert!(text.contains(" d after the event"), "{text}");
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
