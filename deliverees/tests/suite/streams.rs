//! HTTP/2: shared connections, and receivers that answer with malice frame by frame. Each attempt ends within the
//! timeout and a second, as the right outcome, and is reported once.

use crate::receiver::Receiver;
use crate::secure::{
    Authority, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, STATUS_200,
    Secured, WINDOW_UPDATE, frame, literal, ok, read_stream, secured, speaking_http_2,
};
use crate::sending::{BODY, Bench, deliver, delivery, loopback, send};
use futures_util::future::{BoxFuture, FutureExt as _, join_all};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use posthaste_deliverees::http::{Bounds, Parts};
use posthaste_events::{AnyDeliveree, Outcome};
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};

/// The timeout of these webhooks (1 s) and the second that an end may take.
const BOUND: Duration = Duration::from_secs(2);
/// How often something is written that never ends by itself, at most.
const ENDLESS_MAX: usize = 1 << 16;

fn url(receiver: &Receiver) -> String {
    format!("https://{}/hooks?token=canary", receiver.address)
}

fn webhook(bench: &Bench, receiver: &Receiver, authority: &Authority) -> AnyDeliveree {
    bench.webhook(&url(receiver), json!({ "ca": authority.pem() }))
}

#[tokio::test]
async fn a_webhook_over_http_2_says_the_same() {
    let authority = Authority::new();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&requests);
    let receiver = speaking_http_2(&authority, move |_, request| {
        kept.lock().unwrap().push(request);
        async { ok("ok") }.boxed()
    })
    .await;
    let bench = Bench::new();
    let reported = deliver(&webhook(&bench, &receiver, &authority), vec![delivery(41, 1, BODY)]).await;
    let Outcome::Delivered(detail) = reported.one() else { panic!("{reported:?}") };
    assert_eq!((detail.status, detail.answer.as_deref()), (Some(200), Some(&b"ok"[..])));
    assert!(detail.trace.as_ref().is_some_and(|trace| trace.address == Some(receiver.address)));
    let requests = requests.lock().unwrap();
    let request = &requests[0];
    assert_eq!(request.version(), hyper::Version::HTTP_2);
    assert_eq!(request.uri().to_string(), url(&receiver));
    assert_eq!((request.method().as_str(), &request.body()[..]), ("POST", BODY.as_bytes()));
    let header = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(header("webhook-id"), Some(delivery(41, 1, BODY).event().to_string()));
    assert_eq!(header("content-length"), Some(BODY.len().to_string()));
    for name in ["host", "connection", "transfer-encoding"] {
        assert_eq!(header(name), None, "{name}");
    }
    assert!(header("webhook-signature").is_some_and(|signature| signature.starts_with("v1,")));
}

#[tokio::test]
async fn deliveries_at_once_share_one_connection_up_to_what_both_sides_take() {
    let authority = Authority::new();
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, noted) = (Arc::clone(&now), Arc::clone(&most));
    let receiver = speaking_http_2(&authority, move |_, _| {
        let (now, most) = (Arc::clone(&counted), Arc::clone(&noted));
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            sleep(Duration::from_millis(20)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            ok("ok")
        }
        .boxed()
    })
    .await;
    let bench = Bench::new();
    let webhook = webhook(&bench, &receiver, &authority);
    for _ in 0..3 {
        let all = join_all((0..50).map(|_| send(&webhook))).await;
        assert!(all.iter().all(|one| matches!(one.one(), Outcome::Delivered(_))));
    }
    assert_eq!(receiver.connections(), 1);
    assert!(most.load(Ordering::SeqCst) > 10, "{most:?}");
    // More than one connection takes are put on another.
    let all = join_all((0..150).map(|_| send(&webhook))).await;
    assert!(all.iter().all(|one| matches!(one.one(), Outcome::Delivered(_))));
    assert_eq!(receiver.connections(), 2);
}

#[tokio::test]
async fn a_body_larger_than_any_window_arrives_whole_and_an_endless_answer_is_cut() {
    let authority = Authority::new();
    let receiver = speaking_http_2(&authority, move |number, request| {
        async move {
            assert_eq!(request.body().len(), 300 * 1024);
            if number > 0 {
                return ok("ok");
            }
            let piece = || Ok(Frame::data(bytes::Bytes::from_static(&[b'a'; 1024])));
            hyper::Response::new(StreamBody::new(futures_util::stream::repeat_with(piece)).boxed())
        }
        .boxed()
    })
    .await;
    let bench = Bench::new();
    let webhook = webhook(&bench, &receiver, &authority);
    for kept in [2_048, 2] {
        let batch = vec![delivery(1, 1, vec![b'x'; 300 * 1024])];
        let reported = timeout(BOUND, deliver(&webhook, batch)).await.unwrap();
        assert!(matches!(reported.one(), Outcome::Delivered(_)), "{reported:?}");
        assert_eq!(reported.one().detail().answer.as_ref().map(bytes::Bytes::len), Some(kept));
    }
    // Only the stream was given up.
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test]
async fn a_connection_that_went_silent_is_not_used_again() {
    let authority = Authority::new();
    let receiver = speaking_http_2(&authority, |number, _| {
        async move {
            if number == 0 {
                sleep(Duration::from_secs(60)).await;
            }
            ok("ok")
        }
        .boxed()
    })
    .await;
    let bench = Bench::new();
    let webhook = webhook(&bench, &receiver, &authority);
    let first = timeout(BOUND, send(&webhook)).await.unwrap();
    assert!(first.error().starts_with("timeout: no answer within"), "{first:?}");
    assert!(matches!(send(&webhook).await.one(), Outcome::Delivered(_)));
    assert_eq!(receiver.connections(), 2);
}

#[tokio::test]
async fn an_idle_shared_connection_is_closed_when_its_time_is_over() {
    let authority = Authority::new();
    let (ended, has_ended) = tokio::sync::oneshot::channel();
    let ended = Arc::new(Mutex::new(Some(ended)));
    let receiver = secured(authority.certify(|_| {}).acceptor(&["h2"]), move |mut wire, _| {
        let ended = ended.lock().unwrap().take();
        async move {
            let stream = read_stream(&mut wire, &[]).await.unwrap();
            let answer = frame(HEADERS, END_HEADERS | END_STREAM, stream, STATUS_200);
            wire.write_all(&answer).await.unwrap();
            let mut rest = Vec::new();
            let _ = wire.read_to_end(&mut rest).await;
            ended.map(|ended| ended.send(()));
        }
    })
    .await;
    let bounds = Bounds { idle_time_max: Duration::from_millis(50), ..Bounds::default() };
    let bench = Bench::with(Parts { guard: loopback(), bounds, ..Parts::default() });
    let reported = send(&webhook(&bench, &receiver, &authority)).await;
    assert!(matches!(reported.one(), Outcome::Delivered(_)), "{reported:?}");
    timeout(Duration::from_secs(20), has_ended).await.unwrap().unwrap();
}

/// A receiver whose first connection answers a request so, and whose others are good; answers what came, and how many
/// connections it took.
async fn first_answered_so(malice: fn(u32) -> Vec<u8>) -> (crate::sending::Reported, usize) {
    let authority = Authority::new();
    let count = Arc::new(AtomicUsize::new(0));
    let receiver = secured(authority.certify(|_| {}).acceptor(&["h2"]), move |mut wire, _| {
        let first = count.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            let stream = read_stream(&mut wire, &[]).await.unwrap();
            let good = frame(HEADERS, END_HEADERS | END_STREAM, stream, STATUS_200);
            let _ = wire.write_all(&if first { malice(stream) } else { good }).await;
            sleep(Duration::from_secs(60)).await;
        }
    })
    .await;
    let bench = Bench::new();
    let reported = timeout(BOUND, send(&webhook(&bench, &receiver, &authority))).await.unwrap();
    (reported, receiver.connections())
}

#[tokio::test]
async fn a_request_that_nobody_took_up_is_sent_again_within_the_attempt() {
    let refused = |stream| frame(RST_STREAM, 0, stream, &7_u32.to_be_bytes());
    // It went away, and says that the last stream that it looked at was none of ours.
    let gone = |_| frame(GOAWAY, 0, 0, &[0; 8]);
    for malice in [refused as fn(u32) -> Vec<u8>, gone] {
        let (reported, connections) = first_answered_so(malice).await;
        assert!(matches!(reported.one(), Outcome::Delivered(_)), "{reported:?}");
        assert_eq!(connections, 2);
    }
    // The control: what may have been taken up is a failed attempt.
    let (reported, connections) = first_answered_so(|stream| frame(RST_STREAM, 0, stream, &2_u32.to_be_bytes())).await;
    assert!(reported.error().starts_with("connection: ") && connections == 1, "{reported:?}");
    let taken = |stream: u32| frame(GOAWAY, 0, 0, &[stream.to_be_bytes(), 0_u32.to_be_bytes()].concat());
    let (reported, connections) = first_answered_so(taken).await;
    assert!(reported.error().starts_with("timeout: no answer") && connections == 1, "{reported:?}");
}

#[tokio::test]
async fn one_that_refuses_every_stream_is_left_after_four() {
    let authority = Authority::new();
    let receiver = secured(authority.certify(|_| {}).acceptor(&["h2"]), |mut wire, _| async move {
        let Some(stream) = read_stream(&mut wire, &[]).await else { return };
        let _ = wire.write_all(&frame(RST_STREAM, 0, stream, &7_u32.to_be_bytes())).await;
        sleep(Duration::from_secs(60)).await;
    })
    .await;
    let bench = Bench::new();
    let reported = timeout(BOUND, send(&webhook(&bench, &receiver, &authority))).await.unwrap();
    assert!(reported.error().starts_with("connection: "), "{reported:?}");
    assert_eq!(receiver.connections(), 4);
}

/// What must come of it.
enum Must {
    /// Delivered.
    Arrive,
    /// A retry whose error begins with one of these.
    Fail(&'static [&'static str]),
    /// Either.
    End(&'static [&'static str]),
}

type Malice = fn(Secured, u32) -> BoxFuture<'static, ()>;

/// Writes `first`, then `piece` again and again until the other side has enough.
async fn flood(mut wire: Secured, first: Vec<u8>, piece: Vec<u8>) {
    let mut go_on = wire.write_all(&first).await.is_ok();
    for _ in 0..ENDLESS_MAX {
        if !go_on {
            return;
        }
        go_on = wire.write_all(&piece).await.is_ok();
    }
}

/// Writes `bytes` and keeps the connection open.
async fn hold(mut wire: Secured, bytes: Vec<u8>) {
    let _ = wire.write_all(&bytes).await;
    let _ = wire.flush().await;
    sleep(Duration::from_secs(60)).await;
}

fn head(stream: u32, flags: u8, more: &[(&str, &str)]) -> Vec<u8> {
    let mut block = STATUS_200.to_vec();
    more.iter().for_each(|(name, value)| block.extend(literal(name, value)));
    frame(HEADERS, END_HEADERS | flags, stream, &block)
}

const ANSWER: &[&str] = &["answer: "];
const BODY_BREAKS: &[&str] = &["body: "];

const ROWS: &[(&str, Must, Malice)] = &[
    ("silence", Must::Fail(&["timeout: no answer"]), |w, _| hold(w, Vec::new()).boxed()),
    ("an end without an answer", Must::Fail(&["connection: "]), |w, _| async move { drop(w) }.boxed()),
    ("a head that never ends", Must::Fail(&["answer: ", "connection: "]), |w, s| {
        let more = (0..100).flat_map(|_| literal("x-more", "and more and more")).collect::<Vec<_>>();
        flood(w, frame(HEADERS, 0, s, STATUS_200), frame(CONTINUATION, 0, s, &more)).boxed()
    }),
    ("empty continuations for ever", Must::Fail(&["answer: ", "connection: "]), |w, s| {
        flood(w, frame(HEADERS, 0, s, STATUS_200), frame(CONTINUATION, 0, s, &[])).boxed()
    }),
    ("a head of more than 64 KiB", Must::Fail(&["answer: ", "connection: "]), |w, s| {
        let piece = literal("x-more", &"x".repeat(100)).repeat(140);
        let mut bytes = frame(HEADERS, 0, s, STATUS_200);
        (0..9).for_each(|_| bytes.extend(frame(CONTINUATION, 0, s, &piece)));
        bytes.extend(frame(CONTINUATION, END_HEADERS, s, &[]));
        hold(w, bytes).boxed()
    }),
    ("more than 100 headers", Must::Fail(&["answer: it has more than 100 headers"]), |w, s| {
        hold(w, head(s, END_STREAM, &[("a", "b"); 101])).boxed()
    }),
    ("a head that is reset", Must::Fail(&["connection: "]), |w, s| {
        hold(w, frame(RST_STREAM, 0, s, &2_u32.to_be_bytes())).boxed()
    }),
    ("a body that is reset", Must::Fail(BODY_BREAKS), |w, s| {
        hold(w, [head(s, 0, &[]), frame(DATA, 0, s, b"hello"), frame(RST_STREAM, 0, s, &2_u32.to_be_bytes())].concat())
            .boxed()
    }),
    ("a connection that is given up in the head", Must::Fail(&["connection: "]), |mut w, s| {
        async move {
            let said = [s.to_be_bytes(), 1_u32.to_be_bytes()].concat();
            let _ = w.write_all(&frame(GOAWAY, 0, 0, &said)).await;
        }
        .boxed()
    }),
    ("a connection that breaks in the body", Must::Fail(BODY_BREAKS), |mut w, s| {
        async move {
            let _ = w.write_all(&[head(s, 0, &[]), frame(DATA, 0, s, b"hello")].concat()).await;
        }
        .boxed()
    }),
    ("a body that stalls", Must::Fail(&["timeout: the answer was not complete"]), |w, s| {
        hold(w, [head(s, 0, &[]), frame(DATA, 0, s, b"hello")].concat()).boxed()
    }),
    // Whether 64 KiB were read before that is seen is a matter of who runs first.
    ("a body that heeds no window", Must::End(BODY_BREAKS), |w, s| {
        let piece = frame(DATA, 0, s, &[b'a'; 16 * 1024]);
        flood(w, [head(s, 0, &[]), piece.repeat(80)].concat(), piece).boxed()
    }),
    ("empty pieces of a body for ever", Must::Fail(&["timeout: ", "body: "]), |w, s| {
        flood(w, head(s, 0, &[]), frame(DATA, 0, s, &[]).repeat(64)).boxed()
    }),
    ("a shorter body than was said", Must::Fail(BODY_BREAKS), |w, s| {
        hold(w, [head(s, 0, &[("content-length", "100")]), frame(DATA, END_STREAM, s, b"hello")].concat()).boxed()
    }),
    ("a longer body than was said", Must::Fail(BODY_BREAKS), |w, s| {
        hold(w, [head(s, 0, &[("content-length", "2")]), frame(DATA, END_STREAM, s, b"hello")].concat()).boxed()
    }),
    ("trailers", Must::Arrive, |w, s| {
        let trailers = frame(HEADERS, END_HEADERS | END_STREAM, s, &literal("x-sum", "1"));
        hold(w, [head(s, 0, &[]), frame(DATA, 0, s, b"hello"), trailers].concat()).boxed()
    }),
    ("trailers without an end", Must::Fail(BODY_BREAKS), |w, s| {
        let first = [head(s, 0, &[]), frame(HEADERS, END_STREAM, s, &literal("x-sum", "1"))].concat();
        flood(w, first, frame(CONTINUATION, 0, s, &literal("x-more", "and more").repeat(100))).boxed()
    }),
    ("1xx for ever", Must::Fail(&["timeout: no answer", "answer: ", "connection: "]), |w, s| {
        let early = [0x08, 3, b'1', b'0', b'3'];
        flood(w, Vec::new(), frame(HEADERS, END_HEADERS, s, &early).repeat(16)).boxed()
    }),
    ("a body before its head", Must::Fail(ANSWER), |w, s| hold(w, frame(DATA, 0, s, b"hello")).boxed()),
    ("a head without a status", Must::Fail(&["answer: ", "connection: "]), |w, s| {
        hold(w, frame(HEADERS, END_HEADERS | END_STREAM, s, &literal("a", "b"))).boxed()
    }),
    ("a name in large letters", Must::Fail(ANSWER), |w, s| hold(w, head(s, END_STREAM, &[("Large", "b")])).boxed()),
    ("a header of HTTP/1.1", Must::Fail(ANSWER), |w, s| {
        hold(w, head(s, END_STREAM, &[("transfer-encoding", "chunked")])).boxed()
    }),
    ("an index that is none", Must::Fail(ANSWER), |w, s| {
        hold(w, frame(HEADERS, END_HEADERS, s, &[0xff, 0xff, 0xff, 0x07])).boxed()
    }),
    ("a frame that is too large", Must::Fail(ANSWER), |w, s| hold(w, frame(DATA, 0, s, &vec![0; 1 << 17])).boxed()),
    ("another stream than ours", Must::Fail(ANSWER), |w, _| hold(w, head(99, END_STREAM, &[])).boxed()),
    ("a promise that nobody asked for", Must::Fail(ANSWER), |w, s| {
        hold(w, frame(5, END_HEADERS, s, &[&2_u32.to_be_bytes(), STATUS_200].concat())).boxed()
    }),
    ("a window that grows too large", Must::Fail(ANSWER), |w, _| {
        let wide = 0x7fff_ffff_u32.to_be_bytes();
        hold(w, frame(WINDOW_UPDATE, 0, 0, &wide).repeat(2)).boxed()
    }),
    ("a window that grows by nothing", Must::Fail(ANSWER), |w, _| hold(w, frame(WINDOW_UPDATE, 0, 0, &[0; 4])).boxed()),
    ("settings that are none", Must::Fail(ANSWER), |w, _| hold(w, frame(SETTINGS, 0, 0, &[1, 2, 3])).boxed()),
    ("settings for ever", Must::Fail(&["timeout: no answer", "answer: ", "connection: "]), |w, _| {
        flood(w, Vec::new(), frame(SETTINGS, 0, 0, &[]).repeat(64)).boxed()
    }),
    ("pings for ever", Must::Fail(&["timeout: no answer", "answer: ", "connection: "]), |w, _| {
        flood(w, Vec::new(), frame(PING, 0, 0, &[7; 8]).repeat(64)).boxed()
    }),
    ("unknown frames for ever", Must::Fail(&["timeout: no answer", "answer: ", "connection: "]), |w, s| {
        flood(w, Vec::new(), frame(0x77, 0, s, &[7; 64]).repeat(64)).boxed()
    }),
    ("garbage", Must::Fail(ANSWER), |w, _| hold(w, vec![0xee; 4096]).boxed()),
    ("an answer in HTTP/1.1", Must::Fail(ANSWER), |w, _| {
        hold(w, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec()).boxed()
    }),
    ("a failure whose body stalls", Must::Fail(&["status 500"]), |w, s| {
        // `:status: 500` of the static table.
        hold(w, frame(HEADERS, END_HEADERS, s, &[0x8e])).boxed()
    }),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_hostile_answer_over_http_2_ends_in_time_as_the_right_outcome() {
    let authority = Authority::new();
    let bench = Bench::new();
    let rows = ROWS.iter().map(|(what, must, malice)| {
        let (bench, authority) = (&bench, &authority);
        async move {
            let receiver = secured(authority.certify(|_| {}).acceptor(&["h2"]), move |mut wire, _| async move {
                if let Some(stream) = read_stream(&mut wire, &[]).await {
                    malice(wire, stream).await;
                }
            })
            .await;
            let webhook = webhook(bench, &receiver, authority);
            let reported = timeout(BOUND, send(&webhook)).await.unwrap_or_else(|_| panic!("{what}: no end in time"));
            match must {
                Must::Arrive => assert!(matches!(reported.one(), Outcome::Delivered(_)), "{what}: {reported:?}"),
                Must::End(_) if matches!(reported.one(), Outcome::Delivered(_)) => {}
                Must::Fail(errors) | Must::End(errors) => {
                    assert!(matches!(reported.one(), Outcome::Retry { .. }), "{what}: {reported:?}");
                    assert!(errors.iter().any(|e| reported.error().starts_with(e)), "{what}: {reported:?}");
                }
            }
            assert_eq!(receiver.connections(), 1, "{what}: the request was sent more than once");
        }
    });
    join_all(rows).await;
}

#[tokio::test]
async fn a_receiver_that_opens_no_window_ends_in_time() {
    // SETTINGS_INITIAL_WINDOW_SIZE (4) = 0: no byte of a body may be sent.
    let authority = Authority::new();
    let receiver = secured(authority.certify(|_| {}).acceptor(&["h2"]), |mut wire, _| async move {
        read_stream(&mut wire, &[0, 4, 0, 0, 0, 0]).await;
        sleep(Duration::from_secs(60)).await;
    })
    .await;
    let bench = Bench::new();
    let large = vec![delivery(1, 1, vec![b'x'; 1 << 20])];
    let reported = timeout(BOUND, deliver(&webhook(&bench, &receiver, &authority), large)).await.unwrap();
    assert!(reported.error().starts_with("timeout: no answer"), "{reported:?}");
}

#[tokio::test]
async fn a_connection_that_is_given_up_is_closed_though_nobody_reads_what_was_sent_on_it() {
    let authority = Authority::new();
    let (closed, attempts) = (Arc::new(AtomicUsize::new(0)), 3);
    let counted = Arc::clone(&closed);
    let receiver = secured(authority.certify(|_| {}).acceptor(&["h2"]), move |mut wire, _| {
        let closed = Arc::clone(&counted);
        async move {
            let mut preface = [0; 24];
            wire.read_exact(&mut preface).await.unwrap();
            // Windows for all of the body (RFC 9113 section 6.9.1), and from here on nothing is read.
            let most = 0x7fff_ffff_u32;
            let settings = frame(SETTINGS, 0, 0, &[&[0, 4][..], &most.to_be_bytes()].concat());
            let window = frame(WINDOW_UPDATE, 0, 0, &(most - 65_535).to_be_bytes());
            let _ = wire.write_all(&[settings, window].concat()).await;
            for _ in 0..2_000 {
                // Whoever is gone refuses it.
                let said = wire.write_all(&frame(PING, 0, 0, &[0; 8])).await;
                if said.is_err() || wire.flush().await.is_err() {
                    closed.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                sleep(Duration::from_millis(10)).await;
            }
        }
    })
    .await;
    let bounds = Bounds { idle_time_max: Duration::from_millis(50), ..Bounds::default() };
    let bench = Bench::with(Parts { guard: loopback(), bounds, ..Parts::default() });
    let webhook = webhook(&bench, &receiver, &authority);
    for _ in 0..attempts {
        let large = vec![delivery(1, 1, vec![b'x'; 16 << 20])];
        let reported = timeout(BOUND, deliver(&webhook, large)).await.unwrap();
        assert!(reported.error().starts_with("timeout: no answer"), "{reported:?}");
    }
    assert_eq!(receiver.connections(), attempts);
    let all = async {
        while closed.load(Ordering::SeqCst) < attempts {
            sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(timeout(Duration::from_secs(4), all).await.is_ok(), "open still: all but {closed:?}");
}
