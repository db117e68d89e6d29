//! `/healthz`, `/readyz`, `/metrics` and `/`: whether it lives, whether it can record, how it is.

use super::desk::ask;
use super::problem::Problem;
use super::query::Query;
use super::{Scope, Shared, json};
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use posthaste_actors::messages::{EngineHealth, InspectHealth};
use serde_json::json as value;
use std::time::Duration;

/// A registry that does not answer so long is not ready.
const HEALTH_WAIT_MAX: Duration = Duration::from_secs(3);

/// The process lives and answers.
pub(super) async fn live(request: HttpRequest) -> Result<HttpResponse, Problem> {
    Query::none(request.query_string())?;
    Ok(json(StatusCode::OK, &value!({"status": "live"})))
}

/// Events can be recorded.
pub(super) async fn ready(shared: web::Data<Shared>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    Query::none(request.query_string())?;
    let health = health(&shared).await?;
    if shared.is_stopping() || health.stopping {
        return Err(Problem::unavailable("the daemon is stopping", Duration::from_secs(2)));
    }
    match health.outbox.refusing {
        Some(reason) => Err(Problem::unavailable(format!("nothing new is taken: {reason}"), Duration::from_secs(5))),
        None => Ok(json(StatusCode::OK, &value!({"status": "ready"}))),
    }
}

/// Everything countable, as Prometheus reads it. It is about all tenants, so a token that is bound to one gets none.
pub(super) async fn metrics(shared: web::Data<Shared>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let caller = shared.admit(&request, Scope::Read)?;
    Query::none(request.query_string())?;
    if caller.tenant.is_some() {
        return Err(Problem::forbidden("metrics are about all tenants, and the token is bound to one"));
    }
    let health = health(&shared).await?;
    let text = crate::metrics::text(&health, &shared.counters, shared.is_stopping());
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text))
}

async fn health(shared: &Shared) -> Result<EngineHealth, Problem> {
    ask(&shared.desk.health, InspectHealth, HEALTH_WAIT_MAX).await
}

/// Says what runs here.
pub(super) async fn front(request: HttpRequest) -> Result<HttpResponse, Problem> {
    Query::none(request.query_string())?;
    let text = concat!(
        "Posthaste ",
        env!("CARGO_PKG_VERSION"),
        " runs here.\n\n",
        "POST /v1/events records an event; GET /v1/events, /v1/deliveries and /v1/subscriptions look at what became\n",
        "of it; /v1/tail streams attempts; /healthz, /readyz and /metrics say how it is.\n",
    );
    Ok(HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(text))
}
