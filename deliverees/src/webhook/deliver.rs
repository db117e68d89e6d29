//! Sends a webhook: one attempt for each delivery, the whole of it within one deadline.

use super::answer::judge;
use super::config::Webhook;
use super::format::Event;
use crate::http::{Http, Outgoing, Party, Progress, REPORT_TIME, Seal, Seen};
use crate::registry::Tools;
use bytes::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, InvalidHeaderValue, USER_AGENT};
use posthaste_events::outcome::Detail;
use posthaste_events::seams::Clock;
use posthaste_events::{Batch, BoxFuture, Deliveree, Delivery, Notification, Outcome, Payload as _, Reporter};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The deliveree of one webhook.
pub(super) struct Sender(Arc<Parts>);

struct Parts {
    webhook: Arc<Webhook>,
    http: Http,
    party: Party,
    clock: Arc<dyn Clock>,
    subscription: Arc<str>,
}

const ATTEMPT: HeaderName = HeaderName::from_static("posthaste-attempt");
const SEQUENCE: HeaderName = HeaderName::from_static("posthaste-sequence");

impl Sender {
    pub(super) fn new(webhook: Arc<Webhook>, tools: &Tools) -> Self {
        let (http, clock) = (tools.http.clone(), Arc::clone(&tools.clock));
        let subscription = Arc::clone(&tools.subscription);
        Self(Arc::new(Parts { webhook, http, party: Party::default(), clock, subscription }))
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
    async fn attempt(self: &Arc<Self>, delivery: &Delivery<Notification>, deadline: Instant, report: &Reporter) {
        let outgoing = match self.outgoing(delivery) {
            Ok(outgoing) => outgoing,
            // Counted like any other failure, so that it backs off and ends one day.
            Err(error) => {
                let detail = Detail::error(format!("body: the notification can not be written: {error}"));
                return report.outcome(delivery.ticket, Outcome::Retry { detail, after: None });
            }
        };
        let (seen, end) = self.http.exchange(outgoing, Seen::default(), deadline).await;
        let (outcome, signal) = judge(&seen, end, &self.webhook.give_up_on, self.clock.wall());
        // First what holds back the others, so that none of them starts in between.
        if let Some(signal) = signal {
            report.signal(signal);
        }
        report.outcome(delivery.ticket, outcome);
    }

    fn outgoing(self: &Arc<Self>, delivery: &Delivery<Notification>) -> Result<Outgoing, Unwritten> {
        let (id, facts, body) = (delivery.id(), delivery.facts(), delivery.payload.bytes());
        let message = self.webhook.format.write(&Event { id, facts, body, subscription: &self.subscription })?;
        let headers = self.headers(delivery, message.headers, message.user_agent, message.content_type)?;
        Ok(Outgoing {
            target: Arc::clone(&self.webhook.target),
            party: self.party.clone(),
            headers,
            seal: Some(self.seal(delivery, message.body.clone())),
            body: message.body,
            progress: Progress::default(),
        })
    }

    /// Signs with the time at which it is called.
    fn seal(self: &Arc<Self>, delivery: &Delivery<Notification>, body: Bytes) -> Seal {
        let (parts, id) = (Arc::clone(self), delivery.event().to_string());
        Box::new(move |headers| parts.webhook.keyring.sign(&id, parts.clock.wall(), &body, headers))
    }

    fn headers(
        &self,
        delivery: &Delivery<Notification>,
        more: Vec<(&'static str, String)>,
        user_agent: &'static str,
        content_type: &'static str,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, InvalidHeaderValue> {
        let webhook = &self.webhook;
        let mut headers = Vec::with_capacity(webhook.headers.len() + more.len() + 5);
        // Ours come last: even a name that slipped through the config could not replace one.
        headers.extend(webhook.headers.iter().cloned());
        headers.extend(webhook.authorization.iter().map(|given| (AUTHORIZATION, given.value().clone())));
        headers.extend([
            (USER_AGENT, HeaderValue::from_static(user_agent)),
            (CONTENT_TYPE, HeaderValue::from_static(content_type)),
            (ATTEMPT, HeaderValue::from(delivery.attempt)),
            (SEQUENCE, HeaderValue::from(delivery.event().sequence())),
        ]);
        for (name, value) in more {
            headers.push((HeaderName::from_static(name), HeaderValue::try_from(value)?));
        }
        Ok(headers)
    }
}

/// Why a message can not be written, which is of our own making and should be right.
#[derive(Debug, thiserror::Error)]
enum Unwritten {
    #[error(transparent)]
    Body(#[from] serde_json::Error),
    #[error(transparent)]
    Header(#[from] InvalidHeaderValue),
}
