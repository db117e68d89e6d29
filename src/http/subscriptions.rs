//! `/v1/subscriptions`: looking at them, pausing, resuming and testing them.

use super::access::Caller;
use super::desk::{LOOK_WAIT_MAX, TEST_WAIT_MAX, ask};
use super::events::not_recorded;
use super::problem::{Fault, Problem, escaped, quoted};
use super::query::Query;
use super::reveal::{self, URL};
use super::shapes::{self, Listing, Tailed};
use super::{Scope, Shared, intake, json, written};
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use posthaste_actors::messages::{
    InspectSubscription, InspectSubscriptions, NotTested, Pause, Resume, SubscriptionView, Test,
};
use posthaste_events::EventType;
use serde_json::Value;
use std::time::Duration;

/// Lists the configured subscriptions, by name.
pub(super) async fn list(shared: web::Data<Shared>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let mut asked = Query::read(request.query_string());
    let reveal = asked.reveal(URL);
    let caller = shared.admit(&request, reveal::scope(reveal))?;
    let (after, limit) = (asked.text("after"), asked.limit());
    asked.finish()?;
    let mut seen: Vec<_> = all(&shared).await?.into_iter().filter(|s| is_seen(&caller, s)).collect();
    seen.sort_by(|a, b| a.name.cmp(&b.name));
    seen.retain(|s| after.as_ref().is_none_or(|after| s.name > *after));
    let next = seen.get(limit).and(seen.get(limit - 1)).map(|last| last.name.clone());
    seen.truncate(limit);
    if reveal {
        seen.iter_mut().for_each(show_whole);
        reveal::audit(&caller, URL, seen.iter().map(|s| s.name.as_str()));
    }
    let data = seen.iter().map(shapes::subscription).collect();
    Ok(json(StatusCode::OK, &Listing { data, next }))
}

/// Shows one subscription.
pub(super) async fn show(
    shared: web::Data<Shared>,
    request: HttpRequest,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let mut asked = Query::read(request.query_string());
    let reveal = asked.reveal(URL);
    let caller = shared.admit(&request, reveal::scope(reveal))?;
    asked.finish()?;
    let mut found = find(&shared, &caller, &name).await?;
    if reveal {
        show_whole(&mut found);
        reveal::audit(&caller, URL, std::iter::once(&found.name));
    }
    Ok(written::alone(StatusCode::OK, &found, None))
}

/// Puts what is secret of the settings in the place of what is shown of it.
fn show_whole(subscription: &mut SubscriptionView) {
    subscription.shown.append(&mut subscription.reveal.whole());
}

/// Pauses a subscription: what it is owed is held.
pub(super) async fn pause(
    shared: web::Data<Shared>,
    request: HttpRequest,
    payload: web::Payload,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let (subscription, bound) = may_change(&shared, &request, payload, name).await?;
    told(ask(&shared.desk.pause, Pause { subscription, bound }, LOOK_WAIT_MAX).await??)
}

/// Ends a pause or a disabling.
pub(super) async fn resume(
    shared: web::Data<Shared>,
    request: HttpRequest,
    payload: web::Payload,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let (subscription, bound) = may_change(&shared, &request, payload, name).await?;
    told(ask(&shared.desk.resume, Resume { subscription, bound }, LOOK_WAIT_MAX).await??)
}

/// Sends an event to a subscription now, for it alone, and answers with the attempt.
pub(super) async fn test(
    shared: web::Data<Shared>,
    request: HttpRequest,
    payload: web::Payload,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let caller = shared.admit(&request, Scope::Manage)?;
    Query::none(request.query_string())?;
    let mut fields = intake::few_fields(payload).await?;
    let event_type = fields.remove("type").map(|value| read_type(&value)).transpose()?;
    if let Some(unknown) = fields.keys().next() {
        let pointer = format!("/{}", escaped(&quoted(unknown)));
        return Err(Problem::wrong(vec![Fault::at(pointer, "there is no such field here; there is type")]));
    }
    find(&shared, &caller, &name).await?;
    let message = Test { subscription: name.into_inner(), event_type, bound: caller.bound() };
    let attempt = ask(&shared.desk.test, message, TEST_WAIT_MAX).await?.map_err(not_tested)?;
    Ok(json(StatusCode::OK, &Tailed::new(&attempt)))
}

fn read_type(value: &Value) -> Result<EventType, Problem> {
    let wrong = |detail: String| Problem::wrong(vec![Fault::at("/type", detail)]);
    let text =
        value.as_str().ok_or_else(|| wrong("this is the type of an event; leave it out for a plain test".into()))?;
    EventType::parse(text).map_err(|e| wrong(e.to_string()))
}

fn not_tested(why: NotTested) -> Problem {
    let detail = why.to_string();
    match why {
        NotTested::Unknown => missing(),
        NotTested::Paused
        | NotTested::Disabled(_)
        | NotTested::CircuitOpen
        | NotTested::AskedToWait(_)
        | NotTested::TelemetryOff => Problem::conflict(detail),
        NotTested::Undeclared(_) | NotTested::NoExample(_) | NotTested::NothingToTell(_) | NotTested::Unfit(_) => {
            Problem::wrong(vec![Fault::at("/type", detail)])
        }
        NotTested::Broken => Problem::unavailable(detail, Duration::from_secs(5)),
        NotTested::NoAnswer { .. } => Problem::new(StatusCode::GATEWAY_TIMEOUT, detail),
        NotTested::Refused(error) => not_recorded(error, false),
        NotTested::Store(error) => error.into(),
    }
}

/// Which subscription is to be changed, and the tenant that whoever asks is bound to: whose it is is checked again where it
/// is changed, since it may go to another meanwhile.
async fn may_change(
    shared: &Shared,
    request: &HttpRequest,
    payload: web::Payload,
    name: web::Path<String>,
) -> Result<(String, Option<String>), Problem> {
    let caller = shared.admit(request, Scope::Manage)?;
    Query::none(request.query_string())?;
    intake::no_fields(payload).await?;
    find(shared, &caller, &name).await?;
    Ok((name.into_inner(), caller.bound()))
}

/// The subscription as it is after a change.
fn told(now: Option<SubscriptionView>) -> Result<HttpResponse, Problem> {
    Ok(json(StatusCode::OK, &shapes::subscription(&now.ok_or_else(missing)?)))
}

/// Every subscription that is configured or still owed something.
pub(super) async fn all(shared: &Shared) -> Result<Vec<SubscriptionView>, Problem> {
    Ok(ask(&shared.desk.subscriptions, InspectSubscriptions, LOOK_WAIT_MAX).await??)
}

/// One of them by its name, the built-in one too.
pub(super) async fn named(shared: &Shared, name: &str) -> Result<Option<SubscriptionView>, Problem> {
    Ok(ask(&shared.desk.subscription, InspectSubscription(name.to_owned()), LOOK_WAIT_MAX).await??)
}

async fn find(shared: &Shared, caller: &Caller, name: &str) -> Result<SubscriptionView, Problem> {
    let found = named(shared, name).await?;
    found.filter(|s| is_seen(caller, s)).ok_or_else(missing)
}

/// One that left the configuration is owed something perhaps, yet it is listed no more.
fn is_seen(caller: &Caller, subscription: &SubscriptionView) -> bool {
    subscription.listed && caller.sees(subscription.tenant.as_deref())
}

fn missing() -> Problem {
    Problem::not_found("there is no such subscription")
}
