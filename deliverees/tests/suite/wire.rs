//! What an attempt tells of the wire: the address, the time of each phase, the class of the error.

use crate::receiver::Receiver;
use crate::sending::{Answers, Bench, loopback, send};
use posthaste_deliverees::http::Parts;
use posthaste_events::Outcome;
use serde_json::json;
use tokio::net::TcpListener;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn named(addresses: &[&str]) -> Bench {
    Bench::with(Parts { guard: loopback(), resolver: Answers::of(&[addresses]), ..Parts::default() })
}

#[tokio::test]
async fn an_attempt_tells_the_address_and_the_time_of_each_phase() {
    let receiver = Receiver::answering(OK).await;
    let bench = named(&["127.0.0.1"]);
    let webhook = bench.webhook(&format!("http://a.example:{}/", receiver.address.port()), json!({}));
    let first = send(&webhook).await;
    let trace = first.one().detail().trace.clone().unwrap();
    assert_eq!(trace.address, Some(receiver.address));
    assert!(trace.dns.is_some() && trace.connect.is_some() && trace.first_byte.is_some(), "{trace:?}");
    assert_eq!(trace.tls, None);
    // A kept connection was neither looked up nor made, yet leads somewhere.
    let second = send(&webhook).await;
    let trace = second.one().detail().trace.clone().unwrap();
    assert_eq!((trace.address, trace.dns, trace.connect), (Some(receiver.address), None, None));
    assert!(trace.first_byte.is_some());
    // An address needs no look-up.
    let literal = send(&bench.webhook(&receiver.url(), json!({}))).await;
    let trace = literal.one().detail().trace.clone().unwrap();
    assert!(trace.dns.is_none() && trace.connect.is_some());
}

#[tokio::test]
async fn a_failed_attempt_tells_as_far_as_it_came() {
    // Nothing listens there.
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let url = format!("http://a.example:{}/", closed.port());
    let reported = send(&named(&["127.0.0.1"]).webhook(&url, json!({}))).await;
    let detail = reported.one().detail();
    let trace = detail.trace.clone().unwrap();
    assert_eq!((detail.class(), trace.address), (Some("connect"), Some(closed)));
    assert!(trace.dns.is_some() && trace.connect.is_none() && trace.first_byte.is_none());
    // What the guard refuses was never dialled, so it is no address of an attempt.
    let reported = send(&named(&["10.0.0.1"]).webhook(&url, json!({}))).await;
    let detail = reported.one().detail();
    assert_eq!((detail.class(), detail.trace.as_ref().unwrap().address), (Some("refused"), None));
    // Who answers nothing has no first byte.
    let silent = Receiver::at("127.0.0.1", |stream, _| async move {
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
        drop(stream);
    })
    .await;
    let reported = send(&named(&["127.0.0.1"]).webhook(&silent.url(), json!({ "timeout": "100ms" }))).await;
    let detail = reported.one().detail();
    let trace = detail.trace.clone().unwrap();
    assert_eq!((detail.class(), trace.address), (Some("timeout"), Some(silent.address)));
    assert!(trace.connect.is_some() && trace.first_byte.is_none(), "{trace:?}");
}

#[tokio::test]
async fn the_failures_of_all_addresses_of_a_name_are_told() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let url = format!("http://a.example:{}/", closed.port());
    let reported = send(&named(&["127.0.0.1", "10.0.0.1", "127.0.0.2"]).webhook(&url, json!({}))).await;
    assert!(matches!(reported.one(), Outcome::Retry { .. }));
    for words in ["connect: ", "127.0.0.1: Connection refused", "127.0.0.2: ", "refused 10.0.0.1 is private"] {
        assert!(reported.error().contains(words), "{words}: {reported:?}");
    }
}
