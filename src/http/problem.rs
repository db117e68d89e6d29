//! What a caller is told when something is wrong: `application/problem+json` (RFC 9457), for every error alike.

use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, ResponseError};
use posthaste_outbox::StoreError;
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// How many faults one answer names; others that were found are counted.
pub(crate) const FAULTS_MAX: usize = 100;
/// How much of a caller's own words a fault repeats, in characters.
const QUOTED_MAX: usize = 128;

/// One thing that is wrong with what a caller sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Fault {
    /// A JSON pointer to where it stands or, if it is missing, would stand; of a query parameter `/name`.
    pub(crate) pointer: String,
    /// The query parameter, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) parameter: Option<String>,
    /// What is wrong, and how it should be.
    pub(crate) detail: String,
}

impl Fault {
    /// A fault of a body, at a pointer.
    pub(crate) fn at(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), parameter: None, detail: detail.into() }
    }

    /// A fault of a query parameter.
    pub(crate) fn parameter(name: &str, detail: impl Into<String>) -> Self {
        let parameter = quoted(name);
        Self { pointer: format!("/{}", escaped(&parameter)), parameter: Some(parameter), detail: detail.into() }
    }
}

/// A name as a part of a JSON pointer.
pub(crate) fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// What a caller wrote, cut to a length that may be repeated.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// An error as it is answered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Problem {
    status: StatusCode,
    detail: String,
    faults: Vec<Fault>,
    retry_after: Option<Duration>,
    header: Option<(header::HeaderName, &'static str)>,
}

impl Problem {
    /// A problem with this status, explained in `detail`.
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), faults: Vec::new(), retry_after: None, header: None }
    }

    /// 400: the request cannot be read.
    pub(crate) fn unreadable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 401: no token that is known here.
    pub(crate) fn unauthorized(detail: &str) -> Self {
        let mut problem = Self::new(StatusCode::UNAUTHORIZED, detail);
        problem.header = Some((header::WWW_AUTHENTICATE, "Bearer"));
        problem
    }

    /// 403: known, yet not allowed.
    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    /// 404: nothing here, or nothing that the caller may see.
    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// 405: the methods in `allow` are taken.
    pub(crate) fn not_allowed(allow: &'static str) -> Self {
        let mut problem = Self::new(StatusCode::METHOD_NOT_ALLOWED, format!("this takes {allow}"));
        problem.header = Some((header::ALLOW, allow));
        problem
    }

    /// 409: it contradicts what is there.
    pub(crate) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, detail)
    }

    /// 413: too long.
    pub(crate) fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    }

    /// 415: not a media type that is read here.
    pub(crate) fn unsupported(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
    }

    /// 422: readable, yet these are wrong.
    pub(crate) fn wrong(faults: Vec<Fault>) -> Self {
        let count = faults.len();
        let detail = match faults.first() {
            Some(only) if count == 1 => only.detail.clone(),
            // Whoever found so many may have looked no further.
            _ if count >= FAULTS_MAX => format!("{count} fields or more are wrong"),
            _ => format!("{count} fields are wrong"),
        };
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail).naming(faults)
    }

    /// 429: more than the caller may send; the next is taken after so long.
    pub(crate) fn too_many(detail: impl Into<String>, retry_after: Duration) -> Self {
        let mut problem = Self::new(StatusCode::TOO_MANY_REQUESTS, detail);
        problem.retry_after = Some(retry_after);
        problem
    }

    /// 503: not now; it is worth another try after so long.
    pub(crate) fn unavailable(detail: impl Into<String>, retry_after: Duration) -> Self {
        let mut problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, detail);
        problem.retry_after = Some(retry_after);
        problem
    }

    /// The same, naming these faults.
    pub(crate) fn naming(mut self, faults: Vec<Fault>) -> Self {
        self.faults = faults;
        self
    }
}

impl From<StoreError> for Problem {
    /// The caller is not told what failed inside; the log is.
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Closed => Self::unavailable("the daemon is stopping", Duration::from_secs(1)),
            StoreError::Failed(why) => {
                tracing::error!(error = %why, "the outbox failed");
                Self::unavailable("the outbox failed; see the daemon's log", Duration::from_secs(5))
            }
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.status, self.detail)
    }
}

#[derive(Serialize)]
struct Body<'a> {
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "<[Fault]>::is_empty")]
    errors: &'a [Fault],
    #[serde(skip_serializing_if = "Option::is_none")]
    more_errors: Option<usize>,
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let shown = self.faults.len().min(FAULTS_MAX);
        let body = Body {
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            errors: &self.faults[..shown],
            more_errors: Some(self.faults.len() - shown).filter(|more| *more > 0),
        };
        let mut response = HttpResponse::build(self.status);
        response.content_type("application/problem+json");
        if let Some(after) = self.retry_after {
            // Whole seconds, rounded up: zero would invite a storm.
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            response.insert_header((header::RETRY_AFTER, seconds.max(1)));
        }
        if let Some((name, value)) = &self.header {
            response.insert_header((name.clone(), *value));
        }
        // Texts and numbers only: this serializes always.
        response.body(serde_json::to_vec(&body).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::body::{self, MessageBody};

    fn answer(problem: &Problem) -> (HttpResponse<()>, serde_json::Value) {
        let response = problem.error_response();
        let (head, content) = response.into_parts();
        let bytes = content.try_into_bytes().map_err(|_: body::BoxBody| "streams").unwrap();
        (head.map_body(|_, ()| ()), serde_json::from_slice(&bytes).unwrap())
    }

    #[test]
    fn a_problem_has_title_status_and_its_faults() {
        let (head, body) = answer(&Problem::wrong(vec![Fault::at("/type", "missing")]));
        assert_eq!(head.status(), 422);
        assert_eq!(head.headers().get("content-type").unwrap(), "application/problem+json");
        let expected = serde_json::json!({"title": "Unprocessable Entity", "status": 422, "detail": "missing",
            "errors": [{"pointer": "/type", "detail": "missing"}]});
        assert_eq!(body, expected);
    }

    #[test]
    fn many_faults_are_cut_and_counted() {
        let faults = (0..250).map(|n| Fault::at(format!("/{n}"), "x")).collect();
        let (_, body) = answer(&Problem::wrong(faults));
        assert_eq!((body["errors"].as_array().unwrap().len(), &body["more_errors"]), (100, &serde_json::json!(150)));
    }

    #[test]
    fn retry_after_is_in_whole_seconds_and_never_zero() {
        for (millis, seconds) in [(0, "1"), (200, "1"), (1_000, "1"), (1_001, "2")] {
            let (head, _) = answer(&Problem::unavailable("x", Duration::from_millis(millis)));
            assert_eq!(head.headers().get("retry-after").unwrap(), seconds);
        }
    }

    #[test]
    fn long_words_of_a_caller_are_not_repeated_whole() {
        let fault = Fault::parameter(&"ä/".repeat(500), "unknown");
        assert!(fault.pointer.chars().count() < 300 && fault.pointer.contains("~1"), "{}", fault.pointer);
    }
}
