//! Hostile answers: each ends within the timeout and a second, as the right outcome, and is reported once.

use crate::receiver::{Receiver, Seen, read_request};
use crate::sending::{Bench, Reported, deliver, deliver_within, delivery, send};
use futures_util::future::{BoxFuture, FutureExt as _};
use posthaste_events::{AnyDeliveree, Outcome, Signal};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// The timeout of these webhooks (1 s) and the second that an end may take.
const BOUND: Duration = Duration::from_secs(2);
/// How large a stream is that never ends by itself, in bytes, at most.
const ENDLESS_MAX: usize = 1 << 30;

type Serve = fn(TcpStream) -> BoxFuture<'static, ()>;

/// What must come of it.
enum Must {
    /// Delivered.
    Arrive,
    /// A retry whose error begins so.
    Fail(&'static str),
}

async fn write(stream: &mut TcpStream, bytes: &[u8]) -> bool {
    stream.write_all(bytes).await.is_ok()
}

/// Writes `head`, then `piece` again and again until the other side has enough.
async fn flood(mut stream: TcpStream, head: &str, piece: &[u8]) {
    let mut left = ENDLESS_MAX;
    let mut go_on = write(&mut stream, head.as_bytes()).await;
    while go_on && left > piece.len() {
        left -= piece.len();
        go_on = write(&mut stream, piece).await;
    }
}

/// Writes `head`, then `rest` one byte a while.
async fn drip(mut stream: TcpStream, head: &str, rest: &[u8]) {
    let mut go_on = write(&mut stream, head.as_bytes()).await;
    for byte in rest {
        sleep(Duration::from_millis(200)).await;
        if !std::mem::replace(&mut go_on, write(&mut stream, &[*byte]).await) {
            return;
        }
    }
}

/// Writes `bytes` and closes.
async fn say(mut stream: TcpStream, bytes: &[u8]) {
    write(&mut stream, bytes).await;
}

/// Writes `bytes` and keeps the connection open.
async fn hold(mut stream: TcpStream, bytes: &[u8]) {
    write(&mut stream, bytes).await;
    sleep(Duration::from_secs(60)).await;
}

/// Resets the connection.
async fn reset(stream: TcpStream) {
    stream.set_zero_linger().unwrap();
}

const ROWS: &[(&str, Must, Serve)] = &[
    ("endless headers", Must::Fail("answer: "), |s| {
        async { flood(s, "HTTP/1.1 200 OK\r\n", b"x-more: and more and more and more\r\n").await }.boxed()
    }),
    ("one header without an end", Must::Fail("answer: "), |s| {
        async { flood(s, "HTTP/1.1 200 OK\r\nx: ", &[b'a'; 1024]).await }.boxed()
    }),
    ("a status line without an end", Must::Fail("answer: "), |s| {
        async { flood(s, "HTTP/1.1 200 ", &[b'a'; 1024]).await }.boxed()
    }),
    ("more than 100 headers", Must::Fail("answer: "), |s| {
        async { hold(s, format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(500)).as_bytes()).await }.boxed()
    }),
    ("an endless body", Must::Arrive, |s| {
        async { flood(s, "HTTP/1.1 200 OK\r\n\r\n", &[b'a'; 16 * 1024]).await }.boxed()
    }),
    ("an endless body in chunks", Must::Arrive, |s| {
        async { flood(s, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"5\r\nhello\r\n").await }.boxed()
    }),
    ("an endless body of a failure", Must::Fail("status 500"), |s| {
        async { flood(s, "HTTP/1.1 500 No\r\n\r\n", &[b'a'; 16 * 1024]).await }.boxed()
    }),
    ("an endless chunk extension", Must::Fail("body: "), |s| {
        async { flood(s, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;x=", &[b'a'; 1024]).await }.boxed()
    }),
    ("endless trailers", Must::Fail("body: "), |s| {
        async { flood(s, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", b"x-more: more\r\n").await }
            .boxed()
    }),
    ("1xx for ever", Must::Fail("timeout: "), |s| {
        async { flood(s, "HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n").await }
            .boxed()
    }),
    ("the head a byte at a time", Must::Fail("timeout: no answer"), |s| {
        async { drip(s, "", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await }.boxed()
    }),
    ("the body a byte at a time", Must::Fail("timeout: the answer was not complete"), |s| {
        async { drip(s, "HTTP/1.1 200 OK\r\ncontent-length: 60\r\n\r\n", &[b'a'; 60]).await }.boxed()
    }),
    ("a failure whose body stalls", Must::Fail("status 503"), |s| {
        async { hold(s, b"HTTP/1.1 503 No\r\ncontent-length: 9\r\n\r\n").await }.boxed()
    }),
    ("no answer", Must::Fail("timeout: no answer"), |s| async { hold(s, b"").await }.boxed()),
    ("an end without an answer", Must::Fail("connection: "), |s| async { say(s, b"").await }.boxed()),
    ("a half-close without an answer", Must::Fail("connection: "), |s| {
        async {
            let mut stream = s;
            stream.shutdown().await.unwrap();
            sleep(Duration::from_secs(60)).await;
        }
        .boxed()
    }),
    ("a reset", Must::Fail("connection: "), |s| async { reset(s).await }.boxed()),
    ("a reset within the body", Must::Fail("body: "), |s| {
        async {
            let mut stream = s;
            write(&mut stream, b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhello").await;
            stream.flush().await.unwrap();
            sleep(Duration::from_millis(100)).await;
            reset(stream).await;
        }
        .boxed()
    }),
    ("a body that breaks off", Must::Fail("body: "), |s| {
        async { say(s, b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhello").await }.boxed()
    }),
    ("chunks that break off", Must::Fail("body: "), |s| {
        async { say(s, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n").await }.boxed()
    }),
    ("bad chunks", Must::Fail("body: "), |s| {
        async { hold(s, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nhello\r\n").await }.boxed()
    }),
    ("a chunk of an impossible size", Must::Fail("body: "), |s| {
        async { hold(s, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello\r\n").await }
            .boxed()
    }),
    ("two lengths", Must::Fail("answer: "), |s| {
        async { hold(s, b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello").await }.boxed()
    }),
    ("a length that is none", Must::Fail("answer: "), |s| {
        async { hold(s, b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\nhello").await }.boxed()
    }),
    ("headers that are not ASCII", Must::Arrive, |s| {
        async { hold(s, b"HTTP/1.1 200 \xc3\xa4\r\nx-name: \xff\xfe\xc3\xa4\r\ncontent-length: 0\r\n\r\n").await }
            .boxed()
    }),
    ("a Retry-After that is not ASCII", Must::Fail("status 429"), |s| {
        async { hold(s, b"HTTP/1.1 429 No\r\nretry-after: \xd9\xa7\r\ncontent-length: 0\r\n\r\n").await }.boxed()
    }),
    ("a header's name that is none", Must::Fail("answer: "), |s| {
        async { hold(s, b"HTTP/1.1 200 OK\r\nx\x00y: 1\r\ncontent-length: 0\r\n\r\n").await }.boxed()
    }),
    ("garbage", Must::Fail("answer: "), |s| async { hold(s, b"\x00\x01\x02 what is this\r\n\r\n").await }.boxed()),
    ("an answer in HTTP/0.9", Must::Fail("answer: "), |s| async { say(s, b"<html>ok</html>").await }.boxed()),
    ("an answer in HTTP/2", Must::Fail("answer: "), |s| {
        async { hold(s, b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x80").await }.boxed()
    }),
    ("TLS on a plain port", Must::Fail("answer: "), |s| {
        async { hold(s, b"\x15\x03\x01\x00\x02\x02\x46").await }.boxed()
    }),
    ("another protocol", Must::Fail("answer: "), |s| async { hold(s, b"220 mail.example ESMTP\r\n").await }.boxed()),
    ("an upgrade that nobody asked for", Must::Fail(""), |s| {
        async { hold(s, b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n").await }
            .boxed()
    }),
    ("a status of a class that is none", Must::Fail("status 799"), |s| {
        async { hold(s, b"HTTP/1.1 799 What\r\ncontent-length: 0\r\n\r\n").await }.boxed()
    }),
    ("a status that surf does not know", Must::Fail("status 520"), |s| {
        async { hold(s, b"HTTP/1.1 520 Unknown\r\ncontent-length: 0\r\n\r\n").await }.boxed()
    }),
];

async fn after_the_request(serve: Serve, mut stream: TcpStream, seen: Arc<Seen>) {
    if let Some(request) = read_request(&mut stream).await {
        seen.keep(request);
        serve(stream).await;
    }
}

async fn ends(webhook: &AnyDeliveree, what: &str) -> Reported {
    timeout(BOUND, send(webhook)).await.unwrap_or_else(|_| panic!("{what}: no end within the timeout and a second"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_hostile_answer_ends_in_time_as_the_right_outcome() {
    let bench = Bench::new();
    let rows = ROWS.iter().map(|(what, must, serve)| {
        let bench = &bench;
        async move {
            let receiver = Receiver::at("127.0.0.1", move |s, seen| after_the_request(*serve, s, seen)).await;
            let reported = ends(&bench.webhook(&receiver.url(), json!({})), what).await;
            match must {
                Must::Arrive => assert!(matches!(reported.one(), Outcome::Delivered(_)), "{what}: {reported:?}"),
                Must::Fail(error) => {
                    assert!(matches!(reported.one(), Outcome::Retry { .. }), "{what}: {reported:?}");
                    assert!(
                        reported.error().starts_with(error) && !reported.error().is_empty(),
                        "{what}: {reported:?}"
                    );
                }
            }
            assert_eq!(receiver.requests().len(), 1, "{what}: the request was sent more than once");
            let kept = reported.one().detail().answer.as_ref().map_or(0, bytes::Bytes::len);
            assert!(kept <= 2_048, "{what}: {kept} bytes kept");
        }
    });
    futures_util::future::join_all(rows).await;
}

#[tokio::test]
async fn without_a_deadline_a_dripping_answer_goes_on() {
    // The negative control: what ends the row above is the deadline, not the receiver.
    let bench = Bench::new();
    let receiver = Receiver::at("127.0.0.1", |mut stream, _| async move {
        read_request(&mut stream).await;
        drip(stream, "HTTP/1.1 200 OK\r\ncontent-length: 60\r\n\r\n", &[b'a'; 60]).await;
    })
    .await;
    let patient = bench.webhook(&receiver.url(), json!({ "timeout": "10m" }));
    assert!(timeout(BOUND, send(&patient)).await.is_err());
}

#[tokio::test]
async fn the_deadline_of_a_call_counts_where_it_is_shorter_than_the_timeout() {
    let receiver = Receiver::at("127.0.0.1", |stream, _| hold(stream, b"")).await;
    let patient = Bench::new().webhook(&receiver.url(), json!({ "timeout": "10m" }));
    let batch = vec![delivery(1, 1, "{}"), delivery(2, 1, "{}")];
    let reported = timeout(BOUND, deliver_within(&patient, batch, Duration::from_secs(1))).await.unwrap();
    // Both are reported, though the first took all the time that there was.
    assert!(reported.outcomes.len() == 2 && reported.outcomes.iter().all(|(_, o)| matches!(o, Outcome::Retry { .. })));
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_leads_nowhere() {
    let elsewhere = Receiver::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let bench = Bench::new();
    for status in [301, 302, 303, 307, 308] {
        let there = elsewhere.url();
        let receiver = Receiver::at("127.0.0.1", move |mut stream, seen| {
            let answer = format!("HTTP/1.1 {status} There\r\nlocation: {there}\r\ncontent-length: 0\r\n\r\n");
            async move {
                while let Some(request) = read_request(&mut stream).await {
                    seen.keep(request);
                    write(&mut stream, answer.as_bytes()).await;
                }
            }
        })
        .await;
        let reported = ends(&bench.webhook(&receiver.url(), json!({})), "redirect").await;
        assert_eq!((reported.error(), receiver.requests().len()), (format!("status {status}").as_str(), 1));
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn a_huge_retry_after_holds_back_for_a_day_at_most() {
    let bench = Bench::new();
    for after in ["99999999999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"] {
        let answer = format!("HTTP/1.1 503 No\r\nretry-after: {after}\r\ncontent-length: 0\r\n\r\n");
        let receiver = Receiver::answering(answer.leak()).await;
        let reported = ends(&bench.webhook(&receiver.url(), json!({})), after).await;
        assert_eq!(reported.signals, [Signal::SlowDown(Duration::from_secs(86_400))]);
    }
}

#[tokio::test]
async fn a_compressed_answer_is_kept_as_it_came() {
    // The head of a gzip stream that would unpack to much more than this.
    let bomb: Vec<u8> = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255][..], &[0xed, 0xc0, 0x81, 0, 0][..]].concat();
    let sent = bomb.clone();
    let receiver = Receiver::at("127.0.0.1", move |mut stream, _| {
        let body = sent.clone();
        async move {
            read_request(&mut stream).await;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", body.len());
            write(&mut stream, &[head.as_bytes(), &body].concat()).await;
        }
    })
    .await;
    let bench = Bench::new();
    let reported = ends(&bench.webhook(&receiver.url(), json!({})), "gzip").await;
    assert_eq!(reported.one().detail().answer.as_deref(), Some(&bomb[..]));
}

#[tokio::test]
async fn a_receiver_that_reads_nothing_ends_in_time() {
    let receiver = Receiver::at("127.0.0.1", |stream, _| async move {
        sleep(Duration::from_secs(60)).await;
        drop(stream);
    })
    .await;
    let bench = Bench::new();
    let webhook = bench.webhook(&receiver.url(), json!({}));
    // More than the buffers of a socket take.
    let large = vec![delivery(1, 1, vec![b'x'; 16 << 20])];
    let reported = timeout(BOUND, deliver(&webhook, large)).await.unwrap();
    assert!(reported.error().starts_with("timeout: no answer"), "{reported:?}");
}

#[tokio::test]
async fn a_handshake_that_never_ends_or_is_none_fails_in_time() {
    let bench = Bench::new();
    let plain: Serve = |s| async { hold(s, b"HTTP/1.1 400 Bad\r\ncontent-length: 0\r\n\r\n").await }.boxed();
    let silent: Serve = |s| async { hold(s, b"").await }.boxed();
    for (what, serve, error) in
        [("plain on a TLS port", plain, "tls: "), ("a silent handshake", silent, "timeout: no TLS handshake")]
    {
        let receiver = Receiver::at("127.0.0.1", move |s, _| serve(s)).await;
        let url = receiver.url().replace("http:", "https:");
        let reported = ends(&bench.webhook(&url, json!({})), what).await;
        assert!(reported.error().starts_with(error), "{what}: {reported:?}");
    }
}

#[tokio::test]
async fn an_answer_past_64_kib_counts_and_its_connection_is_closed() {
    let (closed, was_closed) = tokio::sync::oneshot::channel();
    let closed = std::sync::Mutex::new(Some(closed));
    let receiver = Receiver::at("127.0.0.1", move |mut stream, _| {
        let closed = closed.lock().unwrap().take();
        async move {
            read_request(&mut stream).await;
            flood(stream, "HTTP/1.1 200 OK\r\n\r\n", &[b'a'; 16 * 1024]).await;
            closed.map(|closed| closed.send(()));
        }
    })
    .await;
    let bench = Bench::new();
    let reported = ends(&bench.webhook(&receiver.url(), json!({})), "64 KiB").await;
    assert!(matches!(reported.one(), Outcome::Delivered(_)), "{reported:?}");
    assert_eq!(reported.one().detail().answer.as_ref().map(bytes::Bytes::len), Some(2_048));
    timeout(Duration::from_secs(20), was_closed).await.unwrap().unwrap();
}
