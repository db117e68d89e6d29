//! The guard where it counts: in front of real sockets, for every spelling, name and turn of a resolver.

use crate::receiver::Receiver;
use crate::sending::{Answers, Bench, SECRET, loopback, send};
use posthaste_deliverees::http::Parts;
use posthaste_deliverees::{Guard, Kinds};
use posthaste_events::Outcome;
use serde_json::json;
use tokio::net::TcpListener;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// Spellings of addresses that are refused; those of this machine itself lead to the listener of the test.
const SPELLINGS: [&str; 68] = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "127.000.000.001",
    "0177.0.0.1",
    "0177.0.0.01",
    "0x7f.0.0.1",
    "0x7f.1",
    "0x7f000001",
    "0X7F000001",
    "2130706433",
    "017700000001",
    "127.0.0.1.",
    "①②⑦.⓪.⓪.①",
    "%31%32%37.0.0.1",
    "127。0。0。1",
    "0",
    "0.0.0.0",
    "0x0",
    "000000000000",
    "127.0.0.2",
    "127.255.255.254",
    "10.0.0.1",
    "10.1",
    "0xa000001",
    "012.0.0.1",
    "167772161",
    "100.64.0.1",
    "169.254.169.254",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "168.63.129.16",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "192.168.257",
    "3232235521",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "[::1]",
    "[::]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[::ffff:0:127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b:1::1]",
    "[2002:7f00:1::]",
    "[2001::1]",
    "[2001:db8::1]",
    "[fd00:ec2::254]",
    "[fc00::1]",
    "[fe80::1]",
    "[fec0::1]",
    "[ff02::1]",
    "[2a00:1450::5efe:10.0.0.1]",
    "[2a00:1450:1:2::a9fe:a9fe]",
    "[100::1]",
    "[3fff::1]",
];

/// Those of them that lead to a listener on loopback where nothing guards.
const LEAD_HERE: [&str; 8] =
    ["127.0.0.1", "127.1", "0177.0.0.1", "0x7f.1", "2130706433", "0.0.0.0", "①②⑦.⓪.⓪.①", "[::ffff:127.0.0.1]"];

/// Receivers at the same port of both families, where there are both.
async fn both_families() -> (u16, Vec<Receiver>) {
    let four = Receiver::answering(OK).await;
    let port = four.address.port();
    let mut receivers = vec![four];
    if let Ok(listener) = TcpListener::bind(("::1", port)).await {
        receivers.push(Receiver::on(listener, |_, _| async {}));
    }
    (port, receivers)
}

fn connections(receivers: &[Receiver]) -> usize {
    receivers.iter().map(Receiver::connections).sum()
}

#[tokio::test]
async fn no_spelling_of_a_refused_address_is_taken_in_a_config_or_dialled() {
    let (port, receivers) = both_families().await;
    let kinds = Kinds::built_in();
    let webhook = kinds.get("webhook").unwrap();
    for host in SPELLINGS {
        let options = json!({ "url": format!("http://{host}:{port}/"), "secrets": [SECRET], "timeout": "1s" });
        let options = options.as_object().unwrap();
        let problems = (webhook.parse)(options, &Guard::default()).unwrap_err();
        assert_eq!(problems.iter().map(|p| p.path.as_str()).collect::<Vec<_>>(), ["url"], "{host}");
        // Past the config all the same, as after a change of the networks that are allowed: the connector judges.
        let parsed = (webhook.parse)(options, &Guard::off()).unwrap();
        let bench = Bench::with(Parts::default());
        let reported = send(&parsed.make(bench.tools.clone())()).await;
        assert!(matches!(reported.one(), Outcome::Retry { .. }), "{host}: {reported:?}");
        assert!(reported.error().starts_with("refused address: "), "{host}: {reported:?}");
    }
    assert_eq!(connections(&receivers), 0);
}

#[tokio::test]
async fn without_the_guard_the_same_spellings_arrive() {
    let (port, receivers) = both_families().await;
    let bench = Bench::with(Parts { guard: Guard::off(), ..Parts::default() });
    for (i, host) in LEAD_HERE.iter().enumerate() {
        assert!(SPELLINGS.contains(host), "{host}");
        let reported = send(&bench.webhook(&format!("http://{host}:{port}/"), json!({}))).await;
        assert!(matches!(reported.one(), Outcome::Delivered(_)), "{host}: {reported:?}");
        assert_eq!(connections(&receivers), i + 1, "{host}");
    }
}

#[tokio::test]
async fn a_name_that_resolves_to_refused_addresses_is_not_dialled() {
    let (port, receivers) = both_families().await;
    let url = format!("http://inside.example:{port}/");
    for addresses in [&["127.0.0.1"][..], &["::1"], &["::ffff:127.0.0.1"], &["169.254.169.254", "127.0.0.1", "::1"]] {
        let resolver = Answers::of(&[addresses]);
        let bench = Bench::with(Parts { resolver, ..Parts::default() });
        let reported = send(&bench.webhook(&url, json!({}))).await;
        assert!(reported.error().starts_with("refused address: "), "{addresses:?}: {reported:?}");
    }
    // The system's own resolver, at a name that it knows.
    let bench = Bench::with(Parts::default());
    let reported = send(&bench.webhook(&format!("http://localhost:{port}/"), json!({}))).await;
    assert!(reported.error().starts_with("refused address: "), "{reported:?}");
    assert_eq!(connections(&receivers), 0);
    // The control: with the guard off the name leads here.
    let bench = Bench::with(Parts { guard: Guard::off(), ..Parts::default() });
    send(&bench.webhook(&format!("http://localhost:{port}/"), json!({}))).await;
    assert!(connections(&receivers) > 0);
}

#[tokio::test]
async fn a_name_that_turns_to_a_refused_address_is_not_followed() {
    // 127.0.0.2 stands for a public address: it is the only one that is allowed.
    let outside = Receiver::at("127.0.0.2", |mut stream, seen| async move {
        use tokio::io::AsyncWriteExt as _;
        seen.keep(crate::receiver::read_request(&mut stream).await.unwrap());
        stream.write_all(OK.as_bytes()).await.unwrap();
    })
    .await;
    let port = outside.address.port();
    let inside = Receiver::on(TcpListener::bind(("127.0.0.1", port)).await.unwrap(), |_, _| async {});
    let allowed = Guard::allowing(vec!["127.0.0.2/32".parse().unwrap()]);
    let url = format!("http://turning.example:{port}/");

    let resolver = Answers::of(&[&["127.0.0.2"], &["127.0.0.1"]]);
    let bench = Bench::with(Parts { guard: allowed.clone(), resolver, ..Parts::default() });
    let webhook = bench.webhook(&url, json!({}));
    assert!(matches!(send(&webhook).await.one(), Outcome::Delivered(_)));
    let second = send(&webhook).await;
    assert!(second.error().starts_with("refused address: 127.0.0.1 "), "{second:?}");
    assert_eq!((outside.connections(), inside.connections()), (1, 0));

    // One refused address among good ones is passed over.
    let resolver = Answers::of(&[&["127.0.0.1", "127.0.0.2"]]);
    let bench = Bench::with(Parts { guard: allowed, resolver, ..Parts::default() });
    assert!(matches!(send(&bench.webhook(&url, json!({}))).await.one(), Outcome::Delivered(_)));
    assert_eq!((outside.connections(), inside.connections()), (2, 0));

    // The control: where loopback is allowed, the turn is followed.
    let resolver = Answers::of(&[&["127.0.0.1"]]);
    let bench = Bench::with(Parts { guard: loopback(), resolver, ..Parts::default() });
    send(&bench.webhook(&url, json!({}))).await;
    assert_eq!(inside.connections(), 1);
}
