//! Judges whether a body is one whole JSON text, before anything of it is believed.
//!
//! Stricter than a parser that skips what it does not need: a lone surrogate, a member that stands twice or a 129th
//! level is found wherever it is. What the text says is left to [`super::posted`].

use std::borrow::Cow;

/// How many arrays and objects may lie in one another.
pub(crate) const DEPTH_MAX: usize = 128;
/// Objects with more members have their names sorted instead of compared one by one.
const PAIRWISE_MAX: usize = 8;

/// Why bytes are not one whole JSON text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at byte {at}: {what}")]
pub(crate) struct NotJson {
    /// Where, from 0.
    pub(crate) at: usize,
    /// What is wrong there.
    pub(crate) what: &'static str,
}

/// The bytes as text, where they are one whole JSON text.
///
/// # Errors
/// [`NotJson`] with the first fault: no UTF-8, no JSON, something behind it, a lone surrogate, over [`DEPTH_MAX`]
/// levels, a member's name twice in one object.
pub(crate) fn check(bytes: &[u8]) -> Result<&str, NotJson> {
    let text = std::str::from_utf8(bytes).map_err(|e| NotJson { at: e.valid_up_to(), what: "this is not UTF-8" })?;
    Scan { text, bytes, at: 0, open: Vec::new(), names: Vec::new() }.run()?;
    Ok(text)
}

/// What is open at the moment.
enum Open {
    Array,
    /// Its names begin at this place of [`Scan::names`].
    Object(usize),
}

struct Scan<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    open: Vec<Open>,
    names: Vec<Cow<'a, str>>,
}

impl<'a> Scan<'a> {
    fn run(mut self) -> Result<(), NotJson> {
        loop {
            self.space();
            match self.peek() {
                Some(b'{') => {
                    self.enter(Open::Object(self.names.len()))?;
                    if self.peek() != Some(b'}') {
                        self.name()?;
                        continue;
                    }
                }
                Some(b'[') => {
                    self.enter(Open::Array)?;
                    if self.peek() != Some(b']') {
                        continue;
                    }
                }
                Some(b'"') => drop(self.string()?),
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.word("true")?,
                Some(b'f') => self.word("false")?,
                Some(b'n') => self.word("null")?,
                _ => return self.fail("a value is missing here"),
            }
            if !self.leave()? {
                return Ok(());
            }
        }
    }

    /// Goes behind a value: closes what ends here; true where another value follows.
    fn leave(&mut self) -> Result<bool, NotJson> {
        loop {
            self.space();
            match (self.open.last(), self.peek()) {
                (None, None) => return Ok(false),
                (None, Some(_)) => return self.fail("something stands behind the JSON text"),
                (Some(Open::Array), Some(b',')) => {
                    self.at += 1;
                    return Ok(true);
                }
                (Some(Open::Object(_)), Some(b',')) => {
                    self.at += 1;
                    self.space();
                    self.name()?;
                    return Ok(true);
                }
                (Some(Open::Array), Some(b']')) => {}
                (Some(Open::Object(first)), Some(b'}')) => {
                    let first = *first;
                    if has_twins(&mut self.names[first..]) {
                        return self.fail("a member's name stands twice in this object");
                    }
                    self.names.truncate(first);
                }
                (Some(_), None) => return self.fail("the text ends in the middle"),
                (Some(_), Some(_)) => return self.fail("`,` or the end of the array or object is missing here"),
            }
            self.open.pop();
            self.at += 1;
        }
    }

    fn enter(&mut self, what: Open) -> Result<(), NotJson> {
        if self.open.len() == DEPTH_MAX {
            return self.fail("more than 128 levels lie in one another");
        }
        self.open.push(what);
        self.at += 1;
        self.space();
        Ok(())
    }

    fn name(&mut self) -> Result<(), NotJson> {
        if self.peek() != Some(b'"') {
            return self.fail("a member's name in quotes is missing here");
        }
        let name = self.string()?;
        self.names.push(name);
        self.space();
        self.take(b':', "`:` is missing here")
    }

    /// Reads a string; unescaped where it has escapes, so that names can be compared.
    fn string(&mut self) -> Result<Cow<'a, str>, NotJson> {
        let start = self.at;
        let mut escaped = false;
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(0..=0x1f) => return self.fail("a control character stands in a string"),
                Some(_) => self.at += 1,
                None => return self.fail("the text ends in a string"),
            }
        }
        self.at += 1;
        let (text, at) = (self.text, self.at);
        // The borders are quotes, so these slices are of whole characters.
        if !escaped {
            return Ok(Cow::Borrowed(&text[start + 1..at - 1]));
        }
        serde_json::from_str::<String>(&text[start..at])
            .map(Cow::Owned)
            .map_err(|_| NotJson { at: start, what: "this is not a string" })
    }

    fn escape(&mut self) -> Result<(), NotJson> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => match self.unit()? {
                0xd800..=0xdbff => {
                    self.take(b'\\', "a lone surrogate")?;
                    if self.peek() != Some(b'u') || !matches!(self.unit()?, 0xdc00..=0xdfff) {
                        return self.fail("a lone surrogate");
                    }
                }
                0xdc00..=0xdfff => return self.fail("a lone surrogate"),
                _ => {}
            },
            _ => return self.fail("no such escape"),
        }
        Ok(())
    }

    /// Reads `uXXXX`.
    fn unit(&mut self) -> Result<u16, NotJson> {
        let digits = self.bytes.get(self.at + 1..self.at + 5).unwrap_or_default();
        let unit = digits.iter().try_fold(0_u32, |sum, b| Some(sum << 4 | char::from(*b).to_digit(16)?));
        match unit.and_then(|u| u16::try_from(u).ok()) {
            Some(unit) if digits.len() == 4 => {
                self.at += 5;
                Ok(unit)
            }
            _ => self.fail("four hexadecimal digits are missing here"),
        }
    }

    fn number(&mut self) -> Result<(), NotJson> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), NotJson> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start { self.fail("a digit is missing here") } else { Ok(()) }
    }

    fn word(&mut self, word: &str) -> Result<(), NotJson> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return self.fail("a value is missing here");
        }
        self.at += word.len();
        Ok(())
    }

    fn take(&mut self, byte: u8, what: &'static str) -> Result<(), NotJson> {
        if self.peek() != Some(byte) {
            return self.fail(what);
        }
        self.at += 1;
        Ok(())
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn fail<T>(&self, what: &'static str) -> Result<T, NotJson> {
        Err(NotJson { at: self.at, what })
    }
}

fn has_twins(names: &mut [Cow<'_, str>]) -> bool {
    if names.len() <= PAIRWISE_MAX {
        return (1..names.len()).any(|i| names[..i].contains(&names[i]));
    }
    names.sort_unstable();
    names.windows(2).any(|pair| pair[0] == pair[1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    #[test]
    fn whole_json_texts_are_taken() {
        let deep = format!("{}{}", "[".repeat(128), "]".repeat(128));
        for text in [
            "{}",
            " [ ] ",
            "\"\\ud83d\\ude00 \\/\"",
            "-0.5e+3",
            "0",
            "1E9",
            "[1,{\"a\":null,\"b\":[true,false]}]\n",
            "1e999",
            &deep,
            r#"{"a":{"a":1},"b":{"a":2}}"#,
        ] {
            assert!(check(text.as_bytes()).is_ok(), "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let deep = format!("{}{}", "[".repeat(129), "]".repeat(129));
        let many = format!("{{{}\"k3\":0}}", (0..20).map(|n| format!("\"k{n}\":0,")).collect::<String>());
        let cases: [&[u8]; 29] = [
            b"",
            b" ",
            b"{",
            b"{} {}",
            b"\xff",
            b"\"\\ud800\"",
            b"\"\\ud800x\"",
            b"\"\\ud800\\n\"",
            b"\"\\udc00\"",
            b"\"\\ud800\\ud800\"",
            b"nul",
            b"{\"a\":1,}",
            b"[1,]",
            b"[1 2]",
            b"{\"a\" 1}",
            b"{a:1}",
            b"01",
            b"-",
            b"1.",
            b"1e",
            b"+1",
            b".5",
            b"NaN",
            b"\"\n\"",
            b"'a'",
            b"\"\\u12g4\"",
            b"\xef\xbb\xbf{}",
            br#"{"a":1,"\u0061":2}"#,
            many.as_bytes(),
        ];
        for bytes in cases.into_iter().chain([deep.as_bytes()]) {
            assert!(check(bytes).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..12)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_taken_a_parser_reads_and_the_other_way_round(value in json(), cut in any::<prop::sample::Index>(), byte: u8) {
            let text = serde_json::to_string_pretty(&value).unwrap();
            prop_assert!(check(text.as_bytes()).is_ok());
            let mut bytes = text.into_bytes();
            let at = cut.index(bytes.len());
            bytes[at] = byte;
            // Numbers beyond f64 and names that now stand twice are where the two rightly differ.
            match (check(&bytes), serde_json::from_slice::<Value>(&bytes)) {
                (Err(e), Ok(_)) => prop_assert!(e.what.contains("twice"), "{} {e}", String::from_utf8_lossy(&bytes)),
                (Ok(_), Err(e)) => prop_assert!(e.to_string().contains("out of range"), "{e}"),
                _ => {}
            }
        }

        #[test]
        fn any_bytes_are_judged_without_a_panic(bytes: Vec<u8>, text in "[\\[\\]{}\",:0-9eE.u\\\\dDcC+ -]{0,40}") {
            let _ = check(&bytes);
            prop_assert!(check(text.as_bytes()).is_ok() <= serde_json::from_str::<Value>(&text).map_or_else(|e| e.to_string().contains("out of range"), |_| true));
        }
    }
}
