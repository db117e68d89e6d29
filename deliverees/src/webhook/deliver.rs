//! Sends a webhook: one attempt for each delivery, the whole of it within one deadline.

use super::answer::judge;
use super::config::Webhook;
use super::sign::sign;
use crate::http::{Http, Outgoing, Progress, REPORT_TIME, Seen, USER_AGENT};
use posthaste_events::seams::Clock;
use posthaste_events::{Batch, BoxFuture, Deliveree, Delivery, Notification, Payload as _, Reporter};
use std::sync::Arc;
use std::time::Duration;
use surf::http::headers::HeaderName;
use tokio::time::Instant;

/// The deliveree of one webhook.
pub(super) struct Sender(Arc<Parts>);

struct Parts {
    webhook: Arc<Webhook>,
    http: Http,
    clock: Arc<dyn Clock>,
    names: Names,
}

/// Our headers' names, made once.
struct Names {
    id: HeaderName,
    timestamp: HeaderName,
    signature: HeaderName,
    attempt: HeaderName,
    sequence: HeaderName,
    user_agent: HeaderName,
    content_type: HeaderName,
}

impl Sender {
    pub(super) fn new(webhook: Arc<Webhook>, http: Http, clock: Arc<dyn Clock>) -> Self {
        let names = Names {
            id: "webhook-id".into(),
            timestamp: "webhook-timestamp".into(),
            signature: "webhook-signature".into(),
            attempt: "posthaste-attempt".into(),
            sequence: "posthaste-sequence".into(),
            user_agent: surf::http::headers::USER_AGENT,
            content_type: surf::http::headers::CONTENT_TYPE,
        };
        Self(Arc::new(Parts { webhook, http, clock, names }))
    }
}

impl Deliveree<Notification> for Sender {
    fn deliver(&self, batch: Batch<Notification>, report: Reporter) -> BoxFuture<()> {
        let parts = Arc::clone(&self.0);
        Box::pin(async move {
            let end = Instant::now() + batch.deadline;
            for delivery in batch.deliveries {
                let deadline = end.min(Instant::now() + parts.webhook.timeout);
                parts.attempt(&delivery, deadline, &report).await;
            }
        })
    }

    fn timeout(&self) -> Duration {
        self.0.webhook.timeout + REPORT_TIME
    }
}

impl Parts {
    async fn attempt(&self, delivery: &Delivery<Notification>, deadline: Instant, report: &Reporter) {
        let body = delivery.payload.bytes().clone();
        let headers = self.headers(delivery, &body);
        let target = Arc::clone(&self.webhook.target);
        let outgoing = Outgoing { target, headers, body, progress: Progress::default() };
        let (seen, end) = self.http.exchange(outgoing, Seen::default(), deadline).await;
        let (outcome, signal) = judge(&seen, end, &self.webhook.give_up_on, self.clock.wall());
        // First what holds back the others, so that none of them starts in between.
        if let Some(signal) = signal {
            report.signal(signal);
        }
        report.outcome(delivery.ticket, outcome);
    }

    fn headers(&self, delivery: &Delivery<Notification>, body: &[u8]) -> Vec<(HeaderName, String)> {
        let names = &self.names;
        let id = delivery.event().to_string();
        let at = self.clock.wall().seconds();
        let signature = sign(&self.webhook.secrets, &id, at, body);
        let ours = [
            (names.user_agent.clone(), USER_AGENT.to_owned()),
            (names.content_type.clone(), "application/json".to_owned()),
            (names.timestamp.clone(), at.to_string()),
            (names.signature.clone(), signature),
            (names.id.clone(), id),
            (names.attempt.clone(), delivery.attempt.to_string()),
            (names.sequence.clone(), delivery.event().sequence().to_string()),
        ];
        // Ours come last: even a name that slipped through the config could not replace one.
        self.webhook.headers.iter().cloned().chain(ours).collect()
    }
}
