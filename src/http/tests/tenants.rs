//! R21, the part of tenants: whatever stands in a path, a token of another tenant is told that it is not there.
//!
//! The routes are those of the page, which are the router's (`docs.rs` holds that): one that is added is asked here too, or
//! fails until it is said what it is.

use super::docs::documented;
use super::stage::{JSON, Stage, request, tokens, with_token};
use actix_web::http::Method;
use actix_web::test::TestRequest;
use serde_json::Value;

/// What names nothing of a tenant's, so that another one may ask for it; with what of it is looked at elsewhere.
const OF_NOBODY: [&str; 11] = [
    // What is recorded or made is the token's tenant's: `refusing.rs`, `written.rs`, `relay.rs`.
    "POST /v1/events",
    "POST /v1/subscriptions",
    "POST /analytics",
    "OPTIONS /analytics",
    // The catalogue is everybody's.
    "GET /v1/event-types",
    "GET /v1/event-types/{type}",
    // Streams only what a caller sees: `sockets.rs`. Figures of all are for tokens that are bound to no tenant.
    "GET /v1/tail",
    "GET /metrics",
    "GET /healthz",
    "GET /readyz",
    "GET /",
];

/// Ids of what the tenant `acme` has.
struct Acme {
    event: String,
    delivery: String,
    replay: String,
}

async fn acme(stage: &Stage) -> Acme {
    let post = |path: &str, body: &'static str| {
        with_token(TestRequest::post().uri(path).append_header(JSON).set_payload(body), "acme")
    };
    let id = |value: &Value| value.as_str().unwrap().to_owned();
    let event = id(&stage.send(post("/v1/events", r#"{"type":"a:b"}"#)).await.json()["id"]);
    let shown = stage.send(with_token(TestRequest::get().uri(&format!("/v1/events/{event}")), "acme")).await.json();
    let delivery = id(&shown["deliveries"][0]["id"]);
    let replay = id(&stage.send(post("/v1/subscriptions/acme/replay", "{}")).await.json()["id"]);
    Acme { event, delivery, replay }
}

impl Acme {
    /// The path with what is Acme's in it; `None` where there is nothing to put in.
    fn path(&self, path: &str) -> Option<String> {
        let (before, rest) = path.split_once('{')?;
        let after = rest.split_once('}')?.1;
        let id = match before {
            "/v1/events/" => &self.event,
            "/v1/deliveries/" => &self.delivery,
            "/v1/replays/" => &self.replay,
            "/v1/subscriptions/" => "acme",
            other => panic!("{other} has a place that this test does not know: say whose it is"),
        };
        Some(format!("{before}{id}{after}"))
    }

    fn is_told_in(&self, text: &str) -> bool {
        let quoted = |id: &str| text.contains(&format!("\"{id}\""));
        quoted(&self.event) || quoted(&self.delivery) || quoted(&self.replay) || quoted("acme")
    }
}

/// A request that is whole, so that nothing but access can refuse it.
fn whole(method: &str, path: &str, token: &str) -> TestRequest {
    let asked = request(Method::from_bytes(method.as_bytes()).unwrap(), path);
    let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let asked = if matches!(method, "POST" | "PATCH") {
        asked.append_header(("content-type", kind)).set_payload("{}")
    } else {
        asked
    };
    with_token(asked, token)
}

#[actix_web::test]
async fn whatever_a_path_names_is_not_there_for_another_tenant() {
    let stage = Stage::new(tokens()).await;
    let acme = acme(&stage).await;
    let routes: Vec<_> = documented().into_iter().map(|(method, path, _)| (method, path)).collect();
    let (mut hidden, mut listed) = (0, 0);
    // What removes comes last, so that the others find what they name.
    let (removing, asking): (Vec<_>, Vec<_>) = routes.into_iter().partition(|(method, _)| method == "DELETE");
    for (method, path) in asking.into_iter().chain(removing) {
        if OF_NOBODY.contains(&format!("{method} {path}").as_str()) {
            continue;
        }
        let Some(named) = acme.path(&path) else {
            assert_eq!(method, "GET", "{method} {path} is new: say whose what it does is");
            let (theirs, ours) =
                (stage.send(whole("GET", &path, "other")).await, stage.send(whole("GET", &path, "acme")).await);
            assert!(!acme.is_told_in(&theirs.json().to_string()), "{path}: {theirs:?}");
            // Control: to whom it belongs it is told.
            assert!(acme.is_told_in(&ours.json().to_string()), "{path}: {ours:?}");
            listed += 1;
            continue;
        };
        let other = stage.send(whole(&method, &named, "other")).await;
        assert_eq!(other.status, 404, "{method} {named}: {other:?}");
        // Control: for whom it belongs to it is there.
        let own = stage.send(whole(&method, &named, "acme")).await;
        assert_ne!(own.status, 404, "{method} {named}: {own:?}");
        hidden += 1;
    }
    assert!(hidden >= 14 && listed >= 4, "{hidden} hidden, {listed} listed");
}
