//! Reads what a webhook signs with: `secrets`, `signature` and `header_prefixes`.

use super::keyring::{Held, Keyring, Scheme};
use super::sign::Secret;
use crate::options::Problem;
use posthaste_events::Timestamp;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// How many secrets a webhook may have.
pub const SECRETS_MAX: usize = 8;
/// How many sets of the standard headers a message may carry.
const PREFIXES_MAX: usize = 4;
/// How long a prefix may be, in bytes.
const PREFIX_BYTES_MAX: usize = 32;
/// The prefix of the standard, and of a webhook that says nothing.
const PREFIX: &str = "webhook-";
/// Beginnings of headers that are something else already.
const TAKEN: [&str; 5] = ["posthaste-", "x-orchest-", "x-hub-", "ce-", "content-"];

const SECRET_HINT: &str = "write whsec_ and the base64 of 24 to 64 random bytes, best as \"env:NAME\" or \"file:PATH\"";
const TEXT_HINT: &str = "write a text of 16 to 256 bytes, best as \"env:NAME\" or \"file:PATH\"";
const UNTIL_HINT: &str = "write the end of its time as RFC 3339 has it, such as until = \"2026-01-31T12:00:00Z\"";
const PREFIX_HINT: &str =
    "write 1 to 4 beginnings of headers in small letters, each with - at its end, such as \"svix-\"";

/// What is written of signing.
pub(super) struct Written<'a> {
    pub(super) secrets: Option<&'a [Value]>,
    pub(super) signature: Option<&'a Value>,
    pub(super) prefixes: Option<&'a [String]>,
    /// What signs where `signature` is absent.
    pub(super) scheme: Scheme,
    /// Whether there may be no secret, and so no signature.
    pub(super) optional: bool,
}

/// What was read of it, and what may be shown of that.
pub(super) struct Signing {
    pub(super) keyring: Keyring,
    pub(super) schemes: BTreeSet<Scheme>,
    pub(super) prefixes: Vec<String>,
}

impl Signing {
    pub(super) fn read(written: &Written<'_>, problems: &mut Vec<Problem>) -> Self {
        let schemes = schemes(written, problems);
        let prefixes = prefixes(written.prefixes, &schemes, problems);
        let held = secrets(written, &schemes, problems);
        if held.is_empty() && written.secrets.is_none() && written.signature.is_some() && written.optional {
            problems.push(Problem::new("secrets", "secrets is missing, yet signature is there", SECRET_HINT));
        }
        Self { keyring: Keyring::new(held, schemes.clone(), &prefixes), schemes, prefixes }
    }

    /// `signature` as it would be written.
    pub(super) fn shown(&self) -> Value {
        let mut names = self.schemes.iter().map(|scheme| Value::from(scheme.name()));
        match names.len() {
            1 => names.next().unwrap_or_default(),
            _ => names.collect(),
        }
    }
}

fn schemes(written: &Written<'_>, problems: &mut Vec<Problem>) -> BTreeSet<Scheme> {
    let words: Vec<&str> = match written.signature {
        None => return BTreeSet::from([written.scheme]),
        Some(Value::String(word)) => vec![word],
        Some(Value::Array(words)) => words.iter().map(|word| word.as_str().unwrap_or_default()).collect(),
        Some(_) => Vec::new(),
    };
    let read: Option<BTreeSet<Scheme>> = words.into_iter().map(Scheme::named).collect();
    read.filter(|schemes| !schemes.is_empty()).unwrap_or_else(|| {
        let written = written.signature.unwrap_or(&Value::Null);
        let hint = "write \"standard\", \"github\" or \"orchest\", or a list of them";
        problems.push(Problem::new("signature", format!("signature = {written} is unknown"), hint));
        BTreeSet::from(Scheme::ALL)
    })
}

fn prefixes(written: Option<&[String]>, schemes: &BTreeSet<Scheme>, problems: &mut Vec<Problem>) -> Vec<String> {
    let Some(written) = written else { return vec![PREFIX.to_owned()] };
    if !schemes.contains(&Scheme::Standard) {
        let what = "header_prefixes is there, yet signature has no \"standard\", which alone has headers with a prefix";
        problems.push(Problem::new("header_prefixes", what, "leave it out, or add \"standard\" to signature"));
    }
    if written.is_empty() || written.len() > PREFIXES_MAX {
        let what = format!("header_prefixes has {} prefixes, not 1 to {PREFIXES_MAX}", written.len());
        problems.push(Problem::new("header_prefixes", what, PREFIX_HINT));
    }
    let mut seen = BTreeSet::new();
    for (i, prefix) in written.iter().enumerate() {
        let letters = prefix.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let form = letters && prefix.ends_with('-') && prefix.starts_with(|c: char| c.is_ascii_lowercase());
        let what = if !form || prefix.len() > PREFIX_BYTES_MAX {
            "is no beginning of a header"
        } else if TAKEN.iter().any(|taken| prefix.starts_with(taken)) {
            "is taken by other headers"
        } else if !seen.insert(prefix) {
            "is there twice"
        } else {
            continue;
        };
        let what = format!("header_prefixes: {prefix:?} {what}");
        problems.push(Problem::new(format!("header_prefixes.{i}"), what, PREFIX_HINT));
    }
    written.to_vec()
}

fn secrets(written: &Written<'_>, schemes: &BTreeSet<Scheme>, problems: &mut Vec<Problem>) -> Vec<Held> {
    // Only the standard scheme asks for a form: the others take whatever their receivers were given.
    let standard = schemes.contains(&Scheme::Standard);
    let hint = if standard { SECRET_HINT } else { TEXT_HINT };
    let Some(secrets) = written.secrets else { return Vec::new() };
    if secrets.is_empty() || secrets.len() > SECRETS_MAX {
        let what = format!("secrets has {} secrets, not 1 to {SECRETS_MAX}", secrets.len());
        problems.push(Problem::new("secrets", what, hint));
    }
    let before = problems.len();
    let mut held = Vec::with_capacity(secrets.len());
    for (i, secret) in secrets.iter().enumerate() {
        let Some((text, until)) = parts(i, secret, problems) else { continue };
        match if standard { Secret::parse(text) } else { Secret::parse_text(text) } {
            Ok(secret) => held.push(Held { secret, until }),
            Err(error) => {
                let what = format!("secrets: secret number {} {error}", i + 1);
                problems.push(Problem::new(format!("secrets.{i}"), what, hint));
            }
        }
    }
    // One day nothing would sign any more.
    if problems.len() == before && !held.is_empty() && held.iter().all(|held| held.until.is_some()) {
        let what = "secrets: every secret has an until, so that one day none would sign";
        problems.push(Problem::new("secrets", what, "leave until out of the newest one"));
    }
    held
}

/// The text of a secret and until when it signs; it stands alone, or in a table.
fn parts<'v>(i: usize, secret: &'v Value, problems: &mut Vec<Problem>) -> Option<(&'v str, Option<Timestamp>)> {
    let mut wrong = |key: &str, what: &str, hint: &str| {
        let path = if key.is_empty() { format!("secrets.{i}") } else { format!("secrets.{i}.{key}") };
        problems.push(Problem::new(path, format!("secrets: secret number {} {what}", i + 1), hint));
    };
    let table: &Map<String, Value> = match secret {
        Value::String(text) => return Some((text, None)),
        Value::Object(table) => table,
        _ => {
            wrong("", "has the wrong form", "write it between quotes, or { secret = \"…\", until = \"…\" }");
            return None;
        }
    };
    for key in table.keys().filter(|key| !["secret", "until"].contains(&key.as_str())) {
        wrong(key, &format!("has the unknown key {key}"), "there are: secret, until");
    }
    let until = match table.get("until") {
        None | Some(Value::Null) => None,
        Some(written) => {
            let read = written.as_str().and_then(|text| Timestamp::parse(text).ok());
            if read.is_none() {
                wrong("until", "has an until that is no time", UNTIL_HINT);
            }
            read
        }
    };
    let Some(text) = table.get("secret").and_then(Value::as_str) else {
        wrong("secret", "has no secret in its table", "write { secret = \"…\", until = \"…\" }");
        return None;
    };
    Some((text, until))
}
