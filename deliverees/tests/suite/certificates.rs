//! Certificates, good and bad: each bad one is refused before a request leaves, and the attempt says which it is.

use crate::receiver::{Receiver, read_request};
use crate::secure::{Authority, Identity, secured};
use crate::sending::{Answers, Bench, loopback, send};
use posthaste_deliverees::http::Parts;
use posthaste_events::Outcome;
use rcgen::date_time_ymd;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

async fn receiver(identity: &Identity) -> Receiver {
    secured(identity.acceptor(&["http/1.1"]), |mut stream, seen| async move {
        while let Some(request) = read_request(&mut stream).await {
            seen.keep(request);
            if stream.write_all(OK.as_bytes()).await.is_err() {
                return;
            }
        }
    })
    .await
}

fn bench() -> Bench {
    let resolver = Answers::of(&[&["127.0.0.1"]]);
    Bench::with(Parts { guard: loopback(), resolver, ..Parts::default() })
}

/// A webhook to `host` at the port of the receiver.
async fn reported(bench: &Bench, receiver: &Receiver, host: &str, more: Value) -> crate::sending::Reported {
    send(&bench.webhook(&format!("https://{host}:{}/", receiver.address.port()), more)).await
}

#[tokio::test]
async fn each_bad_certificate_is_refused_and_named() {
    let (authority, other, namesake) = (Authority::new(), Authority::named("Another authority"), Authority::new());
    let expired = authority.certify(|params| {
        (params.not_before, params.not_after) = (date_time_ymd(2019, 1, 1), date_time_ymd(2020, 1, 1));
    });
    let early = authority.certify(|params| {
        (params.not_before, params.not_after) = (date_time_ymd(2200, 1, 1), date_time_ymd(2201, 1, 1));
    });
    let client_only = authority.certify(|params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    });
    let authoritative = Identity::self_signed(|params| {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    });
    let rows = [
        ("expired", expired, "receiver.test", "tls: the certificate expired at 2020-01-01T00:00:00.000Z"),
        ("early", early, "receiver.test", "tls: the certificate is not valid before 2200-01-01T00:00:00.000Z"),
        (
            "another host",
            authority.certify(|_| {}),
            "other.test",
            "tls: the certificate is for another host: not for other.test, but ",
        ),
        (
            "another address",
            authority.certify(|_| {}),
            "127.0.0.2",
            "tls: the certificate is for another host: not for 127.0.0.2, but ",
        ),
        (
            "unknown authority",
            other.certify(|_| {}),
            "receiver.test",
            "tls: the certificate is from an authority that is not trusted",
        ),
        (
            "an authority of the same name",
            namesake.certify(|_| {}),
            "receiver.test",
            "tls: the certificate is not signed by the authority that it names, or by one of that name that is not trusted",
        ),
        (
            "self-signed",
            Identity::self_signed(|_| {}),
            "receiver.test",
            "tls: the certificate is self-signed, and not trusted",
        ),
        (
            "self-signed authority",
            authoritative,
            "receiver.test",
            "tls: the certificate is self-signed, and not trusted",
        ),
        ("for clients", client_only, "receiver.test", "tls: the certificate is not accepted: "),
    ];
    let bench = bench();
    for (what, identity, host, error) in rows {
        let receiver = receiver(&identity).await;
        let listener = if host == "127.0.0.2" {
            // The same receiver under another address of this machine.
            Some(tokio::net::TcpListener::bind(("127.0.0.2", receiver.address.port())).await.unwrap())
        } else {
            None
        };
        let second = listener.map(|listener| {
            let acceptor = identity.acceptor(&["http/1.1"]);
            Receiver::on(listener, move |stream, _| {
                let acceptor = acceptor.clone();
                async move { drop(acceptor.accept(stream).await) }
            })
        });
        let reported = reported(&bench, &receiver, host, json!({ "ca": authority.pem() })).await;
        assert!(matches!(reported.one(), Outcome::Retry { .. }), "{what}: {reported:?}");
        assert!(reported.error().starts_with(error), "{what}: {reported:?}");
        assert_eq!(reported.one().detail().class(), Some("tls"), "{what}");
        assert!(!reported.error().contains("DnsName"), "{what}: {reported:?}");
        assert_eq!(receiver.requests().len() + second.map_or(0, |s| s.requests().len()), 0, "{what}: a request left");
    }
}

#[tokio::test]
async fn whom_nobody_trusts_is_trusted_where_the_subscription_says_so() {
    let authority = Authority::new();
    let bench = bench();
    let good = receiver(&authority.certify(|_| {})).await;
    let own = receiver(&Identity::self_signed(|_| {})).await;
    let trusting = json!({ "ca": authority.pem() });
    assert!(matches!(reported(&bench, &good, "receiver.test", trusting.clone()).await.one(), Outcome::Delivered(_)));
    // The control: without it the same is refused; and it opens nothing but what it signed.
    for (receiver, more) in [(&good, json!({})), (&own, trusting)] {
        let refused = reported(&bench, receiver, "receiver.test", more).await;
        assert_eq!(refused.one().detail().class(), Some("tls"), "{refused:?}");
    }
    let anybody = json!({ "dangerous_accept_invalid_certificates": true });
    for host in ["receiver.test", "other.test"] {
        let reported = reported(&bench, &own, host, anybody.clone()).await;
        assert!(matches!(reported.one(), Outcome::Delivered(_)), "{reported:?}");
    }
    assert_eq!((good.requests().len(), own.requests().len()), (1, 2));
}

#[tokio::test]
async fn no_connection_is_shared_across_different_choices_of_whom_to_trust() {
    let authority = Authority::new();
    let bench = bench();
    let receiver = receiver(&authority.certify(|_| {})).await;
    let trusting = json!({ "ca": authority.pem() });
    let anybody = json!({ "dangerous_accept_invalid_certificates": true });
    for (more, connections) in [(&anybody, 1), (&trusting, 2), (&anybody, 2), (&trusting, 2)] {
        let reported = reported(&bench, &receiver, "receiver.test", more.clone()).await;
        assert!(matches!(reported.one(), Outcome::Delivered(_)), "{reported:?}");
        assert_eq!(receiver.connections(), connections);
    }
    // Who trusts nobody in particular gets none of them.
    let refused = reported(&bench, &receiver, "receiver.test", json!({})).await;
    assert_eq!(refused.one().detail().class(), Some("tls"), "{refused:?}");
}

#[tokio::test]
async fn a_handshake_has_a_time_of_its_own() {
    let authority = Authority::new();
    let receiver = receiver(&authority.certify(|_| {})).await;
    let reported = reported(&bench(), &receiver, "receiver.test", json!({ "ca": authority.pem() })).await;
    let trace = reported.one().detail().trace.clone().unwrap();
    assert!(trace.dns.is_some() && trace.connect.is_some() && trace.tls.is_some() && trace.first_byte.is_some());
}
