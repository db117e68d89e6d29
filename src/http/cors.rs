//! Decides which web pages may post to the relay, and tells their browsers so (the CORS protocol of the Fetch standard).
//!
//! Exactly the origins of `[relay] origins`, and the daemon's own. A browser asks first (a preflight) where a page sets
//! headers; a beacon it sends unasked, so the post itself is judged too. No other route has any of this: browsers keep
//! pages of other origins out of them.

use super::access::host;
use super::problem::Problem;
use actix_web::http::header::{self, HeaderMap, HeaderValue};

/// For how many seconds a browser may remember what a preflight said; most browsers take no more.
const PREFLIGHT_SECONDS: &str = "7200";

/// Whether the post of a page may be taken; what no page sent may.
///
/// # Errors
/// 403 for a page of an origin that is neither ours nor among `origins`.
pub(super) fn judge(headers: &HeaderMap, origins: &[String]) -> Result<(), Problem> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    if listed(headers, origins).is_some() || is_own(origin, host(headers)) {
        return Ok(());
    }
    Err(Problem::forbidden("pages of this origin may not post here; list it in relay.origins"))
}

/// Adds to any answer what lets a page of a listed origin read it.
pub(super) fn let_read(headers: &HeaderMap, origins: &[String], answer: &mut HeaderMap) {
    // Caches must not give one origin's answer to another.
    answer.append(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = listed(headers, origins) {
        answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        answer.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("retry-after"));
    }
}

/// Adds to the answer of a preflight what a page of a listed origin may send.
pub(super) fn let_send(headers: &HeaderMap, origins: &[String], answer: &mut HeaderMap) {
    if listed(headers, origins).is_some() {
        let sent = "authorization, content-type, idempotency-key";
        answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
        answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(sent));
        answer.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(PREFLIGHT_SECONDS));
    }
}

/// The origin of the page, where it is listed. Two such headers are nobody's.
fn listed<'a>(headers: &'a HeaderMap, origins: &[String]) -> Option<&'a HeaderValue> {
    let mut said = headers.get_all(header::ORIGIN);
    let origin = said.next().filter(|o| origins.iter().any(|listed| listed.as_bytes() == o.as_bytes()));
    origin.filter(|_| said.next().is_none())
}

/// Whether a page is the daemon's own. A proxy before it may speak TLS.
fn is_own(origin: &HeaderValue, host: &str) -> bool {
    let name = origin.as_bytes();
    let name = name.strip_prefix(b"http://").or_else(|| name.strip_prefix(b"https://"));
    !host.is_empty() && name == Some(host.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs.iter().fold(TestRequest::default(), |r, p| r.append_header(*p)).to_http_request().headers().clone()
    }

    #[test]
    fn exactly_the_listed_origins_and_our_own_may_post() {
        let origins = ["https://app.example.com".to_owned(), "http://localhost:3000".to_owned()];
        let may = |origin: &str| judge(&headers(&[("host", "127.0.0.1:8321"), ("origin", origin)]), &origins).is_ok();
        for good in ["https://app.example.com", "http://localhost:3000", "http://127.0.0.1:8321"] {
            assert!(may(good), "{good}");
        }
        for bad in [
            "null",
            "",
            "*",
            "http://app.example.com",
            "https://app.example.com:8443",
            "https://app.example.com/",
            "https://app.example.com.evil.example",
            "https://evil.example?https://app.example.com",
            "HTTPS://APP.EXAMPLE.COM",
            "http://127.0.0.1",
            "http://127.0.0.1:83211",
        ] {
            assert!(!may(bad), "{bad}");
        }
        assert!(judge(&headers(&[("host", "127.0.0.1:8321")]), &[]).is_ok(), "no page sent it");
        let twice = [("host", "h"), ("origin", "https://app.example.com"), ("origin", "https://evil.example")];
        assert!(judge(&headers(&twice), &origins).is_err());
        assert!(judge(&headers(&[("origin", "http://")]), &origins).is_err());
    }

    #[test]
    fn an_answer_names_the_origin_of_its_page_or_none() {
        let origins = ["https://app.example.com".to_owned()];
        let answer = |origin: &str| {
            let (asked, mut answer) = (headers(&[("host", "h"), ("origin", origin)]), HeaderMap::new());
            let_read(&asked, &origins, &mut answer);
            let_send(&asked, &origins, &mut answer);
            assert_eq!(answer.get("vary").unwrap(), "origin");
            assert!(answer.get("access-control-allow-credentials").is_none());
            answer.get("access-control-allow-origin").map(|v| v.to_str().unwrap().to_owned())
        };
        assert_eq!(answer("https://app.example.com").as_deref(), Some("https://app.example.com"));
        assert_eq!((answer("https://evil.example"), answer("http://h"), answer("null")), (None, None, None));
    }
}
