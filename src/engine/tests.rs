//! An embedded engine from outside: it starts, records, reloads, stops; and the lock of its data directory.

use super::*;
use posthaste_events::catalogue::declare::{Declarations, FieldDeclaration, FieldKind};
use posthaste_events::catalogue::{Catalogue, Unbuilt, Undeclared};

#[test]
fn a_locked_data_directory_is_refused_and_free_again_when_the_lock_is_gone() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("deep/data");
    let held = lock(&data).unwrap();
    let refused = lock(&data).unwrap_err().to_string();
    let who = format!("(process {})", std::process::id());
    assert!(refused.contains("in use") && refused.contains("data") && refused.contains(&who), "{refused}");
    drop(held);
    assert!(lock(&data).is_ok());
}

/// A configuration in memory with a console for these events.
fn config(home: &Path, events: &str) -> Config {
    let file = home.join("config.toml");
    let text = format!(
        "outbox.engine = \"memory\"\ncatalogue = {{ files = [], undeclared = \"accept\" }}\n\n\
         [[subscription]]\nname = \"eye\"\ndeliveree = \"console\"\nevents = [\"{events}\"]\n"
    );
    std::fs::write(&file, text).unwrap();
    crate::config::load(&file, &crate::config::Env::new()).unwrap()
}

fn draft(event_type: &str) -> Draft {
    Draft::new(posthaste_events::EventType::parse(event_type).unwrap())
}

/// An event of an application that may not know what it is about.
struct Happened(Option<&'static str>);

impl posthaste_events::layered::Event for Happened {
    const TYPE: &'static str = "a:b";
    type Layer = posthaste_events::layered::Root;

    fn layer(&self) -> &Self::Layer {
        &posthaste_events::layered::Root
    }

    fn fields() -> Vec<FieldDeclaration> {
        vec![FieldDeclaration { required: true, ..FieldDeclaration::new("what", FieldKind::String) }]
    }

    fn values(&self) -> Result<posthaste_events::layered::Values, Unbuilt> {
        let what = self.0.ok_or_else(|| Unbuilt("nobody knows what".to_owned()))?;
        posthaste_events::layered::values([("what", what.into())])
    }
}

#[tokio::test]
async fn an_embedded_engine_records_events_of_rust_and_relays_what_is_anonymous() {
    let home = tempfile::tempdir().unwrap();
    let mut config = config(home.path(), "a:**");
    let declared = Declarations::default().with::<Happened>();
    config.catalogue = Catalogue::compile(&declared, Undeclared::Reject).unwrap();
    let engine = Engine::start(&config).await.unwrap();
    assert_eq!(engine.record_typed(&Happened(Some("rain"))).await.unwrap().deliveries, 1);
    let half = engine.record_typed(&Happened(None)).await.unwrap();
    assert_eq!(half.deliveries, 2, "to the console, and to the quarantine");
    let relay = RelayDraft {
        event_type: posthaste_events::EventType::parse("a:b").unwrap(),
        properties: serde_json::json!({ "name": "Ada" }),
        derived_properties: serde_json::json!({}),
        idempotency_key: None,
        tenant: None,
    };
    let sent = engine.send_event(relay.clone()).await.unwrap();
    assert_eq!((sent.recorded.deliveries, &sent.dropped[..]), (0, &["/properties/name".to_owned()][..]));
    config.telemetry = None;
    engine.reload(&config).await.unwrap();
    assert!(matches!(engine.send_event(relay).await, Err(NotRecorded::Unfit(Unfit::TelemetryOff))));
    engine.stop(Duration::from_secs(1)).await.unwrap();
}

#[tokio::test]
async fn an_embedded_engine_records_delivers_reloads_and_stops() {
    let home = tempfile::tempdir().unwrap();
    let engine = Engine::start(&config(home.path(), "a:**")).await.unwrap();
    let mut attempts = engine.watch().await.unwrap();
    let first = engine.record(draft("a:b")).await.unwrap();
    assert_eq!(first.deliveries, 1);
    let watched = tokio::time::timeout(Duration::from_secs(10), attempts.recv()).await.unwrap().unwrap();
    assert_eq!((watched.event, watched.subscription.as_str()), (first.id, "eye"));

    engine.reload(&config(home.path(), "other:**")).await.unwrap();
    assert_eq!(engine.record(draft("a:b")).await.unwrap().deliveries, 0);
    assert!(matches!(engine.record(draft("posthaste:test")).await, Err(NotRecorded::Unfit(_))));

    engine.stop(Duration::from_secs(1)).await.unwrap();
    assert!(matches!(engine.record(draft("a:b")).await, Err(NotRecorded::Refused(_))));
    engine.stop(Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn a_secret_of_ones_own_takes_the_place_of_the_one_in_the_data_directory() {
    for (own, is_made) in [(false, true), (true, false)] {
        let home = tempfile::tempdir().unwrap();
        let mut config = config(home.path(), "a:**");
        if own {
            let text = format!("daemon.encryption_key = \"{}=\"\ncatalogue.files = []\n", "A".repeat(43));
            std::fs::write(&config.file, text).unwrap();
            config.daemon = crate::config::load(&config.file, &crate::config::Env::new()).unwrap().daemon;
        }
        let engine = Engine::start(&config).await.unwrap();
        assert_eq!(home.path().join("data/secret.key").exists(), is_made);
        engine.stop(Duration::ZERO).await.unwrap();
    }
}

/// Answers every request on loopback with 204; its port.
async fn receiver() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(|_: hyper::Request<hyper::body::Incoming>| async {
                let none = http_body_util::Empty::<bytes::Bytes>::new();
                hyper::Response::builder().status(204).body(none)
            });
            let stream = hyper_util::rt::TokioIo::new(stream);
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(stream, service));
        }
    });
    port
}

#[tokio::test]
async fn a_reload_that_closes_a_network_stops_deliveries_to_it_even_over_an_open_connection() {
    let home = tempfile::tempdir().unwrap();
    let port = receiver().await;
    let config = |networks: &str| {
        let file = home.path().join("config.toml");
        let text = format!(
            "outbox.engine = \"memory\"\ncatalogue = {{ files = [], undeclared = \"accept\" }}\n\
             network.allow_networks = [{networks}]\n\n[[subscription]]\nname = \"ops\"\ndeliveree = \"webhook\"\n\
             events = [\"a:**\"]\nurl = \"http://localhost:{port}/\"\n\
             secrets = [\"whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"]\n"
        );
        std::fs::write(&file, text).unwrap();
        crate::config::load(&file, &crate::config::Env::new()).unwrap()
    };
    let open = "\"127.0.0.0/8\", \"::1/128\"";
    let engine = Engine::start(&config(open)).await.unwrap();
    let mut attempts = engine.watch().await.unwrap();
    let mut ends = Vec::new();
    for networks in [open, "", open] {
        engine.reload(&config(networks)).await.unwrap();
        let event = engine.record(draft("a:b")).await.unwrap().id;
        loop {
            let watched = tokio::time::timeout(Duration::from_secs(10), attempts.recv()).await.unwrap().unwrap();
            if watched.event == event {
                ends.push(watched.state == posthaste_events::State::Delivered);
                break;
            }
        }
    }
    assert_eq!(ends, [true, false, true]);
    engine.stop(Duration::from_secs(1)).await.unwrap();
}

#[test]
fn a_data_directory_that_is_a_file_is_named() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    std::fs::write(&data, "").unwrap();
    assert!(matches!(lock(&data), Err(StartError::DataDir { path, .. }) if path == data));
}
