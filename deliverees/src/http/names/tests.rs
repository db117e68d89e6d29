//! The resolver against a name server on loopback that answers as each test wants.

use super::*;
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::{DNSClass, RData, Record, RecordType, rdata::SOA};
use std::net::SocketAddr;
use tokio::net::UdpSocket;

/// What the server says to a question.
#[derive(Clone)]
enum Say {
    Addresses(&'static [&'static str], u32),
    Nothing(ResponseCode, Option<u32>),
    Silent,
}

/// A server, and how often it was asked for IPv4.
struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

async fn serve(book: impl Fn(&str, RecordType) -> Say + Send + 'static) -> Server {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (address, asked) = (socket.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let noted = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut buffer = [0; 1500];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            let question = Message::from_vec(&buffer[..length]).unwrap();
            let query = question.queries[0].clone();
            let name = query.name().to_string();
            if query.query_type() == RecordType::A {
                noted.lock().unwrap().push(name.clone());
            }
            let mut answer = Message::query().into_response();
            (answer.metadata.id, answer.metadata.recursion_available) = (question.id, true);
            answer.add_query(query.clone());
            match book(&name, query.query_type()) {
                Say::Silent => continue,
                Say::Addresses(ips, ttl) => answer.insert_answers(
                    ips.iter()
                        .filter_map(|ip| match (ip.parse().unwrap(), query.query_type()) {
                            (IpAddr::V4(v4), RecordType::A) => Some(RData::A(v4.into())),
                            (IpAddr::V6(v6), RecordType::AAAA) => Some(RData::AAAA(v6.into())),
                            _ => None,
                        })
                        .map(|data| Record::from_rdata(query.name().clone(), ttl, data))
                        .collect(),
                ),
                Say::Nothing(code, ttl) => {
                    answer.metadata.response_code = code;
                    if let Some(ttl) = ttl {
                        let zone = query.name().base_name();
                        let soa = SOA::new(zone.clone(), zone.clone(), 1, 60, 60, 60, ttl);
                        let mut record = Record::from_rdata(zone, ttl, RData::SOA(soa));
                        record.dns_class = DNSClass::IN;
                        answer.insert_authorities(vec![record]);
                    }
                }
            }
            socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
        }
    });
    Server { address, asked }
}

impl Server {
    fn resolver(&self, hosts: &str) -> SystemResolver {
        SystemResolver::of(Dns::given(self.address, hosts))
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

fn read(ips: &[&str]) -> Vec<IpAddr> {
    ips.iter().map(|ip| ip.parse().unwrap()).collect()
}

#[tokio::test]
async fn both_families_are_asked_once_for_as_long_as_the_answer_holds() {
    let server = serve(|_, _| Say::Addresses(&["192.0.2.1", "2001:db8::1"], 600)).await;
    let resolver = server.resolver("");
    for _ in 0..3 {
        assert_eq!(resolver.resolve("a.example").await, Ok(read(&["2001:db8::1", "192.0.2.1"])));
    }
    assert_eq!((server.asked(), resolver.works()), (1, true));
    // Longer than that is none kept, whatever its TTL says.
    tokio::time::pause();
    tokio::time::advance(ADDRESSES_KEPT_MAX).await;
    tokio::time::resume();
    resolver.resolve("a.example").await.unwrap();
    assert_eq!(server.asked(), 2);
}

#[tokio::test]
async fn an_answer_that_holds_for_no_time_is_asked_for_again() {
    let server = serve(|_, _| Say::Addresses(&["192.0.2.1"], 0)).await;
    let resolver = server.resolver("");
    for asked in 1..4 {
        resolver.resolve("a.example").await.unwrap();
        assert_eq!(server.asked(), asked);
    }
    // Look-ups at the same time are one all the same.
    futures_util::future::join_all((0..50).map(|_| resolver.resolve("a.example"))).await;
    assert_eq!(server.asked(), 4);
}

#[tokio::test]
async fn that_there_is_no_address_is_kept_for_as_long_as_the_zone_says() {
    for (code, words) in
        [(ResponseCode::NXDomain, "there is no such name"), (ResponseCode::NoError, "the name has no address")]
    {
        let server = serve(move |_, _| Say::Nothing(code, Some(20))).await;
        let resolver = server.resolver("");
        for _ in 0..3 {
            assert_eq!(resolver.resolve("a.example").await, Err(ResolveError::Name(words.into())));
        }
        assert_eq!((server.asked(), resolver.works()), (1, true));
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(21)).await;
        tokio::time::resume();
        let _ = resolver.resolve("a.example").await;
        assert_eq!(server.asked(), 2);
    }
}

#[tokio::test]
async fn a_failing_name_server_is_ours_unless_other_names_resolve() {
    let server = serve(|name, _| match name {
        "good.example." => Say::Addresses(&["192.0.2.1"], 0),
        _ => Say::Nothing(ResponseCode::ServFail, None),
    })
    .await;
    let resolver = server.resolver("");
    let failed = resolver.resolve("bad.example").await;
    assert!(matches!(failed, Err(ResolveError::Resolver(_))) && !resolver.works(), "{failed:?}");
    resolver.resolve("good.example").await.unwrap();
    let failed = resolver.resolve("bad.example").await;
    assert!(matches!(failed, Err(ResolveError::Name(_))), "{failed:?}");
}

#[tokio::test]
async fn what_is_kept_is_no_sign_that_name_servers_work() {
    let server = serve(|name, _| match name {
        "good.example." => Say::Addresses(&["192.0.2.1"], 600),
        _ => Say::Nothing(ResponseCode::ServFail, None),
    })
    .await;
    let resolver = server.resolver("");
    resolver.resolve("good.example").await.unwrap();
    tokio::time::pause();
    tokio::time::advance(WORKS_FOR).await;
    tokio::time::resume();
    resolver.resolve("good.example").await.unwrap();
    let failed = resolver.resolve("bad.example").await;
    assert!(matches!(failed, Err(ResolveError::Resolver(_))) && server.asked() > 1, "{failed:?}");
}

#[tokio::test]
async fn a_family_without_an_answer_does_not_hold_back_the_other() {
    let server = serve(|_, kind| match kind {
        RecordType::AAAA => Say::Silent,
        _ => Say::Addresses(&["192.0.2.1"], 600),
    })
    .await;
    // Its own clock would end at 5 s and more; this one waits for the delay of RFC 8305 only.
    let found = timeout(Duration::from_secs(4), server.resolver("").resolve("a.example")).await;
    assert_eq!(found, Ok(Ok(read(&["192.0.2.1"]))));
}

#[tokio::test]
async fn the_hosts_file_comes_first_and_search_domains_are_not_applied() {
    let server = serve(|_, _| Say::Nothing(ResponseCode::NXDomain, None)).await;
    let resolver = server.resolver("10.1.2.3 app app.example\n");
    assert_eq!(resolver.resolve("App.example").await, Ok(read(&["10.1.2.3"])));
    assert_eq!((server.asked(), resolver.works()), (0, false));
    let _ = resolver.resolve("other").await;
    assert_eq!(*server.asked.lock().unwrap(), ["other."]);
}

#[tokio::test]
async fn names_that_can_not_be_are_the_endpoints_fault_and_asked_of_nobody() {
    let server = serve(|_, _| Say::Silent).await;
    let resolver = server.resolver("");
    for name in [&format!("{}.example", "a".repeat(70)), "a.invalid"] {
        let failed = resolver.resolve(name).await;
        assert!(matches!(failed, Err(ResolveError::Name(_))), "{name}: {failed:?}");
    }
    let found = resolver.resolve("localhost").await.unwrap();
    assert!(found.iter().all(IpAddr::is_loopback) && !found.is_empty(), "{found:?}");
    assert!(!resolver.works() && server.asked() == 0);
    assert!(resolver.0.known().under_way.is_empty());
}

#[tokio::test]
async fn what_is_kept_is_bounded() {
    let mut known = Known::default();
    for i in 0..=KEPT_MAX {
        let found = Found { addresses: read(&["192.0.2.1"]), holds: Duration::from_secs(9), asked: true };
        known.learn(format!("n{i}"), Instant::now(), Ok(found)).unwrap();
    }
    assert!(known.kept.len() <= KEPT_MAX && known.kept.contains_key(&format!("n{KEPT_MAX}")));
}

#[tokio::test]
async fn what_found_no_room_is_ours_whether_other_names_resolve_or_not() {
    let mut known = Known::default();
    for works in [false, true] {
        known.answered = works.then(Instant::now);
        let answer = known.learn("a.example".into(), Instant::now(), Err(Silence::Busy("no room".into())));
        assert_eq!(answer, Err(ResolveError::Resolver("no room".into())));
        assert!(known.kept.is_empty());
    }
}

#[tokio::test]
async fn a_name_whose_servers_are_silent_is_not_asked_for_at_every_attempt() {
    let asked = Instant::now();
    let mut known = Known { answered: Some(asked + Duration::from_millis(1)), ..Known::default() };
    let answer = known.learn("a.example".into(), asked, Err(Silence::Resolver("silence".into())));
    assert_eq!(answer, Err(ResolveError::Name("silence (other names resolve)".into())));
    assert!(known.kept["a.example"].until > Instant::now());
}

#[tokio::test]
async fn no_such_name_is_the_endpoints_fault_though_one_family_is_silent() {
    let server = serve(|_, kind| match kind {
        RecordType::AAAA => Say::Silent,
        _ => Say::Nothing(ResponseCode::NXDomain, None),
    })
    .await;
    let found = timeout(Duration::from_secs(4), server.resolver("").resolve("a.example")).await;
    assert_eq!(found, Ok(Err(ResolveError::Name("there is no such name".into()))));
}

#[tokio::test]
async fn silence_is_ours_where_no_name_found_an_answer_since_it_began() {
    let mut known = Known { answered: Some(Instant::now()), ..Known::default() };
    let asked = Instant::now() + Duration::from_millis(1);
    let answer = known.learn("a.example".into(), asked, Err(Silence::Resolver("silence".into())));
    assert!(known.works() && known.kept.is_empty());
    assert_eq!(answer, Err(ResolveError::Resolver("silence".into())));
}

#[tokio::test]
async fn a_name_that_waits_for_room_is_not_blamed() {
    let server =
        serve(
            |name, _| if name == "silent.example." { Say::Silent } else { Say::Nothing(ResponseCode::NXDomain, None) },
        )
        .await;
    let resolver = server.resolver("");
    // The control: one that had room is blamed, once others found an answer.
    let _silent = resolver.resolve("silent.example");
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!resolver.blames("silent.example"));
    let _ = resolver.resolve("other.example").await;
    assert!(resolver.works() && resolver.blames("silent.example"));
    let room = resolver.0.room.available_permits();
    let taken = resolver.0.room.try_acquire_many(u32::try_from(room).unwrap()).unwrap();
    let waiting = resolver.resolve("healthy.example");
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!resolver.blames("healthy.example"));
    drop(taken);
    assert_eq!(waiting.await, Err(ResolveError::Name("there is no such name".into())));
}
