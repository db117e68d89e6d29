//! `/v1/deliveries`: looking at what is owed, and a person's wish to retry or cancel it.

use super::access::Caller;
use super::desk::{LOOK_WAIT_MAX, ask};
use super::events::{WORK_MAX, gather};
use super::problem::Problem;
use super::query::Query;
use super::shapes::{Delivery, Listing};
use super::{Scope, Shared, intake, json, subscriptions};
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use posthaste_actors::messages::{Cancel, InspectDeliveries, InspectDelivery, Retry};
use posthaste_events::{DeliveryId, State};
use posthaste_outbox::query::{DeliveryQuery, DeliveryView};
use posthaste_outbox::{Answer, StoreError};

const STATES: &str = "pending, held, delivered, dead or cancelled";

/// Lists deliveries, those of the newest event first.
pub(super) async fn list(shared: web::Data<Shared>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let caller = shared.admit(&request, Scope::Read)?;
    let mut asked = Query::read(request.query_string());
    let name = asked.text("subscription");
    let query = DeliveryQuery {
        state: asked.with("state", STATES, State::parse),
        subscription: None,
        tenant: asked.text("tenant"),
        since: asked.time("since"),
        after: asked.after(),
        limit: asked.limit(),
        work_max: WORK_MAX,
    };
    asked.finish()?;
    let mut query = DeliveryQuery { tenant: caller.narrow(query.tenant)?, ..query };
    if let Some(name) = name {
        match subscriptions::named(&shared, &name).await? {
            Some(found) => query.subscription = Some(found.id),
            // A subscription that never was is owed nothing.
            None => return Ok(json(StatusCode::OK, &Listing::<Delivery<'_>> { data: Vec::new(), next: None })),
        }
    }
    let page = gather(query.limit, query.after, async |after, left| {
        let query = DeliveryQuery { after, limit: left, ..query.clone() };
        let page = ask(&shared.desk.deliveries, InspectDeliveries(query), LOOK_WAIT_MAX).await??;
        Ok((page, true))
    })
    .await?;
    let data = page.rows.iter().map(Delivery::row).collect();
    Ok(json(StatusCode::OK, &Listing { data, next: page.next.map(|id| id.to_string()) }))
}

/// Shows one delivery with its attempts.
pub(super) async fn show(
    shared: web::Data<Shared>,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let caller = shared.admit(&request, Scope::Read)?;
    Query::none(request.query_string())?;
    let view = find(&shared, &caller, id.parse().map_err(|_| missing())?).await?;
    Ok(json(StatusCode::OK, &Delivery::view(&view)))
}

/// Tries a delivery again now.
pub(super) async fn retry(
    shared: web::Data<Shared>,
    request: HttpRequest,
    payload: web::Payload,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let (caller, id) = may_change(&shared, &request, payload, &id).await?;
    let answer = ask(&shared.desk.retry, Retry(id), LOOK_WAIT_MAX).await?;
    changed(&shared, &caller, id, answer, "retried").await
}

/// Never tries a delivery again.
pub(super) async fn cancel(
    shared: web::Data<Shared>,
    request: HttpRequest,
    payload: web::Payload,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let (caller, id) = may_change(&shared, &request, payload, &id).await?;
    let answer = ask(&shared.desk.cancel, Cancel(id), LOOK_WAIT_MAX).await?;
    changed(&shared, &caller, id, answer, "cancelled").await
}

async fn may_change(
    shared: &Shared,
    request: &HttpRequest,
    payload: web::Payload,
    id: &str,
) -> Result<(Caller, DeliveryId), Problem> {
    let caller = shared.admit(request, Scope::Manage)?;
    Query::none(request.query_string())?;
    intake::no_fields(payload).await?;
    let id = id.parse().map_err(|_| missing())?;
    find(shared, &caller, id).await?;
    Ok((caller, id))
}

/// The delivery as it is after a wish.
async fn changed(
    shared: &Shared,
    caller: &Caller,
    id: DeliveryId,
    answer: Result<Answer, StoreError>,
    wish: &str,
) -> Result<HttpResponse, Problem> {
    match answer? {
        Answer::Done => Ok(json(StatusCode::OK, &Delivery::view(&find(shared, caller, id).await?))),
        Answer::Unknown => Err(missing()),
        Answer::NotNow(state) => {
            Err(Problem::conflict(format!("a delivery that is {} cannot be {wish}", state.as_str())))
        }
    }
}

async fn find(shared: &Shared, caller: &Caller, id: DeliveryId) -> Result<DeliveryView, Problem> {
    let view = ask(&shared.desk.delivery, InspectDelivery(id), LOOK_WAIT_MAX).await??.ok_or_else(missing)?;
    if caller.sees(view.row.facts.tenant.as_deref()) { Ok(view) } else { Err(missing()) }
}

fn missing() -> Problem {
    Problem::not_found("there is no such delivery")
}
