//! Writes a `config.toml` for a test: quick retries, loopback allowed, everything else as it ships.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The secret of every webhook that a test subscribes.
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=";

/// A config in the making.
#[derive(Debug, Clone)]
pub struct Config {
    sections: BTreeMap<String, BTreeMap<String, Value>>,
    subscriptions: Vec<Subscription>,
}

impl Default for Config {
    fn default() -> Self {
        let empty = Self { sections: BTreeMap::new(), subscriptions: Vec::new() };
        empty
            .set("retry", "initial", "100ms")
            .set("retry", "max", "400ms")
            .set("retry", "give_up_after", "10m")
            .set("catalogue", "files", json!([]))
            .set("catalogue", "undeclared", "accept")
            .set("network", "allow_networks", json!(["127.0.0.0/8"]))
    }
}

impl Config {
    /// Sets a key of a section; the last one counts.
    #[must_use]
    pub fn set(mut self, section: &str, key: &str, value: impl Into<Value>) -> Self {
        self.sections.entry(section.to_owned()).or_default().insert(key.to_owned(), value.into());
        self
    }

    /// Adds a subscription.
    #[must_use]
    pub fn subscribe(mut self, subscription: Subscription) -> Self {
        self.subscriptions.push(subscription);
        self
    }

    /// The text of the file.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        for (name, keys) in &self.sections {
            let _ = writeln!(text, "[{name}]\n{}", lines(keys));
        }
        for subscription in &self.subscriptions {
            let _ = writeln!(text, "{}", Self::piece(subscription));
        }
        text
    }

    /// The text of one subscription, as it can be added to any config.
    #[must_use]
    pub fn piece(subscription: &Subscription) -> String {
        format!("[[subscription]]\n{}", lines(&subscription.keys))
    }
}

/// One `[[subscription]]`.
#[derive(Debug, Clone)]
pub struct Subscription {
    keys: BTreeMap<String, Value>,
}

impl Subscription {
    /// A webhook with [`SECRET`] that never rests: its circuit is off.
    #[must_use]
    pub fn webhook(name: &str, url: &str) -> Self {
        Self::of("webhook", name)
            .set("url", url)
            .set("secrets", json!([SECRET]))
            .set("timeout", "2s")
            .set("circuit", false)
    }

    /// One of a kind, with nothing but its name.
    #[must_use]
    pub fn of(deliveree: &str, name: &str) -> Self {
        Self { keys: BTreeMap::new() }.set("name", name).set("deliveree", deliveree)
    }

    /// Takes a key out again.
    #[must_use]
    pub fn without(mut self, key: &str) -> Self {
        self.keys.remove(key);
        self
    }

    /// Sets a key; the last one counts.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.keys.insert(key.to_owned(), value.into());
        self
    }
}

fn lines(keys: &BTreeMap<String, Value>) -> String {
    keys.iter().fold(String::new(), |mut text, (key, value)| {
        let _ = writeln!(text, "{key} = {}", toml(value));
        text
    })
}

/// A JSON value as a TOML value. A JSON string is a TOML basic string, so only tables differ.
fn toml(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let inner: Vec<String> =
                fields.iter().map(|(k, v)| format!("{} = {}", Value::from(k.as_str()), toml(v))).collect();
            format!("{{ {} }}", inner.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", ")),
        plain => plain.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Config, Subscription};
    use serde_json::json;

    #[test]
    fn what_is_written_is_toml_with_the_same_values() {
        let hook = Subscription::webhook("a", "http://x/\"y\"").set("retry", json!({ "attempts": 2, "max": "1s" }));
        let text = Config::default().set("outbox", "free_min", "1MiB").subscribe(hook).to_toml();
        let read: toml_edit::DocumentMut = text.parse().unwrap();
        assert_eq!(read["outbox"]["free_min"].as_str(), Some("1MiB"));
        let subscriptions = read["subscription"].as_array_of_tables().unwrap();
        let first = subscriptions.get(0).unwrap();
        assert_eq!(first["url"].as_str(), Some("http://x/\"y\""));
        assert_eq!(first["retry"]["attempts"].as_integer(), Some(2));
        assert_eq!(first["circuit"].as_bool(), Some(false));
    }
}
