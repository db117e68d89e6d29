//! The HTTP API: a thin client of the registry's messages, one file a resource.
//!
//! The workers parse, validate, match and build payloads as pure functions over a snapshot of catalogue and
//! subscriptions; the registry is sent what is ready to be recorded. What is durable, due or shown is decided below.
//!
//! Bounds: a request's head has at most 128 KiB and 96 headers and must arrive within [`HEAD_WAIT_MAX`]; a body has at
//! most `body_max` bytes and 60 s; an idle connection is closed after [`IDLE_MAX`]; each worker takes up to
//! [`CONNECTIONS_MAX`] connections, the others wait to be accepted; where many are open, none idles. Requests whose head is not HTTP at all are
//! answered by the server library itself, with a bare status.

mod access;
mod cors;
mod deliveries;
mod desk;
mod event_types;
mod events;
mod intake;
mod json;
mod posted;
mod problem;
mod query;
mod rate;
mod relay;
mod replays;
mod reveal;
mod shapes;
mod status;
mod subscriptions;
mod tail;
mod written;

pub use crate::config::{Relay, Scope};
pub use access::{Access, Token};
pub use desk::Desk;

use crate::metrics::{Counters, Route};
use access::Caller;
use actix_web::dev::{Server, Service as _, ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{App, Error, HttpRequest, HttpResponse, HttpServer, Resource, guard, web};
use intake::Intake;
use posthaste_events::prepare::Snapshot;
use posthaste_events::seams::Clock;
use problem::Problem;
use serde::Serialize;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::Notify;

/// How long a request's head may take to arrive.
pub const HEAD_WAIT_MAX: Duration = Duration::from_secs(10);
/// How long a connection may idle between two requests.
pub const IDLE_MAX: Duration = Duration::from_secs(75);
/// Connections of one worker.
pub const CONNECTIONS_MAX: usize = 4_096;

/// Where three of four places are taken, answers close their connections, so that idle ones do not keep the others out.
const fn crowd(workers: usize) -> usize {
    workers * (CONNECTIONS_MAX / 4 * 3)
}

/// The latest snapshot, whenever it is asked for.
pub type LatestSnapshot = Arc<dyn Fn() -> Arc<Snapshot> + Send + Sync>;

/// What every worker shares.
pub struct Shared {
    desk: Desk,
    snapshot: LatestSnapshot,
    clock: Arc<dyn Clock>,
    access: RwLock<Arc<Access>>,
    gate: RwLock<Arc<relay::Gate>>,
    intake: Intake,
    /// What was answered so far, for `/metrics`.
    pub counters: Counters,
    stopping: AtomicBool,
    stop: Notify,
    active: AtomicUsize,
    connections: Arc<AtomicUsize>,
    /// From so many connections on, answers close theirs.
    crowd: AtomicUsize,
    tails: Arc<AtomicUsize>,
}

impl Shared {
    /// What the workers need: where messages go, what to match against, and who may ask. `body_max` is in bytes. The
    /// relay takes nothing before [`Shared::set_relay`].
    #[must_use]
    pub fn new(desk: Desk, snapshot: LatestSnapshot, clock: Arc<dyn Clock>, access: Access, body_max: usize) -> Self {
        Self {
            desk,
            snapshot,
            clock,
            access: RwLock::new(Arc::new(access)),
            gate: RwLock::default(),
            intake: Intake::new(body_max),
            counters: Counters::default(),
            stopping: AtomicBool::new(false),
            stop: Notify::new(),
            active: AtomicUsize::new(0),
            connections: Arc::default(),
            crowd: AtomicUsize::new(usize::MAX),
            tails: Arc::default(),
        }
    }

    /// Replaces the tokens; what was admitted before goes on.
    pub fn set_access(&self, access: Access) {
        *self.access.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(access);
    }

    /// Replaces what the relay takes, and from whom.
    pub fn set_relay(&self, relay: &Relay) {
        let mut gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        *gate = Arc::new(gate.changed(relay));
    }

    /// Takes nothing new from now on: posts are answered 503, live streams end.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.stop.notify_waiters();
    }

    /// How many requests are being answered, live streams not counted.
    #[must_use]
    pub fn active(&self) -> usize {
        self.active.load(Ordering::SeqCst)
    }

    fn access(&self) -> Arc<Access> {
        Arc::clone(&self.access.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn gate(&self) -> Arc<relay::Gate> {
        Arc::clone(&self.gate.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn admit(&self, request: &HttpRequest, scope: Scope) -> Result<Caller, Problem> {
        self.access().admit(request, scope)
    }

    fn is_crowded(&self) -> bool {
        self.connections.load(Ordering::Relaxed) >= self.crowd.load(Ordering::Relaxed)
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }
}

/// A JSON answer.
fn json(status: actix_web::http::StatusCode, body: &impl Serialize) -> HttpResponse {
    match serde_json::to_vec(body) {
        Ok(bytes) => HttpResponse::build(status).content_type("application/json").body(bytes),
        Err(error) => {
            // Shapes have text keys only and no maps that fail; a bug, then.
            tracing::error!(%error, "an answer could not be written");
            HttpResponse::InternalServerError().finish()
        }
    }
}

/// A resource that answers every method beside its own with 405.
fn resource(path: &str, allow: &'static str) -> Resource {
    let refuse = move || std::future::ready(Err::<HttpResponse, _>(Problem::not_allowed(allow)));
    web::resource(path).default_service(web::to(refuse))
}

fn get() -> actix_web::Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

fn routes(config: &mut web::ServiceConfig) {
    const GET: &str = "GET, HEAD";
    const POST: &str = "POST";
    config
        .service(
            resource("/v1/events", "GET, HEAD, POST").route(web::post().to(events::post)).route(get().to(events::list)),
        )
        .service(resource("/v1/events/{id}", GET).route(get().to(events::show)))
        .service(resource("/v1/deliveries", GET).route(get().to(deliveries::list)))
        .service(resource("/v1/deliveries/{id}", GET).route(get().to(deliveries::show)))
        .service(resource("/v1/deliveries/{id}/retry", POST).route(web::post().to(deliveries::retry)))
        .service(resource("/v1/deliveries/{id}/cancel", POST).route(web::post().to(deliveries::cancel)))
        .service(
            resource("/v1/subscriptions", "GET, HEAD, POST")
                .route(web::post().to(written::post))
                .route(get().to(subscriptions::list)),
        )
        .service(
            resource("/v1/subscriptions/{name}", "GET, HEAD, PATCH, DELETE")
                .route(web::patch().to(written::patch))
                .route(web::delete().to(written::delete))
                .route(get().to(subscriptions::show)),
        )
        .service(resource("/v1/subscriptions/{name}/rotate-secret", POST).route(web::post().to(written::rotate)))
        .service(resource("/v1/subscriptions/{name}/replay", POST).route(web::post().to(replays::post)))
        .service(resource("/v1/replays", GET).route(get().to(replays::list)))
        .service(resource("/v1/replays/{id}", GET).route(get().to(replays::show)))
        .service(resource("/v1/replays/{id}/cancel", POST).route(web::post().to(replays::cancel)))
        .service(resource("/v1/subscriptions/{name}/pause", POST).route(web::post().to(subscriptions::pause)))
        .service(resource("/v1/subscriptions/{name}/resume", POST).route(web::post().to(subscriptions::resume)))
        .service(resource("/v1/subscriptions/{name}/test", POST).route(web::post().to(subscriptions::test)))
        .service(resource("/v1/event-types", GET).route(get().to(event_types::list)))
        .service(resource("/v1/event-types/{type}", GET).route(get().to(event_types::show)))
        .service(
            resource("/analytics", "OPTIONS, POST")
                .route(web::post().to(relay::post))
                .route(web::method(Method::OPTIONS).to(relay::preflight)),
        )
        .service(resource("/v1/tail", GET).route(get().to(tail::tail)))
        .service(resource("/healthz", GET).route(get().to(status::live)))
        .service(resource("/readyz", GET).route(get().to(status::ready)))
        .service(resource("/metrics", GET).route(get().to(status::metrics)))
        .service(resource("/", GET).route(get().to(status::front)));
}

async fn nothing_here() -> Result<HttpResponse, Problem> {
    Err(Problem::not_found("there is nothing at this path"))
}

/// Counts an answer, and closes the connections of a daemon that stops or has nearly as many as it takes.
fn answered(shared: &Shared, route: Route, response: &mut ServiceResponse) {
    shared.counters.answered(route, response.status().as_u16());
    if shared.is_stopping() || shared.is_crowded() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        response.response_mut().head_mut().set_connection_type(actix_web::http::ConnectionType::Close);
    }
}

/// Counts a connection as long as it is open.
struct Connected(Arc<AtomicUsize>);

impl Connected {
    fn new(connections: &Arc<AtomicUsize>) -> Self {
        connections.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(connections))
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts a request as long as it is being answered, also where its caller went away.
struct Active(web::Data<Shared>);

impl Active {
    fn new(shared: &web::Data<Shared>) -> Self {
        shared.active.fetch_add(1, Ordering::SeqCst);
        Self(shared.clone())
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The application of one worker.
fn routed(
    shared: web::Data<Shared>,
) -> App<impl ServiceFactory<ServiceRequest, Config = (), Response = ServiceResponse, Error = Error, InitError = ()>> {
    App::new().app_data(shared.clone()).configure(routes).default_service(web::to(nothing_here)).wrap_fn(
        move |request, service| {
            let active = Active::new(&shared);
            let route = Route::of(request.path());
            let answer = service.call(request);
            async move {
                let mut response = answer.await?;
                answered(&active.0, route, &mut response);
                Ok(response)
            }
        },
    )
}

/// Listens; the server runs as long as the future that is returned is polled.
///
/// # Errors
/// The address cannot be listened on.
pub fn listen(
    shared: web::Data<Shared>,
    address: SocketAddr,
    workers: usize,
) -> std::io::Result<(Server, Vec<SocketAddr>)> {
    shared.crowd.store(crowd(workers), Ordering::Relaxed);
    let connections = Arc::clone(&shared.connections);
    let server = HttpServer::new(move || routed(shared.clone()))
        .on_connect(move |_, kept| {
            kept.insert(Connected::new(&connections));
        })
        .workers(workers)
        .max_connections(CONNECTIONS_MAX)
        .keep_alive(IDLE_MAX)
        .client_request_timeout(HEAD_WAIT_MAX)
        .client_disconnect_timeout(Duration::from_secs(2))
        .shutdown_timeout(1)
        .disable_signals()
        .bind(address)?;
    let addresses = server.addrs();
    Ok((server.run(), addresses))
}

#[cfg(test)]
mod tests;
