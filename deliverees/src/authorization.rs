//! How an endpoint is told who calls: `auth` of the options becomes the value of the header `authorization`.
//!
//! It is never shown, not even in a problem.

use crate::endpoint::secret;
use crate::options::Problem;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::HeaderValue;
use serde::Deserialize;
use serde_json::{Value, json};
use std::fmt;

/// How long a user, a password or a token may be, in bytes.
const PART_MAX: usize = 2_048;

/// `auth` as it is written: one of these.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WrittenAuth {
    /// User and password (RFC 7617), sent as UTF-8.
    pub basic: Option<Basic>,
    /// A token (RFC 6750).
    pub bearer: Option<String>,
}

/// User and password.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Basic {
    /// The user; no colon and no control character, at most 2,048 bytes.
    pub user: String,
    /// The password; no control character, at most 2,048 bytes.
    pub password: String,
}

impl fmt::Debug for WrittenAuth {
    /// Which of them there are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bearer = self.bearer.as_ref().map(|_| "…");
        f.debug_struct("WrittenAuth").field("basic", &self.basic).field("bearer", &bearer).finish()
    }
}

impl fmt::Debug for Basic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Basic(…)")
    }
}

/// What is sent as `authorization`.
#[derive(Clone)]
pub(crate) struct Authorization {
    value: HeaderValue,
    shown: Value,
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authorization({})", self.shown)
    }
}

impl Authorization {
    /// Reads it; `headers` says whether the endpoint sends a header `authorization` of its own.
    pub(crate) fn read(written: &WrittenAuth, headers: bool, problems: &mut Vec<Problem>) -> Option<Self> {
        let before = problems.len();
        let mut wrong = |path: &str, what: &str, hint: &str| {
            problems.push(Problem::new(path, format!("{path} {what}"), hint));
        };
        if headers {
            wrong("auth", "is there, and headers has an authorization too", "keep one of the two");
        }
        let (value, shown) = match written {
            WrittenAuth { basic: Some(Basic { user, password }), bearer: None } => {
                if user.is_empty() {
                    wrong("auth.basic.user", "is missing", "write basic = { user = \"…\", password = \"env:NAME\" }");
                }
                if user.contains(':') {
                    wrong("auth.basic.user", "has a colon, which ends a user", "use a user without one");
                }
                for (path, part) in [("auth.basic.user", user), ("auth.basic.password", password)] {
                    if part.chars().any(char::is_control) {
                        wrong(path, "has a control character", "take it out; a file may have ended in two line ends");
                    }
                    if part.len() > PART_MAX {
                        wrong(path, "is too long", "use at most 2,048 bytes");
                    }
                }
                (format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))), json!({ "basic": MASK }))
            }
            WrittenAuth { basic: None, bearer: Some(token) } => {
                if token.is_empty() || token.len() > PART_MAX || !token.bytes().all(|b| b.is_ascii_graphic()) {
                    let hint = "write 1 to 2,048 visible ASCII characters without a space, best as \"env:NAME\"";
                    wrong("auth.bearer", "is no token", hint);
                }
                (format!("Bearer {token}"), json!({ "bearer": MASK }))
            }
            _ => {
                wrong("auth", "is not one of basic and bearer", "write auth = { bearer = \"env:NAME\" }, or basic");
                return None;
            }
        };
        // Where no problem was found, it is a header's value.
        secret(&value).filter(|_| problems.len() == before).map(|value| Self { value, shown })
    }

    /// The value of the header.
    pub(crate) const fn value(&self) -> &HeaderValue {
        &self.value
    }

    /// The kind, its value masked.
    pub(crate) fn shown(&self) -> Value {
        self.shown.clone()
    }
}

/// Stands for whatever opens something.
const MASK: &str = "…";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(written: Value) -> (Option<String>, Vec<String>) {
        let (written, mut problems) = (serde_json::from_value(written).unwrap(), Vec::new());
        let read = Authorization::read(&written, false, &mut problems);
        assert!(!format!("{read:?} {problems:?}").contains("canary"));
        (read.map(|read| read.value().to_str().unwrap().to_owned()), problems.into_iter().map(|p| p.path).collect())
    }

    #[test]
    fn user_and_password_are_sent_as_the_example_of_the_rfc_says() {
        // RFC 7617, 2 and 2.1.
        for (user, password, sent) in [
            ("Aladdin", "open sesame", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
            ("test", "123\u{a3}", "Basic dGVzdDoxMjPCow=="),
            ("u", "a:b", "Basic dTphOmI="),
            ("u", "", "Basic dTo="),
        ] {
            let written = json!({ "basic": { "user": user, "password": password } });
            assert_eq!(read(written), (Some(sent.to_owned()), Vec::new()));
        }
        assert_eq!(read(json!({ "bearer": "mF_9.B5f-4.1JqM" })).0.as_deref(), Some("Bearer mF_9.B5f-4.1JqM"));
    }

    #[test]
    fn what_could_break_the_header_is_refused_and_not_shown() {
        for (written, path) in [
            (json!({ "basic": { "user": "can:ary", "password": "p" } }), "auth.basic.user"),
            (json!({ "basic": { "user": "canary\r\nx", "password": "p" } }), "auth.basic.user"),
            (json!({ "basic": { "user": "u", "password": "canary\n" } }), "auth.basic.password"),
            (json!({ "basic": { "user": "u", "password": "canary".repeat(400) } }), "auth.basic.password"),
            (json!({ "basic": { "password": "canary" } }), "auth.basic.user"),
            (json!({ "bearer": "" }), "auth.bearer"),
            (json!({ "bearer": "can ary" }), "auth.bearer"),
            (json!({ "bearer": "canary\r\n" }), "auth.bearer"),
            (json!({ "bearer": "can\u{e4}ry" }), "auth.bearer"),
            (json!({ "bearer": "canary", "basic": { "user": "u", "password": "canary" } }), "auth"),
            (json!({}), "auth"),
        ] {
            assert_eq!(read(written.clone()), (None, vec![path.to_owned()]), "{written}");
        }
    }
}
