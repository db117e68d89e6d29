//! `/v1/event-types`: the catalogue as callers see it: what each type's properties look like, what leaves of them as
//! telemetry, and which paths a `where` may name.
//!
//! Read from the snapshot that events are prepared against, so it is true of the next post.

use super::events::PAGE_BYTES;
use super::problem::Problem;
use super::query::{AFTER, Query};
use super::shapes::{EventTypeShape, Listing};
use super::{Scope, Shared, json};
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use posthaste_events::EventType;
use serde_json::value::{RawValue, to_raw_value};

/// Lists the declared types, by name.
pub(super) async fn list(shared: web::Data<Shared>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    shared.admit(&request, Scope::Read)?;
    let mut asked = Query::read(request.query_string());
    let after = asked.with("after", AFTER, |text| EventType::parse(text).ok());
    let limit = asked.limit();
    asked.finish()?;
    let snapshot = (shared.snapshot)();
    let mut page: Vec<(&EventType, Box<RawValue>)> = Vec::new();
    let (mut bytes, mut more) = (0, false);
    for (name, declared) in snapshot.catalogue.types() {
        if after.as_ref().is_some_and(|after| name <= after) {
            continue;
        }
        if page.len() >= limit || bytes >= PAGE_BYTES {
            more = true;
            break;
        }
        // Two schemas of a deep type are long, so pages end by their bytes too. Texts and numbers always serialize.
        if let Ok(shape) = to_raw_value(&EventTypeShape::new(name, declared)) {
            bytes += shape.get().len();
            page.push((name, shape));
        }
    }
    let next = page.last().filter(|_| more).map(|(name, _)| name.as_str().to_owned());
    let data = page.into_iter().map(|(_, shape)| shape).collect();
    Ok(json(StatusCode::OK, &Listing { data, next }))
}

/// Shows one type.
pub(super) async fn show(
    shared: web::Data<Shared>,
    request: HttpRequest,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    shared.admit(&request, Scope::Read)?;
    Query::none(request.query_string())?;
    let missing = || Problem::not_found("there is no such event type");
    let name = EventType::parse(&name).map_err(|_| missing())?;
    let snapshot = (shared.snapshot)();
    let declared = snapshot.catalogue.get(&name).ok_or_else(missing)?;
    Ok(json(StatusCode::OK, &EventTypeShape::new(&name, declared)))
}
