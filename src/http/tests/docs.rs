//! The page for users: its routes are the router's, and each needs the scope that stands there.

use super::stage::{Stage, request, tokens, with_token};
use crate::http::routed;
use actix_web::dev::Service as _;
use actix_web::http::Method;
use actix_web::test::{TestRequest, init_service};
use std::collections::{BTreeMap, BTreeSet};

const PAGE: &str = include_str!("../../../docs/http-api.md");

/// Method, path and scope of each row of the table of routes.
pub(super) fn documented() -> Vec<(String, String, String)> {
    let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| `")).filter(|row| row.contains("` | "));
    let read = |row: &str| {
        let (route, rest) = row.split_once("` | ")?;
        let (method, path) = route.split_once(' ')?;
        let scope = rest.split(" | ").next()?.trim_matches('`');
        path.starts_with('/').then(|| (method.to_owned(), path.to_owned(), scope.to_owned()))
    };
    rows.filter_map(read).collect()
}

/// The paths that the router knows, as its code names them.
fn routed_paths() -> BTreeSet<String> {
    let code = include_str!("../mod.rs");
    let routes = code.split("fn routes(").nth(1).unwrap().split("\n}\n").next().unwrap();
    routes.split("resource(\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}

#[actix_web::test]
async fn the_page_has_the_routes_of_the_router_and_no_other() {
    let stage = Stage::open().await;
    let mut methods: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (method, path, _) in documented() {
        methods.entry(path).or_default().insert(method);
    }
    let paths: BTreeSet<String> = methods.keys().cloned().collect();
    assert_eq!(paths, routed_paths());
    for (path, methods) in methods {
        // What a route takes it says itself, when it is asked for something else.
        let answer = stage.send(request(Method::PUT, &path.replace(['{', '}'], ""))).await;
        assert_eq!(answer.status, 405, "{path}");
        let allowed: BTreeSet<String> =
            answer.header("allow").split(", ").filter(|m| *m != "HEAD").map(str::to_owned).collect();
        assert_eq!(methods, allowed, "{path}");
    }
}

/// The status of an answer whose body is not read: that of a stream has no end.
async fn status(stage: &Stage, request: TestRequest) -> u16 {
    let service = init_service(routed(stage.shared.clone())).await;
    service.call(request.to_request()).await.unwrap().status().as_u16()
}

#[actix_web::test]
async fn each_route_needs_the_scope_that_stands_there() {
    let stage = Stage::new(tokens()).await;
    let mut refused = 0;
    for (method, path, scope) in documented() {
        let path = path.replace(['{', '}'], "");
        let ask = |token: &str| with_token(request(Method::from_bytes(method.as_bytes()).unwrap(), &path), token);
        for token in ["record", "relay", "read", "manage"] {
            let status = status(&stage, ask(token)).await;
            let includes = (token, scope.as_str()) == ("record", "relay");
            let may = scope == "none" || token == scope || includes;
            assert_eq!(status != 403, may, "{method} {path} with {token}: {status}");
            refused += usize::from(!may);
        }
        if scope != "none" {
            assert_eq!(
                stage.send(request(ask("read").to_request().method().clone(), &path)).await.status,
                401,
                "{path}"
            );
        }
    }
    assert!(refused > 30, "{refused}");
}

#[actix_web::test]
async fn what_is_said_not_to_be_built_is_refused() {
    let stage = Stage::open().await;
    let page = include_str!("../../../docs/not-yet.md");
    let row = page.lines().find(|line| line.contains("`GET /openapi.json`")).unwrap();
    assert!(row.contains("404"), "{row}");
    assert_eq!(stage.get("/openapi.json").await.status, 404);
    let event = request(Method::POST, "/v1/events").append_header(("content-type", "application/cloudevents+json"));
    assert_eq!(stage.send(event).await.status, 415);
    assert!(page.lines().any(|line| line.contains("CloudEvents") && line.contains("415")));
}
