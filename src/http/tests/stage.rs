//! What the tests stand on: an engine on an outbox in memory behind the real routes.

use crate::clock::{SystemClock, SystemRandom};
use crate::http::{Access, Desk, Relay, Scope, Shared, Token, routed};
use actix_web::body::MessageBody as _;
use actix_web::dev::Service;
use actix_web::http::{Method, header};
use actix_web::test::{TestRequest, init_service};
use actix_web::web::{Bytes, Data};
use posthaste_actors::settings::{Settings, Subscription};
use posthaste_events::catalogue::declare::{
    Audience, Declarations, EventDeclaration, FieldDeclaration, FieldKind, LayerDeclaration, Rule,
};
use posthaste_events::catalogue::{Catalogue, Undeclared};
use posthaste_events::matching::Selector;
use posthaste_events::outcome::Detail;
use posthaste_events::prepare::{Snapshot, TelemetryPolicy};
use posthaste_events::{
    Anonymous, AnyDeliveree, Delivery, Installation, Notification, OneByOne, Outcome, Pattern, Payload as _,
    RetryPolicy, Takes,
};
use posthaste_outbox::{Limits, MemoryOutbox};
use serde_json::Value;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long a test waits for something that must come.
pub(super) const SOON: Duration = Duration::from_secs(10);

/// An answer, read whole.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: header::HeaderMap,
    pub(super) bytes: Bytes,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    /// The pointers of a problem, after checking that it is one.
    pub(super) fn pointers(&self) -> Vec<String> {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let body = self.json();
        assert_eq!(body["status"], self.status, "{body}");
        assert!(body["title"].as_str().is_some_and(|t| !t.is_empty()), "{body}");
        let errors = body["errors"].as_array().cloned().unwrap_or_default();
        errors.iter().map(|e| e["pointer"].as_str().unwrap().to_owned()).collect()
    }
}

/// A server without sockets.
pub(super) struct Stage {
    pub(super) shared: Data<Shared>,
    pub(super) engine: Option<posthaste_actors::Engine>,
}

impl Stage {
    /// An engine with three subscriptions: `good` takes all, `bad` fails `b:**` for good, `acme` has a tenant.
    pub(super) async fn new(access: Access) -> Self {
        Self::with(access, Some(TelemetryPolicy::default()), Vec::new()).await
    }

    /// The same by another policy of telemetry, and with more subscriptions.
    pub(super) async fn with(access: Access, telemetry: Option<TelemetryPolicy>, more: Vec<Subscription>) -> Self {
        let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
        let outbox = Arc::new(MemoryOutbox::new(clock.clone(), random.clone(), Limits::default()));
        let mut subscriptions = vec![
            subscription("good", &["**"], None, Outcome::Delivered(Detail::default())),
            subscription("bad", &["b:**"], None, Outcome::Rejected(Detail::error("status: 500"))),
            subscription("acme", &["**"], Some("acme"), Outcome::Delivered(Detail::default())),
        ];
        subscriptions.extend(more);
        let settings = Settings {
            subscriptions,
            catalogue: catalogue(),
            backlog_max: 1_000,
            telemetry,
            author: Some(Arc::new(crate::author::tests::scribe())),
        };
        let config =
            posthaste_actors::Config { settings, outbox, clock, random, installation: Installation::new(&[7; 32]) };
        let engine = posthaste_actors::start(config).await.unwrap();
        let snapshot = engine.snapshot.clone();
        let shared = shared(Desk::of(&engine.registry), Arc::new(move || snapshot.current()), access);
        Self { shared, engine: Some(engine) }
    }

    /// Without tokens.
    pub(super) async fn open() -> Self {
        Self::new(Access::default()).await
    }

    /// An actor that stands in for the registry.
    pub(super) fn on(desk: Desk) -> Self {
        let snapshot = Arc::new(Snapshot {
            catalogue: catalogue(),
            telemetry: Some(TelemetryPolicy::default()),
            ..Snapshot::default()
        });
        let shared = shared(desk, Arc::new(move || Arc::clone(&snapshot)), Access::default());
        Self { shared, engine: None }
    }

    /// What it answers by from now on: the same engine, seen through another catalogue.
    pub(super) fn see_by(&mut self, snapshot: Arc<Snapshot>) {
        let engine = self.engine.as_ref().unwrap();
        self.shared = shared(Desk::of(&engine.registry), Arc::new(move || Arc::clone(&snapshot)), Access::default());
    }

    pub(super) async fn send(&self, request: TestRequest) -> Answer {
        let service = init_service(routed(self.shared.clone())).await;
        let response = service.call(request.to_request()).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = actix_web::body::to_bytes(response.into_body().boxed()).await.unwrap();
        Answer { status, headers, bytes }
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.send(TestRequest::get().uri(path)).await
    }

    pub(super) async fn post(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.send(TestRequest::post().uri(path).append_header(JSON).set_payload(body)).await
    }

    /// Records an event; its id.
    pub(super) async fn record(&self, body: &Value) -> String {
        let answer = self.post("/v1/events", body.to_string()).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// How many events there are.
    pub(super) async fn count(&self) -> usize {
        self.get("/v1/events?limit=1000").await.json()["data"].as_array().unwrap().len()
    }

    /// The event once all its deliveries are settled.
    pub(super) async fn settled(&self, id: &str) -> Value {
        let settle = async {
            loop {
                let event = self.get(&format!("/v1/events/{id}")).await.json();
                let open = ["pending", "held"];
                if event["deliveries"].as_array().unwrap().iter().all(|d| !open.contains(&d["state"].as_str().unwrap()))
                {
                    return event;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(SOON, settle).await.unwrap()
    }
}

pub(super) const JSON: (header::HeaderName, &str) = (header::CONTENT_TYPE, "application/json");

pub(super) const TOKENS: [(&str, &[Scope], Option<&str>); 7] = [
    ("record", &[Scope::Record], None),
    ("relay", &[Scope::Relay], None),
    ("read", &[Scope::Read], None),
    ("manage", &[Scope::Manage], None),
    ("admin", &[Scope::Admin], None),
    ("acme", &[Scope::Admin], Some("acme")),
    ("other", &[Scope::Admin], Some("other")),
];

/// A token of each scope, unbound, and two that are bound to tenants.
pub(super) fn tokens() -> Access {
    let token =
        |(name, scopes, tenant): (&str, &[Scope], Option<&str>)| Token::new(name, &secret(name), scopes, tenant);
    Access::new(TOKENS.into_iter().map(token).collect())
}

pub(super) fn secret(name: &str) -> String {
    format!("{name}-0123456789abcdef")
}

pub(super) fn with_token(request: TestRequest, name: &str) -> TestRequest {
    request.append_header((header::AUTHORIZATION, format!("Bearer {}", secret(name))))
}

pub(super) fn request(method: Method, path: &str) -> TestRequest {
    TestRequest::default().method(method).uri(path)
}

fn shared(desk: Desk, snapshot: crate::http::LatestSnapshot, access: Access) -> Data<Shared> {
    let shared = Shared::new(desk, snapshot, Arc::new(SystemClock), access, 1 << 20);
    shared.set_relay(&relay());
    Data::new(shared)
}

/// The origin whose pages may post.
pub(super) const PAGE: &str = "https://app.example.com";

/// Takes everything but `hidden:**`, and more than a test sends.
pub(super) fn relay() -> Relay {
    let types = ["a:**", "b:**", "shop:**", "view:**"].map(|p| Pattern::parse(p).unwrap());
    Relay { types: types.to_vec(), origins: vec![PAGE.to_owned()], rate_limit: (100_000, Duration::from_secs(1)) }
}

/// `a:b` and `b:c` with a few plain fields; `shop:order:placed` on two layers, with sensitive fields and all that leaves
/// kept or derived; `view:loaded` for analytics alone; `hidden:thing`, which the relay does not take; a retired one.
pub(super) fn catalogue() -> Catalogue {
    let order = vec![
        FieldDeclaration { required: true, identity: true, ..field("uuid", FieldKind::String) },
        FieldDeclaration { sensitive: true, ..field("customer", FieldKind::String) },
        FieldDeclaration { rule: Rule::Keep, ..words("currency", &["EUR", "USD"]) },
        FieldDeclaration { rule: Rule::Count, ..field("lines", FieldKind::Array) },
        FieldDeclaration { sensitive: true, ..field("lines.*.note", FieldKind::String) },
        field("lines.*.total", FieldKind::Number),
        FieldDeclaration { audience: Audience::Telemetry, rule: Rule::Keep, ..field("guest", FieldKind::Boolean) },
    ];
    let event = |name: &str, fields: Vec<FieldDeclaration>| EventDeclaration {
        name: name.to_owned(),
        fields,
        ..EventDeclaration::default()
    };
    let plain = [("n", FieldKind::Number), ("s", FieldKind::String), ("deep", FieldKind::Array)];
    let example =
        serde_json::json!({"shop": {"order": {"uuid": "o-1", "customer": "Ada", "currency": "EUR", "guest": true}}});
    let declarations = Declarations {
        layers: vec![
            LayerDeclaration { name: "shop".into(), fields: vec![words("region", &["eu"])], ..Default::default() },
            LayerDeclaration { name: "shop:order".into(), fields: order, ..Default::default() },
        ],
        events: vec![
            event("a:b", plain.map(|(name, kind)| field(name, kind)).to_vec()),
            event("b:c", vec![field("n", FieldKind::Number)]),
            EventDeclaration {
                title: Some("A customer placed an order".into()),
                example: example.as_object().cloned(),
                ..event("shop:order:placed", Vec::new())
            },
            EventDeclaration {
                audience: Audience::Telemetry,
                ..event("view:loaded", vec![FieldDeclaration { rule: Rule::Keep, ..words("page", &["home", "list"]) }])
            },
            event("hidden:thing", Vec::new()),
            EventDeclaration { retired: true, ..event("old:thing", Vec::new()) },
        ],
    };
    Catalogue::compile(&declarations, Undeclared::Reject).unwrap()
}

fn field(path: &str, kind: FieldKind) -> FieldDeclaration {
    FieldDeclaration::new(path, kind)
}

fn words(path: &str, values: &[&str]) -> FieldDeclaration {
    FieldDeclaration { values: values.iter().map(|v| (*v).into()).collect(), ..field(path, FieldKind::String) }
}

/// What arrived at an analytics subscription, in the order of arrival.
pub(super) type Arrived = Arc<Mutex<Vec<Value>>>;

/// An analytics subscription to these events, and what arrives there.
pub(super) fn analytics(name: &str, events: &[&str]) -> (Subscription, Arrived) {
    let arrived = Arrived::default();
    let into = Arc::clone(&arrived);
    let make = move || {
        let into = Arc::clone(&into);
        let send = move |delivery: Delivery<Anonymous>| {
            into.lock().unwrap().push(serde_json::from_slice(delivery.payload.bytes()).unwrap());
            std::future::ready(Outcome::Delivered(Detail::default()))
        };
        AnyDeliveree::Anonymous(Arc::new(OneByOne::new(Duration::from_secs(1), send)))
    };
    let plain = subscription(name, events, None, Outcome::Delivered(Detail::default()));
    (Subscription { takes: Takes::Telemetry, make: Arc::new(make), ..plain }, arrived)
}

fn text((name, value): (&str, &str)) -> (String, Value) {
    (name.to_owned(), value.into())
}

fn subscription(name: &str, events: &[&str], tenant: Option<&str>, outcome: Outcome) -> Subscription {
    let selector = Selector {
        events: events.iter().map(|p| Pattern::parse(p).unwrap()).collect(),
        tenant: tenant.map(str::to_owned),
        ..Selector::default()
    };
    let make = move || {
        let outcome = outcome.clone();
        let send = move |_: Delivery<Notification>| std::future::ready(outcome.clone());
        AnyDeliveree::Notification(Arc::new(OneByOne::new(Duration::from_secs(1), send)))
    };
    Subscription {
        name: name.to_owned(),
        kind: "test".to_owned(),
        tenant: tenant.map(str::to_owned),
        selectors: vec![selector],
        retry: RetryPolicy::default(),
        concurrency: 4,
        circuit: None,
        rate: None,
        ordered: false,
        disable_after: None,
        source: posthaste_actors::settings::Source::Config,
        mark: 0,
        takes: Takes::Notification,
        shown: [("deliveree", "test"), ("url", "https://hooks.example.com")].map(text).into_iter().collect(),
        reveal: [("url", "https://hooks.example.com/the/secret/path")]
            .map(text)
            .into_iter()
            .collect::<serde_json::Map<_, _>>()
            .into(),
        ahead: None,
        make: Arc::new(make),
    }
}
