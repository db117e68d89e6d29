//! The built-in subscription for events whose telemetry could not be built: it tries again, and tells of them.
//!
//! Such an event is recorded and notified like any other, and owed to [`QUARANTINE`] beside. The deliveree of that builds
//! the telemetry by the catalogue of the moment and records it as an event of its own, for analytics alone; how long it
//! waits between two attempts is a retry policy like any other's. Whether telemetry can be built is the catalogue's matter.

use crate::desk::Desk;
use crate::settings::{Source, Subscription};
use posthaste_events::builtin::News;
use posthaste_events::outcome::Detail;
use posthaste_events::{AnyDeliveree, Delivery, Notification, OneByOne, Outcome, RetryPolicy, Takes};
use posthaste_outbox::{Outbox, Recorded};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The name of the subscription; no other may have it.
pub const QUARANTINE: &str = "posthaste-quarantine";
/// How long an attempt may take; nearly all of it is the outbox's.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Until when it is tried again: a hundred years, since nothing but a person ends it.
const GIVE_UP_AFTER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
/// Events within this time make one piece of news.
const NEWS_OVER: Duration = Duration::from_secs(1);
/// How many deliveries are read and asked for at once.
const HURRIED_AT_ONCE: usize = 100;
/// How many rows are read for that.
const HURRIED_WORK: usize = 10_000;

/// The subscription, which selects nothing by itself.
pub(crate) fn subscription(desk: &Arc<Desk>) -> Subscription {
    let desk = Arc::clone(desk);
    let make = move || {
        let desk = Arc::clone(&desk);
        let build = move |delivery| {
            let desk = Arc::clone(&desk);
            async move { build(&desk, delivery).await }
        };
        AnyDeliveree::Notification(Arc::new(OneByOne::new(TIMEOUT, build)))
    };
    let shown = [("name", QUARANTINE), ("deliveree", "quarantine")];
    Subscription {
        name: QUARANTINE.to_owned(),
        kind: "quarantine".to_owned(),
        tenant: None,
        selectors: Vec::new(),
        retry: retry(),
        concurrency: 1,
        circuit: None,
        rate: None,
        ordered: false,
        disable_after: None,
        source: Source::Config,
        reveal: Default::default(),
        ahead: None,
        shown: shown.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect(),
        mark: 0,
        takes: Takes::Notification,
        make: Arc::new(make),
    }
}

/// When it is tried again.
pub(crate) fn retry() -> RetryPolicy {
    let initial = Duration::from_secs(60);
    RetryPolicy { initial, give_up_after: GIVE_UP_AFTER, attempts: None, ..RetryPolicy::default() }
}

/// One attempt: builds what analytics should have been told, and records it.
async fn build(desk: &Arc<Desk>, delivery: Delivery<Notification>) -> Outcome {
    // Read again, since a deliveree is given the notification alone, which may lack what is telemetry's.
    let payloads = match desk.outbox.event(delivery.event()).await {
        Ok(Some(found)) => found.event.payloads,
        Ok(None) => return Outcome::Unattempted(Detail::error("outbox: the event is not there")),
        Err(error) => return Outcome::Unattempted(Detail::error(format!("outbox: {error}"))),
    };
    let snapshot = desk.snapshot.current();
    match snapshot.prepare_again(delivery.event(), delivery.facts(), &payloads, desk.clock.wall()) {
        Ok(Some(event)) => match desk.record(vec![event], snapshot.epoch).await {
            Ok(_) => Outcome::Delivered(Detail::default()),
            Err(error) => Outcome::Unattempted(Detail::error(format!("outbox: {error}"))),
        },
        Ok(None) => Outcome::Unattempted(Detail::error("telemetry: it is switched off")),
        Err(why) => Outcome::Retry { detail: Detail::error(format!("telemetry: {why}")), after: None },
    }
}

/// What is known of quarantined events since the start.
#[derive(Debug, Default)]
pub(crate) struct Ward {
    total: AtomicU64,
    waiting: Mutex<Option<Waiting>>,
}

/// News that is told with the others of its second.
#[derive(Debug)]
struct Waiting {
    event: String,
    reason: String,
    count: u64,
}

impl Ward {
    /// How many were recorded since the start.
    pub(crate) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    fn waiting(&self) -> MutexGuard<'_, Option<Waiting>> {
        // What it guards is whole between any two statements, so a panic elsewhere changes nothing.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts and tells of the quarantined among recorded events: for each its place, and why.
pub(crate) fn note(desk: &Arc<Desk>, quarantined: Vec<(usize, String)>, recorded: &[Recorded]) {
    for (at, reason) in quarantined {
        let Some(Recorded { id, .. }) = recorded.get(at).filter(|recorded| !recorded.duplicate) else { continue };
        desk.ward.total.fetch_add(1, Ordering::Relaxed);
        let mut waiting = desk.ward.waiting();
        if let Some(waiting) = &mut *waiting {
            waiting.count += 1;
            continue;
        }
        let event = id.to_string();
        // Once a second, however many there are.
        tracing::warn!(event, reason, "telemetry could not be built; the event is kept and tried again");
        // Taken now, so that a stop waits for it.
        let news = News::Quarantined { event: event.clone(), reason: reason.clone(), count: 1 };
        let Some(room) = desk.news_room(&news) else { continue };
        *waiting = Some(Waiting { event, reason, count: 1 });
        let desk = Arc::clone(desk);
        tokio::spawn(async move {
            tokio::time::sleep(NEWS_OVER).await;
            let waited = desk.ward.waiting().take();
            if let Some(Waiting { event, reason, count }) = waited {
                desk.announce(News::Quarantined { event, reason, count }, room).await;
            }
        });
    }
}

/// Has everything tried again now that a subscription is owed.
pub(crate) async fn hurry(outbox: &dyn Outbox, subscription: posthaste_events::SubscriptionId) {
    use posthaste_events::State;
    use posthaste_outbox::{Wish, query::DeliveryQuery};
    let mut query = DeliveryQuery {
        state: Some(State::Pending),
        subscription: Some(subscription),
        tenant: None,
        since: None,
        after: None,
        limit: HURRIED_AT_ONCE,
        work_max: HURRIED_WORK,
    };
    loop {
        let page = match outbox.deliveries(query.clone()).await {
            Ok(page) => page,
            Err(error) => return tracing::warn!(%error, "what is quarantined is tried again at its own time"),
        };
        for row in page.rows {
            // One that fails is tried at its own time.
            let _known = outbox.ask(row.id, Wish::Retry).await;
        }
        query.after = page.next;
        if query.after.is_none() {
            return;
        }
    }
}
