//! `POST /analytics`, the relay: takes what clients bring already anonymized, and gives it to analytics alone.
//!
//! Who may send is judged here: pages by [`super::cors`], tokens by [`super::access`], how much by [`super::rate`]. What
//! leaves of what was brought is decided by the type's telemetry schema, in the snapshot.

use super::desk::{RECORD_WAIT_MAX, ask};
use super::events::{header_key, not_recorded};
use super::problem::{FAULTS_MAX, Fault, Problem, escaped, quoted};
use super::query::Query;
use super::rate::{Limiter, Sender};
use super::{Shared, cors, intake, json, posted};
use crate::config::Relay;
use crate::metrics::RelayOutcome;
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, ResponseError as _, web};
use posthaste_actors::messages::{NotSent, RecordTelemetry, Sent, only};
use posthaste_events::payload::PAYLOAD_MAX;
use posthaste_events::prepare::{RelayDraft, Snapshot, Unfit};
use posthaste_events::{EventType, Pattern};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The media types that JSON may come as: a beacon sends a text as `text/plain`, which needs no preflight.
const KINDS: [&str; 2] = ["application/json", "text/plain"];

/// What `[relay]` says, ready to be asked; replaced as a whole at a reload.
#[derive(Debug)]
pub(super) struct Gate {
    types: Vec<Pattern>,
    origins: Vec<String>,
    limiter: Arc<Limiter>,
}

impl Default for Gate {
    /// Takes nothing: what nobody configured is closed.
    fn default() -> Self {
        Self { types: Vec::new(), origins: Vec::new(), limiter: Arc::new(Limiter::new((1, Duration::from_secs(1)))) }
    }
}

impl Gate {
    /// The same by other settings; allowances go on where the rate stays.
    pub(super) fn changed(&self, relay: &Relay) -> Self {
        let limiter = if self.limiter.rate() == relay.rate_limit {
            Arc::clone(&self.limiter)
        } else {
            Arc::new(Limiter::new(relay.rate_limit))
        };
        Self { types: relay.types.clone(), origins: relay.origins.clone(), limiter }
    }
}

/// Answers a browser that asks whether a page may post.
pub(super) async fn preflight(shared: web::Data<Shared>, request: HttpRequest) -> HttpResponse {
    let gate = shared.gate();
    let mut answer = match cors::judge(request.headers(), &gate.origins) {
        Ok(()) => HttpResponse::NoContent().insert_header(("allow", "OPTIONS, POST")).finish(),
        Err(problem) => problem.error_response(),
    };
    cors::let_read(request.headers(), &gate.origins, answer.headers_mut());
    cors::let_send(request.headers(), &gate.origins, answer.headers_mut());
    answer
}

/// Records what a client brings.
pub(super) async fn post(shared: web::Data<Shared>, request: HttpRequest, payload: web::Payload) -> HttpResponse {
    let gate = shared.gate();
    let (outcome, mut answer) = match relay(&shared, &gate, &request, payload).await {
        Ok(answered) => answered,
        Err(problem) => (refused(problem.status_code()), problem.error_response()),
    };
    shared.counters.relayed(outcome);
    // A page may read why it was refused, too.
    cors::let_read(request.headers(), &gate.origins, answer.headers_mut());
    answer
}

fn refused(status: StatusCode) -> RelayOutcome {
    match status {
        StatusCode::TOO_MANY_REQUESTS => RelayOutcome::Limited,
        status if status.is_server_error() => RelayOutcome::Failed,
        _ => RelayOutcome::Refused,
    }
}

/// The answer to what was recorded.
#[derive(Serialize)]
struct Answer<'a> {
    id: String,
    duplicate: bool,
    /// The first 100 places.
    dropped: &'a [String],
}

async fn relay(
    shared: &Shared,
    gate: &Gate,
    request: &HttpRequest,
    payload: web::Payload,
) -> Result<(RelayOutcome, HttpResponse), Problem> {
    let tenant = match may_post(shared, gate, request) {
        Ok(Some(tenant)) => tenant,
        Ok(None) => {
            intake::discard(payload).await;
            return Ok((RelayOutcome::Off, HttpResponse::NoContent().finish()));
        }
        Err(problem) => {
            // Some clients read no answer before they have sent their whole body.
            intake::discard(payload).await;
            return Err(problem);
        }
    };
    let idempotency_key = header_key(request)?;
    let (body, mut share) = shared.intake.body_within(request, payload, PAYLOAD_MAX).await?;
    let snapshot = (shared.snapshot)();
    let tenant = tenant.as_deref().map(str::to_owned);
    let draft = Reading { gate, snapshot: &snapshot, faults: Vec::new() }.draft(&body, idempotency_key, tenant)?;
    drop(body);
    share.add_events(1)?;
    let sent = match ask(&shared.desk.record_telemetry, RecordTelemetry(vec![draft]), RECORD_WAIT_MAX).await? {
        Ok(sent) => only(sent).map_err(Problem::from)?,
        Err(NotSent::Unfit { why: Unfit::TelemetryOff, .. }) => {
            return Ok((RelayOutcome::Off, HttpResponse::NoContent().finish()));
        }
        Err(NotSent::Unfit { why, .. }) => return Err(not_fit(why)),
        Err(NotSent::Refused(error)) => return Err(not_recorded(error, false)),
    };
    let Sent { recorded, dropped } = sent;
    shared.counters.relay_dropped(dropped.len());
    let answer = Answer { id: recorded.id.to_string(), duplicate: recorded.duplicate, dropped: &dropped };
    let outcome = if recorded.duplicate { RelayOutcome::Duplicate } else { RelayOutcome::Recorded };
    Ok((outcome, json(StatusCode::ACCEPTED, &answer)))
}

/// The tenant of whoever may post this; `None` where telemetry is switched off.
fn may_post(shared: &Shared, gate: &Gate, request: &HttpRequest) -> Result<Option<Option<Arc<str>>>, Problem> {
    cors::judge(request.headers(), &gate.origins)?;
    let mut asked = Query::read(request.query_string());
    let in_url = asked.text("token");
    let caller = shared.access().admit_relay(request, in_url.as_deref())?;
    let sender = Sender::new(caller.token, request.peer_addr().map(|address| address.ip()));
    if let Err(wait) = gate.limiter.take(sender, shared.clock.elapsed()) {
        let (count, span) = gate.limiter.rate();
        let rate = format!("{count} events in {} s", span.as_secs());
        return Err(Problem::too_many(format!("this token sends more than {rate} from this address"), wait));
    }
    asked.finish()?;
    if (shared.snapshot)().telemetry.is_none() {
        return Ok(None);
    }
    intake::is_json_as(request.headers(), &KINDS)?;
    if shared.is_stopping() {
        return Err(Problem::unavailable("the daemon is stopping", Duration::from_secs(2)));
    }
    Ok(Some(caller.tenant))
}

fn not_fit(unfit: Unfit) -> Problem {
    let detail = unfit.to_string();
    match unfit {
        Unfit::Refused(_) => Problem::wrong(vec![Fault::at("/event", detail)]),
        Unfit::TooLarge(_) => Problem::too_large(detail),
        // Both are objects by now, and telemetry that is off was answered before.
        Unfit::NotAnObject | Unfit::TelemetryOff => Problem::wrong(vec![Fault::at("/properties", detail)]),
        Unfit::Misfits(misfits) => {
            let fault =
                |m: posthaste_events::catalogue::Misfit| Fault::at(format!("/properties{}", m.pointer), m.detail);
            Problem::wrong(misfits.into_iter().map(fault).collect())
        }
    }
}

/// Reads a body, and notes everything that is wrong with it.
struct Reading<'a> {
    gate: &'a Gate,
    snapshot: &'a Snapshot,
    faults: Vec<Fault>,
}

impl Reading<'_> {
    fn draft(
        mut self,
        body: &[u8],
        idempotency_key: Option<&str>,
        tenant: Option<String>,
    ) -> Result<RelayDraft, Problem> {
        let text = super::json::check(body)
            .map_err(|e| Problem::unreadable(format!("the body is not one whole JSON text: {e}")))?;
        if !text.trim_ascii_start().starts_with('{') {
            return Err(Problem::wrong(vec![Fault::at("", "this is one JSON object: {\"event\": \"…\"}")]));
        }
        let mut fields: BTreeMap<String, &RawValue> =
            serde_json::from_str(text).map_err(|e| Problem::unreadable(e.to_string()))?;
        let event_type = self.event_type(fields.remove("event"));
        let properties = self.object(fields.remove("properties"), "/properties");
        let derived_properties = self.object(fields.remove("derived_properties"), "/derived_properties");
        for name in fields.keys().take(FAULTS_MAX) {
            let detail = "there is no such field here; there are event, properties and derived_properties";
            self.faults.push(Fault::at(format!("/{}", escaped(&quoted(name))), detail));
        }
        if let Some(detail) = idempotency_key.and_then(posted::bad_name) {
            let detail = format!("the header Idempotency-Key: {detail}");
            self.faults.push(Fault::at("/idempotency_key", detail));
        }
        let idempotency_key = idempotency_key.map(str::to_owned);
        match event_type {
            Some(event_type) if self.faults.is_empty() => {
                Ok(RelayDraft { event_type, properties, derived_properties, idempotency_key, tenant })
            }
            _ => Err(Problem::wrong(self.faults)),
        }
    }

    /// The type, where the relay takes it.
    fn event_type(&mut self, raw: Option<&RawValue>) -> Option<EventType> {
        match self.read_type(raw) {
            Ok(event_type) => Some(event_type),
            Err(detail) => {
                self.faults.push(Fault::at("/event", detail));
                None
            }
        }
    }

    fn read_type(&self, raw: Option<&RawValue>) -> Result<EventType, String> {
        let raw = raw.ok_or("the type of the event is missing")?;
        let text: String = serde_json::from_str(raw.get()).map_err(|_| "this is a text: the type of the event")?;
        let event_type = EventType::parse(&text).map_err(|e| e.to_string())?;
        let declared = self.snapshot.catalogue.admit(&event_type).map_err(|refused| refused.to_string())?;
        if declared.is_none() {
            return Err(format!(
                "the type \"{event_type}\" is not declared in the catalogue, so nothing of it may leave"
            ));
        }
        if !self.gate.types.iter().any(|pattern| pattern.matches(event_type.as_str())) {
            return Err(format!("the relay does not take the type \"{event_type}\"; relay.types lists what it takes"));
        }
        Ok(event_type)
    }

    fn object(&mut self, raw: Option<&RawValue>, pointer: &str) -> Value {
        let Some(raw) = raw else { return Value::Object(Map::new()) };
        let detail = match serde_json::from_str(raw.get()) {
            Ok(object @ Value::Object(_)) => return object,
            Ok(_) => "this is a JSON object; leave it out where there is none",
            // That it is JSON is known by now.
            Err(_) => "a number in it is too large to be read",
        };
        self.faults.push(Fault::at(pointer, detail));
        Value::Null
    }
}
