//! Places at one receiver: shared out fairly among subscriptions, and a message says when it was sent, not when it began
//! to wait for one.

use crate::receiver::{Receiver, Request, read_request};
use crate::secure::{Authority, RST_STREAM, frame, ok, read_stream, secured, serve_http_2};
use crate::sending::{Bench, NOW, SECRET, deliver, delivery, loopback, send};
use futures_util::future::{FutureExt as _, join_all};
use posthaste_deliverees::http::{Bounds, Parts};
use posthaste_deliverees::webhook::sign::{Received, Secret};
use posthaste_events::Outcome;
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::time::sleep;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn narrow(open_per_host_max: usize) -> Bench {
    let bounds = Bounds { open_per_host_max, ..Bounds::default() };
    Bench::with(Parts { guard: loopback(), bounds, ..Parts::default() })
}

/// The time of a message whose signature holds.
fn signed_at(request: &Request) -> i64 {
    let header = |name: &str| request.headers.get(name).map(String::as_str);
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
    let at = timestamp.unwrap().parse().unwrap();
    let received = Received { id, timestamp, signature: header("webhook-signature"), body: &request.body };
    received.verify(&Secret::parse(SECRET).unwrap(), at).unwrap();
    at
}

#[tokio::test]
async fn who_waited_for_a_place_is_signed_with_the_time_of_its_own_sending() {
    let bench = narrow(1);
    let clock = Arc::clone(&bench.clock);
    let receiver = Receiver::at("127.0.0.1", move |mut stream, seen| {
        let clock = Arc::clone(&clock);
        async move {
            while let Some(request) = read_request(&mut stream).await {
                seen.keep(request);
                // The other one waits meanwhile.
                sleep(Duration::from_millis(50)).await;
                clock.0.fetch_add(50, Ordering::SeqCst);
                let _ = stream.write_all(OK).await;
            }
        }
    })
    .await;
    let webhook = bench.webhook(&receiver.url(), json!({}));
    let both = join_all([send(&webhook), send(&webhook)]).await;
    assert!(both.iter().all(|one| matches!(one.one(), Outcome::Delivered(_))), "{both:?}");
    assert_eq!(receiver.requests().iter().map(signed_at).collect::<Vec<_>>(), [NOW, NOW + 50]);
}

#[tokio::test]
async fn a_second_try_within_an_attempt_is_signed_anew() {
    let (bench, authority) = (Bench::new(), Authority::new());
    let (clock, times) = (Arc::clone(&bench.clock), Arc::new(Mutex::new(Vec::new())));
    let (kept, count) = (Arc::clone(&times), Arc::new(AtomicUsize::new(0)));
    let receiver = secured(authority.certify(|_| {}).acceptor(&["h2"]), move |mut wire, _| {
        let (clock, kept, first) = (Arc::clone(&clock), Arc::clone(&kept), count.fetch_add(1, Ordering::SeqCst) == 0);
        async move {
            if first {
                let stream = read_stream(&mut wire, &[]).await.unwrap();
                clock.0.fetch_add(7, Ordering::SeqCst);
                // REFUSED_STREAM: nobody took it up (RFC 9113 section 8.7).
                let _ = wire.write_all(&frame(RST_STREAM, 0, stream, &7_u32.to_be_bytes())).await;
                sleep(Duration::from_secs(60)).await;
            }
            serve_http_2(wire, move |request| {
                let header = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap());
                let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
                let signature = header("webhook-signature");
                let at = timestamp.unwrap().parse().unwrap();
                let received = Received { id, timestamp, signature, body: request.body() };
                kept.lock().unwrap().push((at, received.verify(&Secret::parse(SECRET).unwrap(), at)));
                async { ok("ok") }.boxed()
            })
            .await;
        }
    })
    .await;
    let url = format!("https://{}/", receiver.address);
    let reported = send(&bench.webhook(&url, json!({ "ca": authority.pem() }))).await;
    assert!(matches!(reported.one(), Outcome::Delivered(_)), "{reported:?}");
    assert_eq!((receiver.connections(), times.lock().unwrap().as_slice()), (2, &[(NOW + 7, Ok(()))][..]));
}

/// Which request of a few, that come while many of another subscription wait for the two places, arrived as which; `one`
/// says whether both are one subscription.
async fn arrived_as(one: bool) -> Vec<usize> {
    let receiver = Receiver::at("127.0.0.1", |mut stream, seen| async move {
        while let Some(request) = read_request(&mut stream).await {
            seen.keep(request);
            sleep(Duration::from_millis(5)).await;
            if stream.write_all(OK).await.is_err() {
                return;
            }
        }
    })
    .await;
    let bench = narrow(2);
    let patient =
        |path: &str| bench.webhook(&format!("http://{}/{path}", receiver.address), json!({ "timeout": "60s" }));
    let (flood, other) = (patient("flood"), patient("other"));
    let marked = |batch: u32| deliver(&flood, vec![delivery(1, batch, "{}")]);
    let flooding = join_all((0..40).map(|_| marked(1)));
    let few = async {
        // By now all of the flood wait.
        while receiver.requests().is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
        if one {
            join_all((0..3).map(|_| marked(2))).await
        } else {
            let second = |_| deliver(&other, vec![delivery(1, 2, "{}")]);
            join_all((0..3).map(second)).await
        }
    };
    let (flooding, few) = tokio::join!(flooding, few);
    assert!(flooding.iter().chain(&few).all(|one| matches!(one.one(), Outcome::Delivered(_))));
    assert_eq!(receiver.connections(), 2);
    let requests = receiver.requests();
    let places = requests.iter().enumerate().filter(|(_, request)| request.headers["posthaste-attempt"] == "2");
    places.map(|(at, _)| at).collect()
}

#[tokio::test]
async fn a_flood_of_one_subscription_does_not_go_before_the_few_of_another_to_the_same_host() {
    let fair = arrived_as(false).await;
    assert!(fair.len() == 3 && fair.iter().all(|at| *at <= 8), "{fair:?}");
    // The control: of one subscription they come last.
    let unfair = arrived_as(true).await;
    assert!(unfair.len() == 3 && unfair.iter().all(|at| *at >= 38), "{unfair:?}");
}
