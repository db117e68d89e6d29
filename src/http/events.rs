//! `/v1/events`: recording events, and looking at them.

use super::desk::{LOOK_WAIT_MAX, RECORD_WAIT_MAX, ask};
use super::posted::{self, Against, Posted};
use super::problem::{Fault, Problem};
use super::query::Query;
use super::reveal::{self, FIELDS};
use super::shapes::{self, Event, Listing};
use super::{Scope, Shared, intake, json};
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use posthaste_actors::messages::{InspectEvent, InspectEvents, Record, RecordBatch};
use posthaste_events::{EventId, EventType};
use posthaste_outbox::query::{EventQuery, Page};
use posthaste_outbox::{RecordError, Recorded};
use std::time::Duration;

/// How often a listing asks the outbox for more before it answers a short page.
const ASKS_MAX: usize = 20;
/// Rows that one ask may read.
pub(super) const WORK_MAX: usize = 5_000;
/// Rows that one ask may bring: their payloads are in memory at once.
const ROWS_MAX: usize = 100;
/// Bytes of payloads after which a page ends.
pub(super) const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Records one event or an array of them.
pub(super) async fn post(
    shared: web::Data<Shared>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let tenant = match may_post(&shared, &request) {
        Ok(tenant) => tenant,
        Err(problem) => {
            // Some clients read no answer before they have sent their whole body.
            intake::discard(payload).await;
            return Err(problem);
        }
    };
    let idempotency_key = header_key(&request)?;
    let (body, mut share) = shared.intake.body(&request, payload).await?;
    let began = shared.clock.elapsed();
    let snapshot = (shared.snapshot)();
    let against = Against { snapshot: &snapshot, tenant: tenant.as_deref(), idempotency_key, now: shared.clock.wall() };
    let posted = posted::read(&body, &against)?;
    drop(body);
    let mut answer = String::with_capacity(96);
    match posted {
        Posted::One(event) => {
            share.add_events(1)?;
            let message = Record { event: *event, epoch: snapshot.epoch };
            let recorded = ask(&shared.desk.record, message, RECORD_WAIT_MAX).await?;
            shapes::recorded(&mut answer, &recorded.map_err(|e| not_recorded(e, false))?);
        }
        Posted::Many(events) => {
            share.add_events(events.len())?;
            let message = RecordBatch { events, epoch: snapshot.epoch };
            let recorded = ask(&shared.desk.record_batch, message, RECORD_WAIT_MAX).await?;
            write_all(&mut answer, &recorded.map_err(|e| not_recorded(e, true))?);
        }
    }
    shared.counters.recorded_in(shared.clock.elapsed().saturating_sub(began));
    Ok(HttpResponse::Accepted().content_type("application/json").body(answer))
}

fn may_post(shared: &Shared, request: &HttpRequest) -> Result<Option<std::sync::Arc<str>>, Problem> {
    let caller = shared.admit(request, Scope::Record)?;
    Query::none(request.query_string())?;
    intake::is_json(request.headers())?;
    if shared.is_stopping() {
        return Err(Problem::unavailable("the daemon is stopping", Duration::from_secs(2)));
    }
    Ok(caller.tenant)
}

/// The header `Idempotency-Key`, as it stands.
///
/// # Errors
/// 422 where it stands twice or is no text.
pub(super) fn header_key(request: &HttpRequest) -> Result<Option<&str>, Problem> {
    let mut values = request.headers().get_all("idempotency-key");
    let wrong = |detail| Problem::wrong(vec![Fault::at("/idempotency_key", detail)]);
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(wrong("the header Idempotency-Key stands twice"));
    }
    let text = std::str::from_utf8(value.as_bytes()).map_err(|_| wrong("the header Idempotency-Key is not UTF-8"))?;
    Ok(Some(text))
}

fn write_all(answer: &mut String, recorded: &[Recorded]) {
    answer.push_str("{\"events\":[");
    for (n, one) in recorded.iter().enumerate() {
        if n > 0 {
            answer.push(',');
        }
        shapes::recorded(answer, one);
    }
    answer.push_str("]}");
}

/// What a caller is told whose events were not recorded; `many`: they came in an array.
pub(super) fn not_recorded(error: RecordError, many: bool) -> Problem {
    match error {
        RecordError::Conflict { index, first } => {
            let detail = format!("this idempotency key was used with another event, {first}");
            let pointer = if many { format!("/{index}/idempotency_key") } else { "/idempotency_key".to_owned() };
            Problem::conflict(detail.clone()).naming(vec![Fault::at(pointer, detail)])
        }
        RecordError::Full { reason, retry_after } => {
            Problem::unavailable(format!("nothing new is taken: {reason}"), retry_after)
        }
        RecordError::StaleEpoch => {
            Problem::unavailable("the subscriptions change too often just now", Duration::from_secs(1))
        }
        RecordError::Store(error) => error.into(),
    }
}

/// Lists events, the newest first.
pub(super) async fn list(shared: web::Data<Shared>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let mut asked = Query::read(request.query_string());
    let reveal = asked.reveal(FIELDS);
    let caller = shared.admit(&request, reveal::scope(reveal))?;
    let query = EventQuery {
        event_type: asked.with("type", "an event type", |t| EventType::parse(t).ok()),
        tenant: asked.text("tenant"),
        since: asked.time("since"),
        until: asked.time("until"),
        after: asked.after(),
        limit: asked.limit(),
        work_max: WORK_MAX,
    };
    asked.finish()?;
    let query = EventQuery { tenant: caller.narrow(query.tenant)?, ..query };
    let mut bytes = 0;
    let page = gather(query.limit, query.after, async |after, left: usize| {
        let query = EventQuery { after, limit: left.min(ROWS_MAX), ..query.clone() };
        let page = ask(&shared.desk.events, InspectEvents(query), LOOK_WAIT_MAX).await??;
        bytes += page.rows.iter().map(|row| row.payloads.len()).sum::<usize>();
        Ok((page, bytes < PAGE_BYTES))
    })
    .await?;
    let snapshot = (shared.snapshot)();
    let mask = (!reveal).then_some(&snapshot.catalogue);
    if reveal {
        reveal::audit(&caller, FIELDS, page.rows.iter().map(|row| row.id));
    }
    let data = page.rows.iter().map(|row| Event::row(row, mask)).collect();
    Ok(json(StatusCode::OK, &Listing { data, next: page.next.map(|id| id.to_string()) }))
}

/// Asks for pieces of a listing until there are `limit` rows, there is no more, or enough work was done.
pub(super) async fn gather<T, C: Copy>(
    limit: usize,
    mut after: Option<C>,
    mut ask: impl AsyncFnMut(Option<C>, usize) -> Result<(Page<T, C>, bool), Problem>,
) -> Result<Page<T, C>, Problem> {
    let mut rows = Vec::new();
    for _ in 0..ASKS_MAX {
        let (page, go_on) = ask(after, limit - rows.len()).await?;
        rows.extend(page.rows);
        after = page.next;
        if after.is_none() || rows.len() >= limit || !go_on {
            break;
        }
    }
    Ok(Page { rows, next: after })
}

/// Shows one event with its deliveries.
pub(super) async fn show(
    shared: web::Data<Shared>,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let mut asked = Query::read(request.query_string());
    let reveal = asked.reveal(FIELDS);
    let caller = shared.admit(&request, reveal::scope(reveal))?;
    asked.finish()?;
    let missing = || Problem::not_found("there is no such event");
    let id: EventId = id.parse().map_err(|_| missing())?;
    let view = ask(&shared.desk.event, InspectEvent(id), LOOK_WAIT_MAX).await??.ok_or_else(missing)?;
    if !caller.sees(view.event.facts.tenant.as_deref()) {
        return Err(missing());
    }
    let snapshot = (shared.snapshot)();
    let mask = (!reveal).then_some(&snapshot.catalogue);
    if reveal {
        reveal::audit(&caller, FIELDS, std::iter::once(id));
    }
    Ok(json(StatusCode::OK, &Event::view(&view, mask)))
}
