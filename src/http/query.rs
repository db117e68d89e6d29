//! Reads query strings: every parameter known, said once, and of the right form; all faults at once.

use super::problem::{Fault, Problem};
use posthaste_events::Timestamp;
use std::str::FromStr;

/// How many rows a page has where nothing is said.
pub(crate) const LIMIT_DEFAULT: usize = 100;
/// How many rows a page has at most; who asks for more gets so many.
pub(crate) const LIMIT_MAX: usize = 1_000;

/// What `after` is, as its faults say.
pub(crate) const AFTER: &str = "the `next` of an earlier page";

/// The parameters of a request, taken out one by one; [`Query::finish`] tells the faults.
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
    faults: Vec<Fault>,
}

impl Query {
    /// Reads a query string, percent-decoded.
    pub(crate) fn read(text: &str) -> Self {
        let pairs = url::form_urlencoded::parse(text.as_bytes()).map(|(n, v)| (n.into_owned(), v.into_owned()));
        Self { pairs: pairs.collect(), faults: Vec::new() }
    }

    /// Refuses every parameter: for what takes none.
    pub(crate) fn none(text: &str) -> Result<(), Problem> {
        if text.is_empty() { Ok(()) } else { Self::read(text).finish() }
    }

    /// The text of a parameter.
    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        let mut found = None;
        self.pairs.retain_mut(|(n, value)| {
            if n != name {
                return true;
            }
            if found.replace(std::mem::take(value)).is_some() {
                self.faults.push(Fault::parameter(name, "this parameter is said twice"));
            }
            false
        });
        found
    }

    /// A parameter that `read` understands; `wanted` says how it looks.
    pub(crate) fn with<T>(&mut self, name: &str, wanted: &str, read: impl Fn(&str) -> Option<T>) -> Option<T> {
        let text = self.text(name)?;
        let value = read(&text);
        if value.is_none() {
            self.faults.push(Fault::parameter(name, format!("this is {wanted}")));
        }
        value
    }

    /// A point of time.
    pub(crate) fn time(&mut self, name: &str) -> Option<Timestamp> {
        self.with(name, "a time as RFC 3339 writes it, such as 2026-01-31T12:00:00Z", |t| Timestamp::parse(t).ok())
    }

    /// `after`: the `next` of another page.
    pub(crate) fn after<T: FromStr>(&mut self) -> Option<T> {
        self.with("after", AFTER, |t| t.parse().ok())
    }

    /// `reveal`: whether `what`, which is masked else, is to be shown.
    pub(crate) fn reveal(&mut self, what: &str) -> bool {
        self.with("reveal", &format!("\"{what}\", or left out"), |text| (text == what).then_some(())).is_some()
    }

    /// `limit`: 1 to [`LIMIT_MAX`], more is taken as that many; [`LIMIT_DEFAULT`] when absent.
    pub(crate) fn limit(&mut self) -> usize {
        let read = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            // What overflows is more than the bound, too.
            digits.then(|| text.parse().unwrap_or(usize::MAX)).filter(|n| *n > 0)
        };
        let limit = self.with("limit", "a number from 1 to 1000", read);
        limit.map_or(LIMIT_DEFAULT, |n| n.min(LIMIT_MAX))
    }

    /// # Errors
    /// 422 with every fault; a parameter that nobody took out is one.
    pub(crate) fn finish(mut self) -> Result<(), Problem> {
        self.faults
            .extend(self.pairs.iter().map(|(name, _)| Fault::parameter(name, "there is no such parameter here")));
        if self.faults.is_empty() { Ok(()) } else { Err(Problem::wrong(self.faults)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_limit_is_bounded_and_a_wrong_one_refused() {
        let limit = |text: &str| {
            let mut query = Query::read(text);
            let limit = query.limit();
            query.finish().map(|()| limit).ok()
        };
        assert_eq!(limit(""), Some(100));
        assert_eq!((limit("limit=1"), limit("limit=1000")), (Some(1), Some(1_000)));
        assert_eq!((limit("limit=1001"), limit("limit=99999999999999999999999")), (Some(1_000), Some(1_000)));
        for wrong in
            ["limit=0", "limit=", "limit=-1", "limit=ten", "limit=1.5", "limit=+5", "limit=5&limit=5", "limit=%ff"]
        {
            assert_eq!(limit(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn unknown_parameters_are_refused_by_name() {
        assert!(Query::none("").is_ok());
        let refused = Query::none("limt=5&x=1").unwrap_err().to_string();
        assert!(refused.contains("2 fields"), "{refused}");
    }

    proptest! {
        #[test]
        fn any_query_is_read_without_a_panic(text in ".*") {
            let mut query = Query::read(&text);
            query.limit();
            query.time("since");
            let _ = query.finish();
        }
    }
}
