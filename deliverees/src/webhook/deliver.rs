//! Sends a webhook: one attempt for each delivery, the whole of it within one deadline.

use super::answer::judge;
use super::config::Webhook;
use super::format::{Event, Message};
use crate::http::{Http, Outgoing, Progress, REPORT_TIME, Seen};
use crate::registry::Tools;
use posthaste_events::outcome::Detail;
use posthaste_events::seams::Clock;
use posthaste_events::{Batch, BoxFuture, Deliveree, Delivery, Notification, Outcome, Payload as _, Reporter};
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
    subscription: Arc<str>,
    names: Names,
}

/// Our headers' names, made once.
struct Names {
    attempt: HeaderName,
    sequence: HeaderName,
    user_agent: HeaderName,
    content_type: HeaderName,
    authorization: HeaderName,
}

impl Sender {
    pub(super) fn new(webhook: Arc<Webhook>, tools: &Tools) -> Self {
        let names = Names {
            attempt: "posthaste-attempt".into(),
            sequence: "posthaste-sequence".into(),
            user_agent: surf::http::headers::USER_AGENT,
            content_type: surf::http::headers::CONTENT_TYPE,
            authorization: surf::http::headers::AUTHORIZATION,
        };
        let (http, clock) = (tools.http.clone(), Arc::clone(&tools.clock));
        Self(Arc::new(Parts { webhook, http, clock, subscription: Arc::clone(&tools.subscription), names }))
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
        let (id, facts, body) = (delivery.id(), delivery.facts(), delivery.payload.bytes());
        let message = match self.webhook.format.write(&Event { id, facts, body, subscription: &self.subscription }) {
            Ok(message) => message,
            // Counted like any other failure, so that it backs off and ends one day.
            Err(error) => {
                let detail = Detail::error(format!("body: the notification can not be written: {error}"));
                return report.outcome(delivery.ticket, Outcome::Retry { detail, after: None });
            }
        };
        let headers = self.headers(delivery, &message);
        let target = Arc::clone(&self.webhook.target);
        let outgoing = Outgoing { target, headers, body: message.body, progress: Progress::default() };
        let (seen, end) = self.http.exchange(outgoing, Seen::default(), deadline).await;
        let (outcome, signal) = judge(&seen, end, &self.webhook.give_up_on, self.clock.wall());
        // First what holds back the others, so that none of them starts in between.
        if let Some(signal) = signal {
            report.signal(signal);
        }
        report.outcome(delivery.ticket, outcome);
    }

    fn headers(&self, delivery: &Delivery<Notification>, message: &Message) -> Vec<(HeaderName, String)> {
        let (webhook, names) = (&self.webhook, &self.names);
        let id = delivery.event().to_string();
        let mut headers = Vec::with_capacity(webhook.headers.len() + 8);
        // Ours come last: even a name that slipped through the config could not replace one.
        headers.extend(webhook.headers.iter().cloned());
        if let Some(authorization) = &webhook.authorization {
            headers.push((names.authorization.clone(), authorization.value().to_owned()));
        }
        headers.extend([
            (names.user_agent.clone(), message.user_agent.to_owned()),
            (names.content_type.clone(), message.content_type.to_owned()),
            (names.attempt.clone(), delivery.attempt.to_string()),
            (names.sequence.clone(), delivery.event().sequence().to_string()),
        ]);
        headers.extend(message.headers.iter().map(|(name, value)| (HeaderName::from(*name), value.clone())));
        webhook.keyring.sign(&id, self.clock.wall(), &message.body, &mut headers);
        headers
    }
}
