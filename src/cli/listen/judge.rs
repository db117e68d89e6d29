//! Judges the signatures of what arrives, of every scheme that a webhook may have, and says why one does not hold where that
//! can be found out.
//!
//! Pure, and on its own feet: it shares no code with what signs.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hmac::{Hmac, Mac as _};
use hyper::header::HeaderMap;
use sha2::Sha256;

/// How far the time of a signature may be from now, in seconds, as Standard Webhooks has it.
const TOLERANCE: u64 = 5 * 60;
/// How many signatures of one header are looked at.
const ENTRIES_MAX: usize = 16;
/// What the headers of the standard scheme begin with.
const PREFIX: &str = "webhook-";

/// Standard base64, padded or not: a secret may be written either way.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A secret as the command line has it, not read yet; shown nowhere, right or wrong.
#[derive(Clone)]
pub(super) struct Given(String);

impl Given {
    /// Takes it as it is.
    pub(super) fn take(text: &str) -> Result<Self, std::convert::Infallible> {
        Ok(Self(text.to_owned()))
    }

    /// Reads it.
    ///
    /// # Errors
    /// What a secret is, without the value.
    pub(super) fn read(&self) -> Result<Key, String> {
        Key::parse(&self.0)
    }
}

impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Given(…)")
    }
}

/// A secret; shown nowhere.
#[derive(Clone)]
pub(super) struct Key {
    text: Vec<u8>,
    /// What the base64 behind `whsec_` stands for.
    decoded: Option<Vec<u8>>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Key {
    /// Reads a secret as the command line has it.
    ///
    /// # Errors
    /// What a secret is.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let decoded = text.strip_prefix("whsec_").map(|rest| BASE64.decode(rest).unwrap_or_default());
        let good = match &decoded {
            Some(bytes) => (24..=64).contains(&bytes.len()),
            None => (16..=256).contains(&text.len()),
        };
        if !good {
            return Err(
                "a secret is whsec_ and the base64 of 24 to 64 bytes, or for github and orchest any other text \
                        of 16 to 256 bytes"
                    .to_owned(),
            );
        }
        Ok(Self { text: text.as_bytes().to_vec(), decoded })
    }

    const fn decoded(&self) -> Option<&Vec<u8>> {
        self.decoded.as_ref()
    }

    #[expect(clippy::unnecessary_wraps, reason = "it stands beside `decoded`")]
    const fn text(&self) -> Option<&Vec<u8>> {
        Some(&self.text)
    }
}

/// What one signature is worth.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Judged {
    /// `standard`, with another prefix than the usual one in it; `github` or `orchest`.
    pub(super) scheme: String,
    pub(super) finding: Finding,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// By which of the secrets, from 1.
    Holds(usize),
    /// It is right, and so many seconds from now; negative: before.
    Stale(i64),
    /// A header that is not there, or is no text.
    Missing(String),
    /// The header with the time has no number of seconds.
    NoTime(String),
    /// There is no signature of a form that is known.
    NoVersion,
    /// It is right for another body than the one that arrived; what differs.
    Changed(&'static str),
    /// It is made with the other reading of the secret.
    OtherReading,
    /// By none of the secrets over anything that is near this body.
    Wrong,
}

/// Judges every signature of a message; at least one is said to be missing. `now` in seconds since 1970.
pub(super) fn judge(headers: &HeaderMap, body: &[u8], keys: &[Key], now: u64) -> Vec<Judged> {
    let mut judged: Vec<Judged> = headers
        .keys()
        .filter_map(|name| name.as_str().strip_suffix("signature").filter(|p| p.ends_with('-') && *p != "x-hub-"))
        .map(|prefix| Judged {
            scheme: if prefix == PREFIX { "standard".to_owned() } else { format!("standard, {prefix}…") },
            finding: standard(prefix, headers, body, keys, now),
        })
        .collect();
    for (scheme, header, before) in [("github", "x-hub-signature-256", "sha256="), ("orchest", "x-hub-signature", "")] {
        if let Some(value) = headers.get(header) {
            let hex = value.to_str().ok().and_then(|text| bytes(text.strip_prefix(before)?));
            let finding = hex.map_or(Finding::NoVersion, |hex| {
                explain(body, keys, [Key::text, Key::decoded], |key, body| {
                    mac(key, &[body]).is_some_and(|mac| mac.verify_slice(&hex).is_ok())
                })
            });
            judged.push(Judged { scheme: scheme.to_owned(), finding });
        }
    }
    if judged.is_empty() {
        let needed = ["id", "timestamp", "signature"].map(|name| format!("{PREFIX}{name}"));
        let missing = needed.into_iter().find(|name| !headers.contains_key(name.as_str())).unwrap_or_default();
        judged.push(Judged { scheme: "standard".to_owned(), finding: Finding::Missing(missing) });
    }
    judged
}

/// By Standard Webhooks: HMAC-SHA256 over `id.timestamp.body`, one entry of the header must match one secret.
fn standard(prefix: &str, headers: &HeaderMap, body: &[u8], keys: &[Key], now: u64) -> Finding {
    let header = |end: &str| {
        let name = format!("{prefix}{end}");
        headers.get(&name).and_then(|value| value.to_str().ok()).ok_or(Finding::Missing(name))
    };
    let read = || Ok((header("id")?, header("timestamp")?, header("signature")?));
    let (id, timestamp, signatures) = match read() {
        Ok(all) => all,
        Err(missing) => return missing,
    };
    let Ok(at) = timestamp.parse::<u64>() else { return Finding::NoTime(format!("{prefix}timestamp")) };
    let entries: Vec<_> =
        signatures.split(' ').filter_map(|entry| entry.strip_prefix("v1,")).take(ENTRIES_MAX).collect();
    if entries.is_empty() {
        return Finding::NoVersion;
    }
    let entries: Vec<Vec<u8>> = entries.into_iter().filter_map(|entry| BASE64.decode(entry).ok()).collect();
    let finding = explain(body, keys, [Key::decoded, Key::text], |key, body| {
        let mac = mac(key, &[id.as_bytes(), b".", timestamp.as_bytes(), b".", body]);
        mac.is_some_and(|mac| entries.iter().any(|entry| mac.clone().verify_slice(entry).is_ok()))
    });
    match finding {
        Finding::Holds(_) if now.abs_diff(at) > TOLERANCE => {
            Finding::Stale(i64::try_from(i128::from(at) - i128::from(now)).unwrap_or(i64::MAX))
        }
        other => other,
    }
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Option<Hmac<Sha256>> {
    // HMAC takes keys of every length.
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    parts.iter().for_each(|part| mac.update(part));
    Some(mac)
}

type Reading = fn(&Key) -> Option<&Vec<u8>>;

/// Which secret is right in the usual reading; if none, what else would make the signature right.
fn explain(body: &[u8], keys: &[Key], [usual, other]: [Reading; 2], right: impl Fn(&[u8], &[u8]) -> bool) -> Finding {
    let by = |reading: Reading, body: &[u8]| keys.iter().position(|key| reading(key).is_some_and(|k| right(k, body)));
    if let Some(number) = by(usual, body) {
        return Finding::Holds(number + 1);
    }
    if by(other, body).is_some() {
        return Finding::OtherReading;
    }
    let before = before_changes(body).into_iter().find(|(_, before)| by(usual, before).is_some());
    before.map_or(Finding::Wrong, |(how, _)| Finding::Changed(how))
}

/// What the body may have been before somebody on its way changed it, and how.
fn before_changes(body: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut before = vec![("a line end at its end was taken away", [body, b"\n"].concat())];
    if body.trim_ascii_end().len() < body.len() {
        before.push(("a line end or spaces were added at its end", body.trim_ascii_end().to_vec()));
    }
    if body.trim_ascii_start().starts_with(b"{") {
        let compact = compact(body);
        let unescaped = unescaped(&compact);
        before.push(("its JSON was read and written anew, with other spaces", compact));
        before.push(("its JSON was read and written anew, with characters escaped", unescaped));
    }
    before
}

/// JSON without the spaces that say nothing.
fn compact(json: &[u8]) -> Vec<u8> {
    let (mut inside, mut escaped) = (false, false);
    let mut kept = Vec::with_capacity(json.len());
    for byte in json {
        if inside || !byte.is_ascii_whitespace() {
            kept.push(*byte);
        }
        inside ^= *byte == b'"' && !escaped;
        escaped = inside && *byte == b'\\' && !escaped;
    }
    kept
}

/// JSON whose characters stand for themselves wherever they may.
fn unescaped(json: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(json.len());
    let mut rest = json;
    while let Some((byte, after)) = rest.split_first() {
        if *byte != b'\\' {
            kept.push(*byte);
            rest = after;
            continue;
        }
        // Another escape keeps both of its bytes.
        let (said, length) = match character(rest) {
            Some((character, length)) => (character.to_string().into_bytes(), length),
            None if rest.starts_with(br"\/") => (b"/".to_vec(), 2),
            None => (rest.iter().take(2).copied().collect(), rest.len().min(2)),
        };
        kept.extend(said);
        rest = &rest[length..];
    }
    kept
}

/// The character of a `\uXXXX`, or of two that belong together, where it may stand for itself; and how long that is.
fn character(escape: &[u8]) -> Option<(char, usize)> {
    let unit = |at: usize| {
        let hex = escape.get(at..at + 6)?.strip_prefix(br"\u")?;
        u16::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()
    };
    let first = unit(0)?;
    let units = [first, unit(6).unwrap_or(0)];
    let character = char::decode_utf16(units).next()?.ok()?;
    let length = if u32::from(character) > 0xffff { 12 } else { 6 };
    (!character.is_control() && character != '"' && character != '\\').then_some((character, length))
}

/// The bytes that hexadecimal digits stand for.
fn bytes(hex: &str) -> Option<Vec<u8>> {
    if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    (0..32).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).ok()).collect()
}

/// What is printed of a signature, of `secrets` that were given.
pub(super) fn words(judged: &Judged, secrets: usize) -> String {
    let scheme = &judged.scheme;
    match &judged.finding {
        Finding::Holds(_) if secrets == 1 => format!("✓ signature holds ({scheme})"),
        Finding::Holds(number) => format!("✓ signature holds ({scheme}, secret {number} of {secrets})"),
        Finding::Stale(seconds) => format!(
            "✗ signature ({scheme}) is right, yet its time is {} s {} this clock, more than {TOLERANCE}: an old message, or a \
             clock is wrong",
            seconds.unsigned_abs(),
            if *seconds < 0 { "behind" } else { "ahead of" }
        ),
        Finding::Missing(header) => format!("✗ not signed: the header {header} is missing"),
        Finding::NoTime(header) => format!("✗ signature ({scheme}) is invalid: {header} is no number of seconds"),
        Finding::NoVersion if scheme.starts_with("standard") => {
            format!("✗ signature ({scheme}) is invalid: it has no entry of v1")
        }
        Finding::NoVersion => format!("✗ signature ({scheme}) is invalid: it is no HMAC-SHA256 in hexadecimal digits"),
        Finding::Changed(how) => {
            format!(
                "✗ signature ({scheme}) does not match: the secret is right, and the body was changed on its way: {how}"
            )
        }
        Finding::OtherReading if scheme.starts_with("standard") => format!(
            "✗ signature ({scheme}) does not match: it is made with the text of the secret, not with the bytes that its base64 \
             stands for"
        ),
        Finding::OtherReading => format!(
            "✗ signature ({scheme}) does not match: it is made with the bytes behind whsec_, not with the text of the secret"
        ),
        Finding::Wrong => format!(
            "✗ signature ({scheme}) does not match: another secret, or the body was changed; give the subscription's with --secret"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "evt_1";
    const AT: u64 = 1_732_000_000;
    const OURS: &str = "whsec_dGhpcy1zZWNyZXQtaXMtZm9yLWRldmVsb3BtZW50LW9ubHk=";
    const TEXT: &str = "It's a Secret to Everybody";
    const BODY: &[u8] = "{\"type\":\"a:b\",\"data\":{\"é/\":\"a b\\n\\\"\",\"n\":[1,2.50]}}".as_bytes();

    fn key(text: &str) -> Key {
        Key::parse(text).unwrap()
    }

    fn map(pairs: &[(&str, &str)]) -> HeaderMap {
        let read =
            |(name, value): &(&str, &str)| (name.parse::<hyper::header::HeaderName>().unwrap(), value.parse().unwrap());
        pairs.iter().map(read).collect()
    }

    fn v1(key: &[u8], at: &str, body: &[u8]) -> String {
        let mac = mac(key, &[format!("{ID}.{at}.").as_bytes(), body]).unwrap();
        format!("v2,x v1,{}", BASE64.encode(mac.finalize().into_bytes()))
    }

    fn hex(key: &[u8], body: &[u8]) -> String {
        mac(key, &[body]).unwrap().finalize().into_bytes().iter().map(|b| format!("{b:02x}")).collect()
    }

    fn signed(prefix: &str, at: &str, signature: &str) -> HeaderMap {
        let named = ["id", "timestamp", "signature"].map(|end| format!("{prefix}{end}"));
        map(&[(&named[0], ID), (&named[1], at), (&named[2], signature)])
    }

    fn only(headers: &HeaderMap, body: &[u8], keys: &[Key], now: u64) -> Finding {
        let mut judged = judge(headers, body, keys, now);
        assert_eq!(judged.len(), 1, "{judged:?}");
        judged.remove(0).finding
    }

    #[test]
    fn a_signature_is_judged_and_what_is_wrong_is_said() {
        let (ours, other) = (key(OURS), key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"));
        let at = AT.to_string();
        let headers = signed("webhook-", &at, &v1(ours.decoded().unwrap(), &at, BODY));
        let keys = [other.clone(), ours.clone()];
        assert_eq!(only(&headers, BODY, &keys[1..], AT + 300), Finding::Holds(1));
        assert_eq!(only(&headers, BODY, &keys, AT), Finding::Holds(2));
        assert_eq!(only(&headers, BODY, &keys[..1], AT), Finding::Wrong);
        assert_eq!(only(&headers, b"{}", &keys, AT), Finding::Wrong);
        assert_eq!(only(&headers, BODY, &keys, AT + 301), Finding::Stale(-301));
        assert_eq!(only(&headers, BODY, &keys, AT - 301), Finding::Stale(301));
        let soon = signed("webhook-", "soon", "v1,x");
        assert_eq!(only(&soon, BODY, &keys, AT), Finding::NoTime("webhook-timestamp".into()));
        assert_eq!(only(&signed("webhook-", &at, "abc"), BODY, &keys, AT), Finding::NoVersion);
        for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
            let mut without = headers.clone();
            without.remove(name);
            assert_eq!(only(&without, BODY, &keys, AT), Finding::Missing(name.into()));
        }
    }

    /// The published examples of Standard Webhooks and of GitHub, so that both sides are not wrong alike.
    #[test]
    fn the_examples_of_the_specifications_hold() {
        let headers = map(&[
            ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
            ("webhook-timestamp", "1614265330"),
            ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
        ]);
        let keys = [key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")];
        assert_eq!(only(&headers, br#"{"test": 2432232314}"#, &keys, 1_614_265_330), Finding::Holds(1));
        let hex = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let github = map(&[("x-hub-signature-256", &format!("sha256={hex}"))]);
        assert_eq!(only(&github, b"Hello, World!", &[key(TEXT)], 0), Finding::Holds(1));
    }

    #[test]
    fn every_scheme_of_a_message_is_judged_by_its_name() {
        let (ours, at) = (key(OURS), AT.to_string());
        let signature = v1(ours.decoded().unwrap(), &at, BODY);
        let mut headers = signed("webhook-", &at, &signature);
        headers.extend(signed("svix-", &at, &signature));
        let hex = hex(OURS.as_bytes(), BODY);
        headers.extend(map(&[("x-hub-signature-256", &format!("sha256={hex}")), ("x-hub-signature", &hex)]));
        let mut schemes: Vec<String> = Vec::new();
        for judged in judge(&headers, BODY, &[ours], AT) {
            assert_eq!(judged.finding, Finding::Holds(1), "{judged:?}");
            schemes.push(judged.scheme);
        }
        schemes.sort();
        assert_eq!(schemes, ["github", "orchest", "standard", "standard, svix-…"]);
        for wrong in ["", "sha256=", "sha1=00", "sha256=zz"] {
            let headers = map(&[("x-hub-signature-256", wrong)]);
            assert_eq!(only(&headers, BODY, &[key(TEXT)], 0), Finding::NoVersion, "{wrong}");
        }
    }

    #[test]
    fn a_body_that_was_changed_on_its_way_is_told_from_a_wrong_secret() {
        let keys = [key(TEXT), key(OURS)];
        let at = AT.to_string();
        let standard = signed("webhook-", &at, &v1(keys[1].decoded().unwrap(), &at, BODY));
        let orchest = map(&[("x-hub-signature", &hex(TEXT.as_bytes(), BODY))]);
        let text = std::str::from_utf8(BODY).unwrap();
        for (arrived, how) in [
            (format!("{text}\n"), "added"),
            (format!("{text}\r\n "), "added"),
            (text.replace("\":", "\": ").replace(',', ", "), "other spaces"),
            (
                serde_json::to_string_pretty(&serde_json::value::RawValue::from_string(text.into()).unwrap()).unwrap()
                    + "\n",
                "added",
            ),
            (text.replace("\":", "\": ").replace('é', "\\u00e9"), "escaped"),
            (text.replace('é', "\\u00E9").replace('/', "\\/"), "escaped"),
        ] {
            for headers in [&standard, &orchest] {
                let finding = only(headers, arrived.as_bytes(), &keys, AT);
                assert!(matches!(&finding, Finding::Changed(said) if said.contains(how)), "{arrived}: {finding:?}");
            }
        }
        let ended = signed("webhook-", &at, &v1(keys[1].decoded().unwrap(), &at, &[BODY, b"\n"].concat()));
        assert_eq!(only(&ended, BODY, &keys, AT), Finding::Changed("a line end at its end was taken away"));
        // What says something else is no longer the same body, whatever its form.
        for other in [text.replace("2.50", "2.5"), text.replace("a b", "a  b"), text.replace("a:b", "a:c")] {
            assert_eq!(only(&standard, other.as_bytes(), &keys, AT), Finding::Wrong, "{other}");
        }
    }

    #[test]
    fn the_other_reading_of_a_secret_is_told() {
        let (ours, at) = (key(OURS), AT.to_string());
        let text = signed("webhook-", &at, &v1(OURS.as_bytes(), &at, BODY));
        assert_eq!(only(&text, BODY, std::slice::from_ref(&ours), AT), Finding::OtherReading);
        let decoded = map(&[("x-hub-signature", &hex(ours.decoded().unwrap(), BODY))]);
        assert_eq!(only(&decoded, BODY, &[ours], AT), Finding::OtherReading);
    }

    #[test]
    fn escapes_are_read_as_the_characters_that_they_stand_for() {
        let read = |text: &str| String::from_utf8(unescaped(text.as_bytes())).unwrap();
        assert_eq!(read(r"\ud83d\ude00 \u00e9 \/ x"), "😀 é / x");
        for kept in [r#"\u0000 \u001f \u0022 \u005c \" \\ \\u00e9 \n"#, r"\ud83d", r"\ud83dx", r"\u00", r"\"] {
            assert_eq!(read(kept), kept);
        }
    }

    #[test]
    fn a_wrong_secret_is_wrong_use_and_none_is_shown() {
        for wrong in ["", "whsec_", "whsec_!!!", "hello", "whsec_AAAA", &"x".repeat(257)] {
            assert!(Key::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(format!("{:?}", key(TEXT)), "Key(…)");
        assert_eq!(format!("{:?}", Given::take(TEXT)), "Ok(Given(…))");
    }

    #[test]
    fn a_secret_is_read_with_its_padding_or_without_it_as_the_daemon_reads_it() {
        let padded = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
        let bare = padded.trim_end_matches('=');
        assert_eq!(key(padded).decoded, key(bare).decoded);
        assert_eq!(key(bare).decoded.map(|bytes| bytes.len()), Some(32));
    }
}
