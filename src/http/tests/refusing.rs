//! Who is refused, and how: access, paths, methods, media types, and an engine that cannot take more.

use super::stage::{JSON, Stage, TOKENS, request, tokens, with_token};
use crate::http::Desk;
use actix::{Actor, Context, Handler, MessageResult};
use actix_web::http::Method;
use actix_web::test::TestRequest;
use posthaste_actors::messages::*;
use posthaste_events::{DeliveryId, EventId, SubscriptionId};
use posthaste_outbox::query::{DeliveryRow, DeliveryView, EventRow, EventView, Page};
use posthaste_outbox::{Answer, RecordError, Recorded, StoreError};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;

/// Every route: method, path, the scope that it needs.
const ROUTES: [(&str, &str, Option<&str>); 19] = [
    ("POST", "/v1/events", Some("record")),
    ("GET", "/v1/events", Some("read")),
    ("GET", "/v1/events/EVENT", Some("read")),
    ("GET", "/v1/deliveries", Some("read")),
    ("GET", "/v1/deliveries/DELIVERY", Some("read")),
    ("POST", "/v1/deliveries/DELIVERY/retry", Some("manage")),
    ("POST", "/v1/deliveries/DELIVERY/cancel", Some("manage")),
    ("GET", "/v1/subscriptions", Some("read")),
    ("GET", "/v1/subscriptions/acme", Some("read")),
    ("POST", "/v1/subscriptions/acme/pause", Some("manage")),
    ("POST", "/v1/subscriptions/acme/resume", Some("manage")),
    ("POST", "/v1/subscriptions/acme/test", Some("manage")),
    ("GET", "/v1/event-types", Some("read")),
    ("GET", "/v1/event-types/a:b", Some("read")),
    ("GET", "/v1/tail", Some("read")),
    ("GET", "/metrics", Some("read")),
    ("GET", "/healthz", None),
    ("GET", "/readyz", None),
    ("GET", "/", None),
];

struct Made {
    stage: Stage,
    event: String,
    delivery: String,
}

/// A stage with tokens and an event of `acme`.
async fn made() -> Made {
    let stage = Stage::new(tokens()).await;
    let post =
        TestRequest::post().uri("/v1/events").append_header(JSON).set_payload(r#"{"type":"a:b","tenant":"acme"}"#);
    let answer = stage.send(with_token(post, "record")).await;
    let event = answer.json()["id"].as_str().unwrap().to_owned();
    let shown = stage.send(with_token(TestRequest::get().uri(&format!("/v1/events/{event}")), "read")).await.json();
    let delivery = shown["deliveries"][0]["id"].as_str().unwrap().to_owned();
    Made { stage, event, delivery }
}

impl Made {
    fn ask(&self, method: &str, path: &str) -> TestRequest {
        let path = path.replace("EVENT", &self.event).replace("DELIVERY", &self.delivery);
        let asked = request(method.parse().unwrap(), &path);
        let posts = (method, path.as_str()) == ("POST", "/v1/events");
        if posts { asked.append_header(JSON).set_payload(r#"{"type":"a:b"}"#) } else { asked }
    }
}

#[actix_web::test]
async fn every_route_needs_its_scope_and_no_other_opens_it() {
    let made = made().await;
    for (method, path, scope) in ROUTES {
        let Some(scope) = scope else {
            assert_eq!(made.stage.send(made.ask(method, path)).await.status, 200, "{path}");
            continue;
        };
        let bare = made.stage.send(made.ask(method, path)).await;
        assert_eq!((bare.status, bare.header("www-authenticate")), (401, "Bearer"), "{path}");
        bare.pointers();
        let unknown = made.ask(method, path).append_header(("authorization", "Bearer no-such-token"));
        assert_eq!(made.stage.send(unknown).await.status, 401, "{path}");
        if path == "/v1/tail" {
            continue; // It would stream; its scope is the one that the others share.
        }
        for (token, _, tenant) in TOKENS.iter().filter(|t| t.2.is_none()) {
            let answer = made.stage.send(with_token(made.ask(method, path), token)).await;
            let reaches = *token == scope || *token == "admin";
            assert_eq!(answer.status != 403, reaches, "{method} {path} with {token} {tenant:?}: {answer:?}");
        }
    }
}

#[actix_web::test]
async fn a_bound_token_reaches_its_tenant_and_nothing_else() {
    let made = made().await;
    let as_ = |token: &'static str, method: &'static str, path: &'static str| {
        let (made, asked) = (&made, made.ask(method, path));
        async move { made.stage.send(with_token(asked, token)).await }
    };
    for (method, path) in [
        ("GET", "/v1/events/EVENT"),
        ("GET", "/v1/deliveries/DELIVERY"),
        ("GET", "/v1/subscriptions/acme"),
        ("POST", "/v1/subscriptions/acme/pause"),
        ("POST", "/v1/subscriptions/acme/resume"),
    ] {
        assert_eq!(as_("acme", method, path).await.status, 200, "{path}");
        assert_eq!(as_("other", method, path).await.status, 404, "{path}");
    }
    for path in ["/v1/deliveries/DELIVERY/retry", "/v1/deliveries/DELIVERY/cancel", "/v1/subscriptions/good/pause"] {
        assert_eq!(as_("other", "POST", path).await.status, 404, "{path}");
    }
    for path in ["/v1/events", "/v1/deliveries", "/v1/subscriptions"] {
        let count = |token| {
            let answer = as_(token, "GET", path);
            async move { answer.await.json()["data"].as_array().unwrap().len() }
        };
        assert!(count("acme").await > 0 && count("other").await == 0, "{path}");
    }
    assert_eq!(as_("other", "GET", "/v1/events?tenant=acme").await.status, 403);
    assert_eq!(as_("other", "GET", "/metrics").await.status, 403);

    let post = |body: &'static str| TestRequest::post().uri("/v1/events").append_header(JSON).set_payload(body);
    let foreign = made.stage.send(with_token(post(r#"{"type":"a:b","tenant":"acme"}"#), "other")).await;
    assert_eq!((foreign.status, foreign.pointers()), (403, vec!["/tenant".to_owned()]));
    let own = made.stage.send(with_token(post(r#"{"type":"a:b"}"#), "other")).await;
    let own = own.json()["id"].as_str().unwrap().to_owned();
    let shown = made.stage.send(with_token(TestRequest::get().uri(&format!("/v1/events/{own}")), "other")).await.json();
    assert_eq!(shown["tenant"], "other");
}

#[actix_web::test]
async fn unknown_paths_are_404_and_other_methods_405_with_what_is_allowed() {
    let stage = Stage::open().await;
    for path in [
        "/nowhere",
        "/v1",
        "/v1/events/",
        "/v1/events/evt_nope",
        "/v1/events/evt_00000000000000000000000000",
        "/v1/deliveries/no-such-delivery",
        "/v1/subscriptions/nobody",
        "/v1/event-types/nobody:declared",
        "/v1/event-types/NO%20TYPE",
        "/v1/events/%ff%fe",
        "/v1/events/a/b/c",
    ] {
        let answer = stage.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
        answer.pointers();
    }
    for path in
        ["/v1/deliveries/no-such-delivery/retry", "/v1/subscriptions/nobody/pause", "/v1/subscriptions/nobody/resume"]
    {
        assert_eq!(stage.post(path, "").await.status, 404, "{path}");
    }
    for (method, path, allow) in [
        (Method::PUT, "/v1/events", "GET, HEAD, POST"),
        (Method::DELETE, "/v1/events/x", "GET, HEAD"),
        (Method::GET, "/v1/deliveries/x/retry", "POST"),
        (Method::POST, "/healthz", "GET, HEAD"),
        (Method::PUT, "/v1/subscriptions/good", "GET, HEAD, PATCH, DELETE"),
        (Method::OPTIONS, "/v1/events", "GET, HEAD, POST"),
        (Method::GET, "/analytics", "OPTIONS, POST"),
        (Method::POST, "/v1/event-types", "GET, HEAD"),
        (Method::DELETE, "/v1/event-types/a:b", "GET, HEAD"),
    ] {
        let answer = stage.send(request(method, path)).await;
        assert_eq!((answer.status, answer.header("allow")), (405, allow), "{path}");
        answer.pointers();
    }
}

#[actix_web::test]
async fn unknown_or_wrong_parameters_are_422_on_every_route() {
    let stage = Stage::open().await;
    for path in ["/v1/events", "/v1/deliveries", "/v1/subscriptions", "/v1/event-types"] {
        for (parameter, name) in
            [("limit=0", "limit"), ("limit=ten", "limit"), ("limit=-1", "limit"), ("colour=red", "colour")]
        {
            let answer = stage.get(&format!("{path}?{parameter}")).await;
            assert_eq!((answer.status, answer.pointers()), (422, vec![format!("/{name}")]), "{path}?{parameter}");
            assert_eq!(answer.json()["errors"][0]["parameter"], name);
        }
    }
    for path in [
        "/v1/events?after=x",
        "/v1/events?since=yesterday",
        "/v1/events?type=A%20B",
        "/v1/events?reveal=url",
        "/v1/events?reveal=",
        "/v1/events/evt_1?reveal=all",
        "/v1/subscriptions?reveal=fields",
        "/v1/subscriptions/good?reveal=true",
        "/v1/deliveries?reveal=fields",
        "/v1/event-types?after=A%20B",
        "/v1/event-types/a:b?x=1",
        "/v1/deliveries?state=lost",
        "/v1/deliveries?after=evt_1",
        "/healthz?x=1",
        "/v1/events/evt_1?x=1",
        "/metrics?x=1",
        "/?x=1",
        "/v1/tail?x=1",
    ] {
        assert_eq!(stage.get(path).await.status, 422, "{path}");
    }
    assert_eq!(stage.post("/v1/events?x=1", r#"{"type":"a:b"}"#).await.status, 422);
    assert_eq!(stage.count().await, 0);
}

#[actix_web::test]
async fn a_wish_takes_no_fields() {
    let stage = Stage::open().await;
    assert_eq!(stage.post("/v1/subscriptions/good/pause", r#"{"until":"tomorrow"}"#).await.status, 422);
    assert_eq!(stage.post("/v1/subscriptions/good/pause", "[]").await.status, 422);
    assert_eq!(stage.post("/v1/subscriptions/good/pause", "{").await.status, 400);
    assert_eq!(stage.get("/v1/subscriptions/good").await.json()["state"], "active");
}

/// A registry in trouble: whatever it is asked, it fails in the way that it was made to.
struct Trouble(fn() -> RecordError);

impl Actor for Trouble {
    type Context = Context<Self>;
}

macro_rules! fails {
    ($($message:ident => $answer:ty;)*) => {$(
        impl Handler<$message> for Trouble {
            type Result = MessageResult<$message>;

            fn handle(&mut self, _: $message, _: &mut Self::Context) -> Self::Result {
                let answer: Result<$answer, StoreError> = Err(StoreError::Failed("the disk is on fire".into()));
                MessageResult(answer)
            }
        }
    )*};
}

fails! {
    InspectEvents => Page<EventRow, EventId>;
    InspectEvent => Option<EventView>;
    InspectDeliveries => Page<DeliveryRow, DeliveryId>;
    InspectDelivery => Option<DeliveryView>;
    InspectSubscriptions => Vec<SubscriptionView>;
    InspectSubscription => Option<SubscriptionView>;
    Retry => Answer;
    Cancel => Answer;
    Pause => Option<SubscriptionView>;
    Resume => Option<SubscriptionView>;
    InspectReplays => Vec<ReplayView>;
    CancelReplay => Option<ReplayView>;
}

/// As [`fails`], of messages with an error of their own.
macro_rules! fails_by {
    ($($message:ident => $answer:ty, $error:ident;)*) => {$(
        impl Handler<$message> for Trouble {
            type Result = MessageResult<$message>;

            fn handle(&mut self, _: $message, _: &mut Self::Context) -> Self::Result {
                let answer: Result<$answer, $error> = Err(StoreError::Failed("the disk is on fire".into()).into());
                MessageResult(answer)
            }
        }
    )*};
}

fails_by! {
    PutSubscription => Changed, NotChanged;
    RotateSecret => Changed, NotChanged;
    RemoveSubscription => (), NotChanged;
    Replay => ReplayView, NotReplayed;
}

impl Handler<Record> for Trouble {
    type Result = MessageResult<Record>;

    fn handle(&mut self, _: Record, _: &mut Self::Context) -> Self::Result {
        let answer: Result<Recorded, RecordError> = Err((self.0)());
        MessageResult(answer)
    }
}

impl Handler<RecordBatch> for Trouble {
    type Result = MessageResult<RecordBatch>;

    fn handle(&mut self, _: RecordBatch, _: &mut Self::Context) -> Self::Result {
        let answer: Result<Vec<Recorded>, RecordError> = Err((self.0)());
        MessageResult(answer)
    }
}

impl Handler<RecordTelemetry> for Trouble {
    type Result = MessageResult<RecordTelemetry>;

    fn handle(&mut self, _: RecordTelemetry, _: &mut Self::Context) -> Self::Result {
        let answer: Result<Vec<Sent>, NotSent> = Err((self.0)().into());
        MessageResult(answer)
    }
}

impl Handler<posthaste_actors::messages::Test> for Trouble {
    type Result = MessageResult<posthaste_actors::messages::Test>;

    fn handle(&mut self, _: posthaste_actors::messages::Test, _: &mut Self::Context) -> Self::Result {
        let answer: Result<Arc<Watched>, NotTested> = Err(NotTested::Refused((self.0)()));
        MessageResult(answer)
    }
}

impl Handler<InspectHealth> for Trouble {
    type Result = MessageResult<InspectHealth>;

    fn handle(&mut self, _: InspectHealth, _: &mut Self::Context) -> Self::Result {
        let mut health = EngineHealth::default();
        health.outbox.refusing = Some("the disk is full".into());
        MessageResult(health)
    }
}

impl Handler<Watch> for Trouble {
    type Result = MessageResult<Watch>;

    fn handle(&mut self, _: Watch, _: &mut Self::Context) -> Self::Result {
        let receiver: broadcast::Receiver<Arc<Watched>> = broadcast::channel(1).1;
        MessageResult(receiver)
    }
}

fn in_trouble(how: fn() -> RecordError) -> Stage {
    Stage::on(Desk::of(&Trouble(how).start()))
}

#[actix_web::test]
async fn an_outbox_that_takes_nothing_is_503_with_when_to_come_again() {
    let full = || RecordError::Full { reason: "the disk is full".into(), retry_after: Duration::from_secs(7) };
    let stale = || RecordError::StaleEpoch;
    let failed = || RecordError::Store(StoreError::Failed("EIO".into()));
    let closed = || RecordError::Store(StoreError::Closed);
    for (how, after) in [(full as fn() -> RecordError, "7"), (stale, "1"), (failed, "5"), (closed, "1")] {
        let stage = in_trouble(how);
        for body in [r#"{"type":"a:b"}"#, r#"[{"type":"a:b"}]"#] {
            let answer = stage.post("/v1/events", body).await;
            assert_eq!((answer.status, answer.header("retry-after")), (503, after), "{answer:?}");
            answer.pointers();
        }
        let relayed = stage.post("/analytics", r#"{"event":"a:b"}"#).await;
        assert_eq!((relayed.status, relayed.header("retry-after")), (503, after), "{relayed:?}");
        let metrics = String::from_utf8(stage.get("/metrics").await.bytes.to_vec()).unwrap();
        assert!(metrics.contains("posthaste_relay_events_total{outcome=\"failed\"} 1"), "{metrics}");
    }
}

#[actix_web::test]
async fn a_conflict_names_the_event_of_an_array_that_has_it() {
    let stage = in_trouble(|| RecordError::Conflict { index: 3, first: EventId::new(1, 2, 3) });
    let answer = stage.post("/v1/events", r#"[{"type":"a:b"}]"#).await;
    assert_eq!((answer.status, answer.pointers()), (409, vec!["/3/idempotency_key".to_owned()]));
}

#[actix_web::test]
async fn a_store_that_fails_is_503_on_every_route_and_its_words_stay_in_the_log() {
    let stage = in_trouble(|| RecordError::StaleEpoch);
    let event = EventId::new(1, 2, 3);
    let delivery = DeliveryId { event, subscription: SubscriptionId(1) };
    let reads = [
        "/v1/events".to_owned(),
        format!("/v1/events/{event}"),
        "/v1/deliveries".to_owned(),
        format!("/v1/deliveries/{delivery}"),
        "/v1/subscriptions".to_owned(),
        "/v1/subscriptions/x".to_owned(),
        "/v1/replays".to_owned(),
        "/v1/replays/rpl_1".to_owned(),
    ];
    for path in reads {
        let answer = stage.get(&path).await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, "5"), "{path}");
        assert!(!String::from_utf8_lossy(&answer.bytes).contains("on fire"));
    }
    assert_eq!(stage.post(&format!("/v1/deliveries/{delivery}/retry"), "").await.status, 503);
    for path in ["", "/x/pause", "/x/rotate-secret", "/x/replay"] {
        let answer = stage.post(&format!("/v1/subscriptions{path}"), "{}").await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, "5"), "{path}");
        assert!(!String::from_utf8_lossy(&answer.bytes).contains("on fire"));
    }
    for method in [actix_web::http::Method::PATCH, actix_web::http::Method::DELETE] {
        let request = super::stage::request(method, "/v1/subscriptions/x").set_payload("{}");
        assert_eq!(stage.send(request).await.status, 503);
    }
    let ready = stage.get("/readyz").await;
    assert_eq!((ready.status, ready.header("retry-after")), (503, "5"));
    assert!(ready.json()["detail"].as_str().unwrap().contains("disk is full"));
    assert!(String::from_utf8_lossy(&stage.get("/metrics").await.bytes).contains("posthaste_ready 0"));
}

#[actix_web::test]
async fn a_registry_that_is_gone_is_503() {
    let stage = Stage::open().await;
    let engine = stage.engine.as_ref().unwrap();
    engine.registry.send(Stop { grace: Duration::ZERO }).await.unwrap().unwrap();
    engine.stopped().await;
    assert_eq!(stage.post("/v1/events", json!({"type": "a:b"}).to_string()).await.status, 503);
    assert_eq!(stage.get("/v1/events").await.status, 503);
    assert_eq!(stage.get("/readyz").await.status, 503);
    assert_eq!(stage.get("/healthz").await.status, 200);
}
