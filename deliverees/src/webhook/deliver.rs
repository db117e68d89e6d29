//! Sends a webhook: one attempt for each delivery, the whole of it within one deadline.

use super::answer::{End, Seen, judge};
use super::config::Webhook;
use super::sign::sign;
use crate::http::{Enough, Failure, Http, Outgoing, Progress, Stage};
use posthaste_events::seams::Clock;
use posthaste_events::{Batch, BoxFuture, Deliveree, Delivery, Notification, Payload as _, Reporter};
use std::sync::Arc;
use std::time::Duration;
use surf::http::headers::HeaderName;
use tokio::time::{Instant, timeout_at};

/// Beside the timeout of an attempt: time to report it, before whoever called gives up on the whole call.
const REPORT_TIME: Duration = Duration::from_millis(250);

/// Who we are to receivers.
const USER_AGENT: &str = concat!("Posthaste/", env!("CARGO_PKG_VERSION_MAJOR"), ".", env!("CARGO_PKG_VERSION_MINOR"));

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
        let began = Instant::now();
        let (mut seen, progress) = (Seen::default(), Progress::default());
        let end = match timeout_at(deadline, self.exchange(delivery, &mut seen, &progress)).await {
            Ok(Ok(())) => End::Complete,
            Ok(Err(failure)) if failure.is_ours() => End::Ours(failure.to_string()),
            Ok(Err(failure)) => End::Failed(failure.to_string()),
            Err(_) => self.timed_out(&seen, progress.stage(), began.elapsed()),
        };
        let (outcome, signal) = judge(seen, end, &self.webhook.give_up_on, self.clock.wall());
        // First what holds back the others, so that none of them starts in between.
        if let Some(signal) = signal {
            report.signal(signal);
        }
        report.outcome(delivery.ticket, outcome);
    }

    /// The end of an exchange that its deadline cut off.
    fn timed_out(&self, seen: &Seen, stage: Stage, after: Duration) -> End {
        let what = match stage {
            _ if seen.status.is_some() => "the answer was not complete",
            Stage::Resolving => "the name did not resolve",
            Stage::Connecting => "no connection",
            Stage::Handshaking => "no TLS handshake",
            Stage::Answering => "no answer",
        };
        let words = format!("timeout: {what} within {} ms", after.as_millis());
        if stage == Stage::Resolving && !self.http.resolver_works() { End::Ours(words) } else { End::Failed(words) }
    }

    async fn exchange(
        &self,
        delivery: &Delivery<Notification>,
        seen: &mut Seen,
        progress: &Progress,
    ) -> Result<(), Failure> {
        let body = delivery.payload.bytes().clone();
        let headers = self.headers(delivery, &body);
        let target = Arc::clone(&self.webhook.target);
        let answer = self.http.post(Outgoing { target, headers, body, progress: progress.clone() }).await?;
        seen.status = Some(answer.status());
        seen.retry_after = answer.header("retry-after").map(ToOwned::to_owned);
        answer.read(|piece| if seen.body(piece) { Enough::No } else { Enough::Yes }).await
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
