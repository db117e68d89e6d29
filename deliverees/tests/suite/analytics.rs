//! The analytics deliveree against real sockets: what arrives, and what each answer means for each event.

use crate::anonymous::{
    BAD, CANARY, POSTED, anonymous, batch, body, collector, deliver, deliver_within, has_bad, ok, origin, posting,
    restored, status,
};
use crate::receiver::{Receiver, Request};
use crate::sending::{Bench, NOW, Reported};
use posthaste_events::{Outcome, Signal, Ticket};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;

/// Which events came out so, by their number.
fn those(reported: &Reported, fits: impl Fn(&Outcome) -> bool) -> Vec<usize> {
    let mut those: Vec<usize> =
        reported.outcomes.iter().filter(|(_, outcome)| fits(outcome)).map(|(Ticket(n), _)| *n).collect();
    those.sort_unstable();
    those
}

fn delivered(reported: &Reported) -> Vec<usize> {
    those(reported, |outcome| matches!(outcome, Outcome::Delivered(_)))
}

fn rejected(reported: &Reported) -> Vec<usize> {
    those(reported, |outcome| matches!(outcome, Outcome::Rejected(_)))
}

fn put_off(reported: &Reported) -> Vec<usize> {
    those(reported, |outcome| matches!(outcome, Outcome::Retry { .. }))
}

fn unattempted(reported: &Reported) -> Vec<usize> {
    those(reported, |outcome| matches!(outcome, Outcome::Unattempted(_)))
}

fn errors(reported: &Reported) -> BTreeSet<&str> {
    reported.outcomes.iter().filter_map(|(_, outcome)| outcome.detail().error.as_deref()).collect()
}

fn json_of(request: &Request) -> Value {
    serde_json::from_slice(&body(request)).unwrap()
}

#[tokio::test]
async fn one_bad_event_among_a_hundred_costs_itself_alone_whatever_the_backend() {
    let bench = Bench::new();
    for backend in POSTED {
        for (refusal, bad) in [(400, 1), (413, 37), (422, 100)] {
            let collector = collector(move |r| status(if has_bad(r) { refusal } else { 200 })).await;
            let to = posting(&bench, backend, &origin(&collector), json!({}));
            let reported = deliver(&to, batch(100, &[bad])).await;
            let bad = usize::try_from(bad).unwrap();
            assert_eq!(rejected(&reported), [bad], "{backend} {refusal}");
            assert_eq!(delivered(&reported).len(), 99, "{backend} {refusal}");
            let one = &reported.outcomes.iter().find(|(Ticket(n), _)| *n == bad).unwrap().1;
            assert_eq!(one.detail().status, Some(refusal));
            assert_eq!(one.detail().error, Some(format!("status {refusal}")));
            let requests = collector.requests();
            // One for the batch, two for each of the seven halvings.
            assert!(requests.len() <= 1 + 2 * 7, "{}", requests.len());
            // Each good event was taken once.
            let taken: Vec<Vec<u8>> = requests.iter().filter(|r| !has_bad(r)).map(body).collect();
            for event in batch(100, &[]).iter().filter(|event| event.ticket != Ticket(bad)) {
                let id = event.payload.id().as_bytes();
                let times: usize = taken.iter().map(|b| b.windows(id.len()).filter(|w| *w == id).count()).sum();
                assert_eq!(times, 1, "{backend}");
            }
            assert_eq!(collector.connections(), 1);
        }
        // Without a bad one it is a single request.
        let collector = collector(|r| status(if has_bad(r) { 400 } else { 200 })).await;
        let to = posting(&bench, backend, &origin(&collector), json!({}));
        assert_eq!(delivered(&deliver(&to, batch(100, &[])).await).len(), 100);
        assert_eq!(collector.requests().len(), 1);
    }
}

#[tokio::test]
async fn where_all_are_bad_each_dies_by_itself_within_twice_as_many_requests() {
    let collector = collector(|r| status(if has_bad(r) { 400 } else { 200 })).await;
    let to = posting(&Bench::new(), "http", &origin(&collector), json!({}));
    assert_eq!(delivered(&deliver(&to, batch(1, &[])).await), [1]);
    let all: Vec<u64> = (1..=20).collect();
    let reported = deliver(&to, batch(20, &all)).await;
    assert_eq!(rejected(&reported), (1..=20).collect::<Vec<_>>());
    assert_eq!(collector.requests().len(), 1 + 39);
}

#[tokio::test]
async fn a_receiver_that_never_took_anything_kills_nothing_and_is_soon_left() {
    let bench = Bench::new();
    for backend in POSTED {
        for refusal in [400, 413, 422] {
            let collector = collector(move |_| status(refusal)).await;
            let to = posting(&bench, backend, &origin(&collector), json!({}));
            for (count, requests) in [(100, 13), (2, 3), (1, 1)] {
                let before = collector.requests().len();
                let reported = deliver(&to, batch(count, &[])).await;
                assert_eq!(put_off(&reported).len(), usize::try_from(count).unwrap(), "{backend} {refusal}");
                let words = format!("status {refusal}, from a receiver that has taken nothing so far");
                assert_eq!(errors(&reported), BTreeSet::from([words.as_str()]));
                assert!(reported.outcomes.iter().all(|(_, o)| o.detail().status == Some(refusal)));
                assert!(collector.requests().len() - before <= requests, "{count}: {}", collector.requests().len());
            }
        }
    }
}

#[tokio::test]
async fn what_a_receiver_took_before_makes_its_refusals_count_until_the_deliveree_is_made_anew() {
    let bench = Bench::new();
    let collector = collector(|r| status(if has_bad(r) { 422 } else { 200 })).await;
    let make = || posting(&bench, "http", &origin(&collector), json!({}));
    let to = make();
    assert_eq!(put_off(&deliver(&to, batch(1, &[1])).await), [1]);
    assert_eq!(delivered(&deliver(&to, batch(1, &[])).await), [1]);
    assert_eq!(rejected(&deliver(&to, batch(1, &[1])).await), [1]);
    assert_eq!(put_off(&deliver(&make(), batch(1, &[1])).await), [1]);
    // What was doubted first counts once the same call has brought something.
    let reported = deliver(&make(), batch(8, &[1, 2, 7])).await;
    assert_eq!((rejected(&reported), delivered(&reported)), (vec![1, 2, 7], vec![3, 4, 5, 6, 8]));
}

#[tokio::test]
async fn what_a_halving_does_not_reach_in_time_is_tried_again_and_only_what_was_sent_pays() {
    let count = Arc::new(AtomicUsize::new(0));
    // The first three requests are refused, from then on nothing is answered.
    let collector =
        collector(move |_| if count.fetch_add(1, Ordering::SeqCst) < 3 { status(400) } else { String::new() }).await;
    let to = posting(&Bench::new(), "http", &origin(&collector), json!({ "timeout": "1s" }));
    let reported = deliver(&to, batch(8, &[])).await;
    assert_eq!((put_off(&reported), unattempted(&reported)), (vec![1], (2..=8).collect()), "{reported:?}");
    assert_eq!(collector.requests().len(), 4);
    let errors = errors(&reported);
    assert!(errors.iter().any(|e| e.starts_with("timeout: no answer within")), "{errors:?}");
    assert!(errors.iter().any(|e| e.starts_with("not sent, after another: timeout:")), "{errors:?}");
}

#[tokio::test]
async fn where_the_first_request_is_never_answered_its_events_pay_and_the_others_do_not() {
    let silent = collector(|_| Vec::new()).await;
    let more = json!({ "timeout": "300ms", "batch": { "events": 4 } });
    let to = posting(&Bench::new(), "http", &origin(&silent), more);
    let reported = deliver(&to, batch(10, &[])).await;
    assert_eq!((put_off(&reported), unattempted(&reported)), ((1..=4).collect(), (5..=10).collect()));
    // Not even a call without any time is free, or its events would come for ever.
    let none = deliver_within(&to, batch(10, &[]), Duration::ZERO).await;
    assert_eq!((put_off(&none), unattempted(&none)), ((1..=4).collect(), (5..=10).collect()));
}

#[tokio::test]
async fn a_failure_that_holds_for_all_is_paid_by_all() {
    let bench = Bench::new();
    let gone = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let failing = collector(|_| status(503)).await;
    for url in [gone, origin(&failing)] {
        let to = posting(&bench, "http", &url, json!({ "batch": { "events": 4 } }));
        assert_eq!(put_off(&deliver(&to, batch(10, &[])).await).len(), 10, "{url}");
    }
    assert_eq!(failing.requests().len(), 1);
}

#[tokio::test]
async fn too_many_requests_put_all_off_and_slow_the_subscription_down() {
    let bench = Bench::new();
    for backend in POSTED {
        for code in [429, 502, 503, 504] {
            let collector =
                collector(move |_| format!("HTTP/1.1 {code} X\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n")).await;
            // Three requests' worth of events: after the first answer no other is sent.
            let to = posting(&bench, backend, &origin(&collector), json!({ "batch": { "events": 4 } }));
            let reported = deliver(&to, batch(10, &[])).await;
            let seven = Duration::from_secs(7);
            let waits = |o: &Outcome| matches!(o, Outcome::Retry { after: Some(after), .. } if *after == seven);
            assert_eq!(those(&reported, waits).len(), 10, "{backend} {code}: {reported:?}");
            assert_eq!(reported.signals, [Signal::SlowDown(seven)]);
            assert_eq!(collector.requests().len(), 1);
        }
    }
}

#[tokio::test]
async fn a_status_that_settings_may_mend_puts_all_off() {
    let bench = Bench::new();
    for backend in POSTED {
        for code in [301, 302, 307, 401, 403, 404, 405] {
            let elsewhere = Receiver::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            let to = origin(&elsewhere);
            let answer = format!("HTTP/1.1 {code} X\r\nlocation: {to}/\r\ncontent-length: 0\r\n\r\n");
            let collector = collector(move |_| answer.clone()).await;
            let reported = deliver(&posting(&bench, backend, &origin(&collector), json!({})), batch(5, &[])).await;
            assert_eq!(put_off(&reported).len(), 5, "{backend} {code}: {reported:?}");
            assert_eq!(errors(&reported), BTreeSet::from([format!("status {code}").as_str()]));
            assert_eq!((collector.requests().len(), elsewhere.connections()), (1, 0));
        }
    }
}

#[tokio::test]
async fn a_500_is_tried_again_but_by_otlp_which_must_not() {
    let bench = Bench::new();
    for backend in POSTED {
        let collector = collector(|_| status(500)).await;
        let reported = deliver(&posting(&bench, backend, &origin(&collector), json!({})), batch(5, &[])).await;
        let (dead, again) = if backend == "otlp" { (5, 0) } else { (0, 5) };
        assert_eq!((rejected(&reported).len(), put_off(&reported).len()), (dead, again), "{backend}");
        assert_eq!(collector.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_410_disables_the_subscription() {
    let collector = collector(|_| status(410)).await;
    let reported = deliver(&posting(&Bench::new(), "http", &origin(&collector), json!({})), batch(3, &[])).await;
    assert_eq!(put_off(&reported).len(), 3);
    assert!(matches!(reported.signals.as_slice(), [Signal::Disable(_)]));
}

#[tokio::test]
async fn what_never_becomes_an_answer_is_tried_again() {
    let bench = Bench::new();
    for backend in POSTED {
        let silent = collector(|_| Vec::new()).await;
        let broken = Receiver::at("127.0.0.1", |mut stream, _| async move {
            let _ = crate::receiver::read_request(&mut stream).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhalf").await;
        })
        .await;
        let garbage = collector(|_| "SMTP ready\r\n\r\n".to_owned()).await;
        let gone = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            format!("http://{}", listener.local_addr().unwrap())
        };
        for (url, timeout, word) in [
            (origin(&silent), "300ms", "timeout: no answer"),
            (origin(&broken), "3s", "body: "),
            (origin(&garbage), "3s", "answer: "),
            (gone, "3s", "connect: Connection refused"),
        ] {
            let to = posting(&bench, backend, &url, json!({ "timeout": timeout }));
            let reported = deliver(&to, batch(3, &[])).await;
            assert_eq!(put_off(&reported).len(), 3, "{backend} {word}: {reported:?}");
            assert!(errors(&reported).iter().all(|e| e.starts_with(word)), "{reported:?}");
        }
    }
}

#[tokio::test]
async fn a_huge_answer_counts_by_its_status_unless_it_might_name_somebody_and_little_of_it_is_kept() {
    let huge = format!("HTTP/1.1 200 OK\r\ncontent-length: 9000000\r\n\r\n{}", "a".repeat(9_000_000));
    let collector = collector(move |_| huge.clone()).await;
    for backend in POSTED {
        let reported = deliver(&posting(&Bench::new(), backend, &origin(&collector), json!({})), batch(2, &[])).await;
        if backend == "http" {
            // Behind the cut it might name somebody.
            assert_eq!(put_off(&reported).len(), 2);
            assert_eq!(errors(&reported), BTreeSet::from(["answer: longer than is read"]));
        } else {
            assert_eq!(delivered(&reported).len(), 2, "{backend}");
        }
        assert!(reported.outcomes.iter().all(|(_, o)| o.detail().answer.as_ref().unwrap().len() == 2_048));
    }
}

#[tokio::test]
async fn a_partial_success_of_otlp_is_never_sent_again_and_its_words_are_kept() {
    // ExportLogsServiceResponse { partial_success: { rejected_log_records: 2, error_message: "too old" } }
    let said = b"\x0a\x0b\x08\x02\x12\x07too old";
    let answer = [b"HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n", &said[..]].concat();
    let collector = collector(move |_| answer.clone()).await;
    let reported = deliver(&posting(&Bench::new(), "otlp", &origin(&collector), json!({})), batch(5, &[])).await;
    assert_eq!(delivered(&reported).len(), 5);
    let words = "partial success: 2 of the request's events were rejected: too old";
    assert_eq!(errors(&reported), BTreeSet::from([words]));
    assert_eq!(collector.requests().len(), 1);
}

#[tokio::test]
async fn a_project_of_posthog_over_its_quota_is_no_success() {
    let collector = collector(|_| ok(r#"{"status":1,"quota_limited":["events"]}"#)).await;
    let to = posting(&Bench::new(), "posthog", &origin(&collector), json!({}));
    let reported = deliver(&to, batch(3, &[])).await;
    assert_eq!(put_off(&reported).len(), 3);
    assert!(errors(&reported).iter().all(|e| e.starts_with("quota: ")), "{reported:?}");
}

#[tokio::test]
async fn a_collector_that_names_the_bad_ones_needs_no_halving() {
    let bench = Bench::new();
    for (code, requests) in [(200, 1), (422, 2)] {
        let collector = collector(move |request| {
            let sent = json_of(request);
            let bad = sent["batch"].as_array().unwrap().iter().filter(|event| event["event"] == BAD);
            let named: Vec<Value> = bad.map(|event| json!({ "id": event["id"], "reason": "odd" })).collect();
            let said = json!({ "rejected": named }).to_string();
            let code = if named.is_empty() { 200 } else { code };
            format!("HTTP/1.1 {code} X\r\ncontent-length: {}\r\n\r\n{said}", said.len())
        })
        .await;
        let to = posting(&bench, "http", &origin(&collector), json!({}));
        let reported = deliver(&to, batch(50, &[3, 40])).await;
        assert_eq!((rejected(&reported), delivered(&reported).len()), (vec![3, 40], 48), "{reported:?}");
        assert_eq!(errors(&reported), BTreeSet::from(["refused: odd"]));
        assert_eq!(collector.requests().len(), requests, "{code}");
    }
}

#[tokio::test]
async fn a_long_body_is_compressed_and_a_short_one_is_not() {
    let bench = Bench::new();
    for (backend, more, count, compressed) in [
        ("posthog", json!({}), 100, true),
        ("otlp", json!({}), 100, true),
        // Longer than what is compressed on the spot.
        ("posthog", json!({ "batch": { "events": 400 } }), 400, true),
        ("http", json!({ "gzip": true }), 100, true),
        ("http", json!({}), 100, false),
        ("posthog", json!({ "gzip": false }), 100, false),
        ("posthog", json!({}), 1, false),
    ] {
        let collector = collector(|_| status(200)).await;
        let to = posting(&bench, backend, &origin(&collector), more.clone());
        assert_eq!(delivered(&deliver(&to, batch(count, &[])).await).len(), usize::try_from(count).unwrap());
        let requests = collector.requests();
        assert_eq!(requests.len(), 1);
        let encoding = requests[0].headers.get("content-encoding").map(String::as_str);
        assert_eq!(encoding == Some("gzip"), compressed, "{backend} {more} {count}");
        if compressed {
            assert!(requests[0].body.len() * 2 < body(&requests[0]).len());
        }
        if backend != "otlp" {
            assert_eq!(json_of(&requests[0])["batch"].as_array().unwrap().len(), usize::try_from(count).unwrap());
        }
    }
}

#[tokio::test]
async fn an_event_that_is_too_large_dies_alone_and_is_never_sent() {
    let bench = Bench::new();
    let large = format!(
        r#"{{"event":"shop:sold","event_properties":{{"x":"{}"}},"derived_properties":{{}}}}"#,
        "y".repeat(4_000)
    );
    for backend in POSTED {
        let collector = collector(|_| status(200)).await;
        let to = posting(&bench, backend, &origin(&collector), json!({ "event_max": "2KiB" }));
        let events = vec![anonymous("shop:sold", 1), restored(large.as_bytes(), 2), anonymous("shop:sold", 3)];
        let reported = deliver(&to, events).await;
        assert_eq!((delivered(&reported), rejected(&reported)), (vec![1, 3], vec![2]), "{backend}");
        assert!(errors(&reported).iter().all(|e| e.starts_with("too large: 4")), "{reported:?}");
        assert!(body(&collector.requests()[0]).len() < 4_000);
        // Alone in its batch, nothing is sent at all.
        assert_eq!(rejected(&deliver(&to, vec![restored(large.as_bytes(), 1)]).await), [1]);
        assert_eq!(collector.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_request_is_no_larger_than_it_may_be() {
    let collector = collector(|_| status(200)).await;
    let batching = json!({ "batch": { "events": 60, "bytes": "4KiB" } });
    let to = posting(&Bench::new(), "http", &origin(&collector), batching);
    assert_eq!((to.limits().events, to.limits().bytes), (60, 4_096));
    assert_eq!(to.limits().wait, Duration::from_secs(1));
    assert_eq!(delivered(&deliver(&to, batch(100, &[])).await).len(), 100);
    let requests = collector.requests();
    let sent: usize = requests.iter().map(|r| json_of(r)["batch"].as_array().unwrap().len()).sum();
    assert_eq!(sent, 100);
    assert!(requests.len() > 5 && requests.iter().all(|r| r.body.len() < 4_096 + 100));
}

#[tokio::test]
async fn a_batch_of_plain_json_is_exactly_what_leaves() {
    let collector = collector(|_| status(200)).await;
    let url = format!("{}/in?a=b", origin(&collector));
    let more = json!({ "key": "s3cret", "headers": { "x-env": "dev" } });
    let to = posting(&Bench::new(), "http", &url, more);
    let event = anonymous("shop:sold", 1);
    let (id, installation) = (event.payload.id().to_owned(), event.payload.installation().to_owned());
    deliver(&to, vec![event]).await;
    let request = &collector.requests()[0];
    let expected = json!({ "batch": [{
        "id": id,
        "time": "2023-11-14T22:00:00.000Z",
        "installation": installation,
        "event": "shop:sold",
        "event_properties": { "shop": { "gift": true, "status": "PAID" } },
        "derived_properties": { "shop": { "items_count": 3 } },
    }] });
    assert_eq!(json_of(request), expected);
    assert_eq!(request.line, "POST /in?a=b HTTP/1.1");
    for (name, value) in [
        ("authorization", "Bearer s3cret"),
        ("content-type", "application/json"),
        ("x-env", "dev"),
        ("user-agent", "Posthaste/0.1"),
    ] {
        assert_eq!(request.headers[name], value);
    }
    assert!(!String::from_utf8_lossy(&request.body).contains(CANARY));
}

#[tokio::test]
async fn a_batch_for_posthog_switches_off_persons_places_and_addresses() {
    let collector = collector(|_| ok(r#"{"status":1}"#)).await;
    let event = anonymous("shop:sold", 1);
    let (id, installation) = (event.payload.id().to_owned(), event.payload.installation().to_owned());
    for base in ["", "/", "/proxy", "/proxy/batch", "/batch/"] {
        let to = posting(&Bench::new(), "posthog", &format!("{}{base}", origin(&collector)), json!({}));
        assert_eq!(delivered(&deliver(&to, vec![event.clone()]).await), [1]);
    }
    let requests = collector.requests();
    let expected = json!({ "api_key": "phc_project", "batch": [{
        "uuid": id,
        "event": "shop:sold",
        "distinct_id": installation,
        "timestamp": "2023-11-14T22:00:00.000Z",
        "properties": {
            "event_properties": { "shop": { "gift": true, "status": "PAID" } },
            "derived_properties": { "shop": { "items_count": 3 } },
            "$process_person_profile": false,
            "$geoip_disable": true,
            "$ip": null,
            "$lib": "posthaste",
            "$lib_version": env!("CARGO_PKG_VERSION"),
        },
    }] });
    assert_eq!(json_of(&requests[0]), expected);
    let lines: Vec<&str> = requests.iter().map(|r| r.line.as_str()).collect();
    let (plain, proxied) = ("POST /batch/ HTTP/1.1", "POST /proxy/batch/ HTTP/1.1");
    assert_eq!(lines, [plain, plain, proxied, proxied, plain]);
    assert!(!requests[0].headers.contains_key("authorization"));
}

#[tokio::test]
async fn a_batch_for_otlp_is_posted_as_logs() {
    let collector = collector(|_| status(200)).await;
    for base in ["", "/", "/otlp", "/otlp/v1/logs"] {
        let more = json!({ "headers": { "authorization": "Basic eA==" } });
        let to = posting(&Bench::new(), "otlp", &format!("{}{base}", origin(&collector)), more);
        assert_eq!(delivered(&deliver(&to, batch(1, &[])).await), [1]);
    }
    let requests = collector.requests();
    let lines: Vec<&str> = requests.iter().map(|r| r.line.as_str()).collect();
    let (plain, inside) = ("POST /v1/logs HTTP/1.1", "POST /otlp/v1/logs HTTP/1.1");
    assert_eq!(lines, [plain, plain, inside, inside]);
    for request in requests {
        assert_eq!(request.headers["content-type"], "application/x-protobuf");
        assert_eq!(request.headers["authorization"], "Basic eA==");
        let sent = String::from_utf8_lossy(&request.body).into_owned();
        for text in ["service.name", "shop:sold", "event_properties.shop.status", "derived_properties.shop.items_count"]
        {
            assert!(sent.contains(text), "{text}");
        }
        assert!(!sent.contains(CANARY));
    }
}

#[tokio::test]
async fn a_refused_address_and_a_resolver_that_is_down_are_told_apart() {
    use crate::sending::Answers;
    use posthaste_deliverees::Guard;
    use posthaste_deliverees::http::{Parts, ResolveError};
    let refused =
        Bench::with(Parts { guard: Guard::default(), resolver: Answers::of(&[&["10.0.0.1"]]), ..Parts::default() });
    let to = posting(&refused, "http", "http://collector.example.com/", json!({}));
    let reported = deliver(&to, batch(3, &[])).await;
    assert_eq!(put_off(&reported).len(), 3);
    assert!(errors(&reported).iter().all(|e| e.starts_with("refused address: 10.0.0.1")), "{reported:?}");
    let down = Err(ResolveError::Resolver("no answer".into()));
    let resolver = Arc::new(Answers(std::sync::Mutex::new([down].into())));
    let down = Bench::with(Parts { resolver, ..Parts::default() });
    let to = posting(&down, "http", "http://collector.example.com/", json!({ "batch": { "events": 2 } }));
    let reported = deliver(&to, batch(3, &[])).await;
    assert_eq!(unattempted(&reported).len(), 3, "{reported:?}");
}

#[tokio::test]
async fn an_event_is_called_the_same_at_every_attempt_and_its_time_is_at_the_grain() {
    let collector = collector(|_| status(503)).await;
    let to = posting(&Bench::new(), "http", &origin(&collector), json!({}));
    for _ in 0..2 {
        deliver(&to, batch(2, &[])).await;
    }
    let requests = collector.requests();
    assert_eq!(requests[0].body, requests[1].body);
    assert_ne!(NOW % 3_600, 0);
    assert_eq!(json_of(&requests[0])["batch"][0]["time"], "2023-11-14T22:00:00.000Z");
}
