//! `/v1/subscriptions`: making, changing and removing them, and their secrets.
//!
//! Those of the configuration are read-only here. What was written is never shown again but by `?reveal=url`; a secret that
//! was made here is shown once.

use super::access::Caller;
use super::desk::{LOOK_WAIT_MAX, ask};
use super::problem::{Fault, Problem, escaped, quoted};
use super::query::Query;
use super::{Scope, Shared, intake, json, shapes};
use crate::config::duration;
use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use posthaste_actors::author::{Mistake, NotWritten, Rotation};
use posthaste_actors::messages::{
    Changed, NotChanged, Put, PutSubscription, RemoveSubscription, RotateSecret, SubscriptionView,
};
use posthaste_actors::settings::{Source, Version};
use serde_json::{Map, Value};
use std::time::Duration;

/// How long a subscription's settings may be, in bytes: 64 KiB.
pub(crate) const SETTINGS_MAX: usize = 64 * 1024;

/// Makes one.
pub(super) async fn post(
    shared: web::Data<Shared>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let (caller, settings) = read(&shared, &request, payload).await?;
    let put = PutSubscription { put: Put::Create(settings), bound: caller.bound() };
    let made = ask(&shared.desk.put, put, LOOK_WAIT_MAX).await?.map_err(not_changed)?;
    let location = format!("/v1/subscriptions/{}", made.view.name);
    let mut answer = told(StatusCode::CREATED, &made);
    if let Ok(location) = header::HeaderValue::try_from(location) {
        answer.headers_mut().insert(header::LOCATION, location);
    }
    Ok(answer)
}

/// Changes one by a JSON merge patch.
pub(super) async fn patch(
    shared: web::Data<Shared>,
    request: HttpRequest,
    payload: web::Payload,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let (caller, patch) = read(&shared, &request, payload).await?;
    let put = Put::Change { name: name.into_inner(), patch, versions: versions(&request)? };
    let put = PutSubscription { put, bound: caller.bound() };
    let changed = ask(&shared.desk.put, put, LOOK_WAIT_MAX).await?.map_err(not_changed)?;
    Ok(told(StatusCode::OK, &changed))
}

/// Removes one: what it is owed is cancelled.
pub(super) async fn delete(
    shared: web::Data<Shared>,
    request: HttpRequest,
    payload: web::Payload,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let caller = shared.admit(&request, Scope::Manage)?;
    Query::none(request.query_string())?;
    intake::no_fields(payload).await?;
    let subscription = name.into_inner();
    let remove = RemoveSubscription { subscription, versions: versions(&request)?, bound: caller.bound() };
    ask(&shared.desk.remove, remove, LOOK_WAIT_MAX).await?.map_err(not_changed)?;
    Ok(HttpResponse::NoContent().finish())
}

/// Puts a new secret first; those before it count until the grace is over.
pub(super) async fn rotate(
    shared: web::Data<Shared>,
    request: HttpRequest,
    payload: web::Payload,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let caller = shared.admit(&request, Scope::Manage)?;
    Query::none(request.query_string())?;
    intake::is_json(request.headers())?;
    let rotation = read_rotation(intake::few_fields(payload).await?)?;
    let rotate = RotateSecret {
        subscription: name.into_inner(),
        rotation,
        versions: versions(&request)?,
        bound: caller.bound(),
    };
    let changed = ask(&shared.desk.rotate, rotate, LOOK_WAIT_MAX).await?.map_err(not_changed)?;
    Ok(told(StatusCode::OK, &changed))
}

/// The settings in a body, from somebody who may change subscriptions.
async fn read(
    shared: &Shared,
    request: &HttpRequest,
    payload: web::Payload,
) -> Result<(Caller, Map<String, Value>), Problem> {
    let admitted = shared.admit(request, Scope::Manage).and_then(|caller| {
        Query::none(request.query_string())?;
        intake::is_json_as(request.headers(), &["application/json", "application/merge-patch+json"])?;
        Ok(caller)
    });
    let caller = match admitted {
        Ok(caller) => caller,
        Err(problem) => {
            intake::discard(payload).await;
            return Err(problem);
        }
    };
    let (body, _share) = shared.intake.body_within(request, payload, SETTINGS_MAX).await?;
    let text = super::json::check(&body).map_err(|e| Problem::unreadable(format!("the body is not JSON: {e}")))?;
    let not_an_object =
        |_| Problem::wrong(vec![Fault::at("", "this takes a JSON object: the subscription's settings")]);
    Ok((caller, serde_json::from_str(text).map_err(not_an_object)?))
}

fn read_rotation(mut fields: Map<String, Value>) -> Result<Rotation, Problem> {
    let mut faults = Vec::new();
    let secret = match fields.remove("secret") {
        None => None,
        Some(Value::String(secret)) if secret.starts_with("env:") || secret.starts_with("file:") => {
            faults.push(Fault::at("/secret", "`env:` and `file:` are not read here; write the secret itself"));
            None
        }
        Some(Value::String(secret)) => Some(secret),
        Some(_) => {
            faults.push(Fault::at("/secret", "this is the new secret, such as whsec_…; leave it out and one is made"));
            None
        }
    };
    let grace = fields.remove("grace").and_then(|value| {
        let grace = value.as_str().and_then(duration);
        if grace.is_none() {
            faults.push(Fault::at("/grace", "this is a duration such as \"24h\", from \"0s\" to \"7d\""));
        }
        grace
    });
    let unknown = fields.keys().map(|name| format!("/{}", escaped(&quoted(name))));
    faults.extend(unknown.map(|at| Fault::at(at, "there is no such field here; there are secret and grace")));
    if faults.is_empty() { Ok(Rotation { secret, grace }) } else { Err(Problem::wrong(faults)) }
}

/// The versions that `If-Match` names (RFC 9110 section 13.1.1); `None`: any will do. What is no tag of ours matches none.
fn versions(request: &HttpRequest) -> Result<Option<Vec<Version>>, Problem> {
    let mut named = Vec::new();
    let mut is_there = false;
    for value in request.headers().get_all(header::IF_MATCH) {
        let unreadable = |_| Problem::unreadable("the header If-Match is not a list of tags");
        let text = value.to_str().map_err(unreadable)?.trim();
        if text == "*" {
            return Ok(None);
        }
        is_there = true;
        let tags = text.split(',').map(str::trim);
        named.extend(tags.filter_map(read_tag));
    }
    Ok(is_there.then_some(named))
}

/// The tag of a subscription: that of the API's alone, since the others are not changed here.
fn tag(view: &SubscriptionView) -> Option<header::HeaderValue> {
    match view.source {
        Some(Source::Api(version)) => header::HeaderValue::try_from(write_tag(version)).ok(),
        _ => None,
    }
}

/// A strong tag: the revision, and what tells it from that of another which had the name before.
fn write_tag(Version { revision, made }: Version) -> String {
    format!("\"{revision}-{made:016x}\"")
}

fn read_tag(tag: &str) -> Option<Version> {
    let (revision, made) = tag.strip_prefix('"')?.strip_suffix('"')?.split_once('-')?;
    let version = Version { revision: revision.parse().ok()?, made: u64::from_str_radix(made, 16).ok()? };
    // Compared byte by byte (RFC 9110 section 8.8.3.2): another spelling is another tag.
    (write_tag(version) == tag).then_some(version)
}

/// A subscription alone, with its tag.
pub(super) fn alone(status: StatusCode, view: &SubscriptionView, secret: Option<&str>) -> HttpResponse {
    let mut shape = shapes::subscription(view);
    if let (Some(secret), Some(shape)) = (secret, shape.as_object_mut()) {
        shape.insert("secret".to_owned(), secret.into());
    }
    let mut answer = json(status, &shape);
    if let Some(tag) = tag(view) {
        answer.headers_mut().insert(header::ETAG, tag);
    }
    answer
}

/// What is told of a change: a secret is in the answer, so that nothing on the way may keep it.
fn told(status: StatusCode, changed: &Changed) -> HttpResponse {
    let mut answer = alone(status, &changed.view, changed.secret.as_deref());
    answer.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    answer
}

fn not_changed(why: NotChanged) -> Problem {
    let detail = why.to_string();
    match why {
        NotChanged::Unknown => Problem::not_found(detail),
        NotChanged::Exists | NotChanged::Configured | NotChanged::NotKept | NotChanged::TooMany(_) => {
            Problem::conflict(detail)
        }
        NotChanged::Foreign => Problem::forbidden(detail),
        NotChanged::Version(_) => Problem::new(StatusCode::PRECONDITION_FAILED, detail),
        NotChanged::NotWritten(NotWritten::Wrong(mistakes)) => {
            let fault = |Mistake { pointer, detail }| Fault::at(pointer, detail);
            Problem::wrong(mistakes.into_iter().map(fault).collect())
        }
        NotChanged::NotWritten(NotWritten::Unreadable(_) | NotWritten::NoSecrets) => Problem::conflict(detail),
        NotChanged::Busy => Problem::unavailable(detail, Duration::from_secs(1)),
        NotChanged::Store(error) => error.into(),
    }
}
