//! `/v1/replays` and `POST /v1/subscriptions/{name}/replay`: ordering that the past is delivered, and seeing how far that is.

use super::desk::{LOOK_WAIT_MAX, ask};
use super::problem::{Fault, Problem, escaped, quoted};
use super::query::Query;
use super::shapes::Listing;
use super::{Scope, Shared, intake, json};
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use posthaste_actors::messages::{CancelReplay, InspectReplays, NotReplayed, Replay, ReplayView};
use posthaste_events::{Pattern, State, Timestamp};
use posthaste_outbox::{ReplayId, ReplayState};
use serde::Serialize;
use serde_json::{Map, Value};
use std::time::Duration;

/// How an id begins.
const PREFIX: &str = "rpl_";

/// A replay.
#[derive(Serialize)]
struct Shape<'a> {
    id: String,
    subscription: Option<&'a str>,
    state: &'static str,
    replayed: u64,
    since: Option<String>,
    until: Option<String>,
    #[serde(rename = "type")]
    event_type: Option<&'a str>,
    of_state: Option<&'static str>,
    at: String,
    ended_at: Option<String>,
}

impl<'a> Shape<'a> {
    fn new(view: &'a ReplayView) -> Self {
        let ReplayView { replay, subscription, .. } = view;
        Self {
            id: format!("{PREFIX}{}", replay.id.0),
            subscription: subscription.as_deref(),
            state: match replay.state {
                ReplayState::Running => "running",
                ReplayState::Done => "done",
                ReplayState::Cancelled => "cancelled",
            },
            replayed: replay.replayed,
            since: replay.order.since.map(|t| t.to_string()),
            until: replay.order.until.map(|t| t.to_string()),
            event_type: replay.order.event_type.as_ref().map(Pattern::as_str),
            of_state: replay.order.state.map(State::as_str),
            at: replay.at.to_string(),
            ended_at: replay.ended_at.map(|t| t.to_string()),
        }
    }
}

/// Orders a replay.
pub(super) async fn post(
    shared: web::Data<Shared>,
    request: HttpRequest,
    payload: web::Payload,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let caller = shared.admit(&request, Scope::Manage)?;
    Query::none(request.query_string())?;
    intake::is_json(request.headers())?;
    let order = read(intake::few_fields(payload).await?)?;
    let order = Replay { subscription: name.into_inner(), bound: caller.bound(), ..order };
    let view = ask(&shared.desk.replay, order, LOOK_WAIT_MAX).await?.map_err(not_replayed)?;
    Ok(json(StatusCode::ACCEPTED, &Shape::new(&view)))
}

/// Lists them, the latest first.
pub(super) async fn list(shared: web::Data<Shared>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let caller = shared.admit(&request, Scope::Read)?;
    let mut asked = Query::read(request.query_string());
    let (after, limit) = (asked.with("after", super::query::AFTER, read_id), asked.limit());
    asked.finish()?;
    let mut seen = ask(&shared.desk.replays, InspectReplays, LOOK_WAIT_MAX).await??;
    seen.retain(|view| caller.sees(view.tenant.as_deref()) && after.is_none_or(|after| view.replay.id < after));
    seen.sort_by_key(|view| std::cmp::Reverse(view.replay.id));
    let next = seen.get(limit).and(seen.get(limit - 1)).map(|last| format!("{PREFIX}{}", last.replay.id.0));
    seen.truncate(limit);
    Ok(json(StatusCode::OK, &Listing { data: seen.iter().map(Shape::new).collect(), next }))
}

/// Shows one.
pub(super) async fn show(
    shared: web::Data<Shared>,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let caller = shared.admit(&request, Scope::Read)?;
    Query::none(request.query_string())?;
    Ok(json(StatusCode::OK, &Shape::new(&find(&shared, &caller, &id).await?)))
}

/// Ends one; what it made due stays so.
pub(super) async fn cancel(
    shared: web::Data<Shared>,
    request: HttpRequest,
    payload: web::Payload,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let caller = shared.admit(&request, Scope::Manage)?;
    Query::none(request.query_string())?;
    intake::no_fields(payload).await?;
    let found = find(&shared, &caller, &id).await?;
    if found.replay.state != ReplayState::Running {
        return Err(Problem::conflict("this replay has ended"));
    }
    let ended = ask(&shared.desk.cancel_replay, CancelReplay(found.replay.id), LOOK_WAIT_MAX).await??;
    Ok(json(StatusCode::OK, &Shape::new(&ended.ok_or_else(missing)?)))
}

async fn find(shared: &Shared, caller: &super::access::Caller, id: &str) -> Result<ReplayView, Problem> {
    let id = read_id(id).ok_or_else(missing)?;
    let all = ask(&shared.desk.replays, InspectReplays, LOOK_WAIT_MAX).await??;
    let found = all.into_iter().find(|view| view.replay.id == id && caller.sees(view.tenant.as_deref()));
    found.ok_or_else(missing)
}

fn read_id(text: &str) -> Option<ReplayId> {
    let digits = text.strip_prefix(PREFIX).filter(|d| d.bytes().all(|b| b.is_ascii_digit()))?;
    digits.parse().ok().map(ReplayId)
}

fn missing() -> Problem {
    Problem::not_found("there is no such replay")
}

/// The order in a body, yet without its subscription.
fn read(mut fields: Map<String, Value>) -> Result<Replay, Problem> {
    let mut faults = Vec::new();
    let time = |name: &str, fields: &mut Map<String, Value>, faults: &mut Vec<Fault>| {
        let value = fields.remove(name)?;
        let time = value.as_str().and_then(|text| Timestamp::parse(text).ok());
        if time.is_none() {
            let detail = "this is a time as RFC 3339 writes it, such as 2026-01-31T12:00:00Z";
            faults.push(Fault::at(format!("/{name}"), detail));
        }
        time
    };
    let (since, until) = (time("since", &mut fields, &mut faults), time("until", &mut fields, &mut faults));
    let state = fields.remove("state").and_then(|value| {
        let state = value.as_str().and_then(State::parse);
        if state.is_none() {
            faults.push(Fault::at("/state", "this is delivered, dead or cancelled; leave it out for all of them"));
        }
        state
    });
    let event_type = fields.remove("type").and_then(|value| {
        let pattern = value.as_str().and_then(|text| Pattern::parse(text).ok());
        if pattern.is_none() {
            faults.push(Fault::at("/type", "this is a type or a pattern of types, such as \"project:**\""));
        }
        pattern
    });
    let unknown = fields.keys().map(|name| format!("/{}", escaped(&quoted(name))));
    let known = "there is no such field here; there are since, until, state and type";
    faults.extend(unknown.map(|at| Fault::at(at, known)));
    if !faults.is_empty() {
        return Err(Problem::wrong(faults));
    }
    Ok(Replay { subscription: String::new(), since, until, state, event_type, bound: None })
}

fn not_replayed(why: NotReplayed) -> Problem {
    let detail = why.to_string();
    match why {
        NotReplayed::Unknown => Problem::not_found(detail),
        NotReplayed::Unsettled(_) => Problem::wrong(vec![Fault::at("/state", detail)]),
        NotReplayed::TelemetryOff => Problem::conflict(detail),
        NotReplayed::TooMany(_) => Problem::too_many(detail, Duration::from_secs(10)),
        NotReplayed::Store(error) => error.into(),
    }
}
