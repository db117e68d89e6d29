//! `[daemon]` and `[network]`: where the daemon listens and keeps its data, whom it trusts, what deliveries may dial.

use super::nearest;
use super::node::Value;
use super::section::Section;
use crate::secret;
use ipnet::IpNet;
use posthaste_deliverees::Guard;
use posthaste_events::installation::SECRET_BYTES;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

const KIB: u64 = 1 << 10;
const GIB: u64 = 1 << 30;

/// How long a token must be, in bytes.
pub(super) const TOKEN_MIN: usize = 16;
/// How many keys of before there may be.
const PREVIOUS_MAX: usize = 8;
/// How long a name of a tenant may be, in characters.
pub(super) const TENANT_MAX: usize = 256;

/// The daemon itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Daemon {
    /// Where it listens; off loopback only with tokens.
    pub listen: SocketAddr,
    /// Where its data is.
    pub data_dir: PathBuf,
    /// How long a request's body may be, in bytes; 8 MiB by default.
    pub body_max: u64,
    /// Who may do what; with none everybody on this machine may do everything.
    pub tokens: Vec<Token>,
    /// The secret of this installation; `None`: the one in the data directory, made at the first start.
    pub encryption_key: Option<SecretKey>,
    /// Keys that it had before: what they sealed is opened, and sealed again under the one of now. At most 8.
    pub previous_encryption_keys: Vec<SecretKey>,
}

/// A token that callers show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What logs call it; unique.
    pub name: String,
    /// What the caller sends.
    pub token: Secret,
    /// What it may do; one or more.
    pub scopes: Vec<Scope>,
    /// The tenant that it is bound to.
    pub tenant: Option<String>,
}

/// A text that no debug output shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself; never to be shown or logged.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// 32 secret bytes that no debug output shows.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey([u8; SECRET_BYTES]);

impl SecretKey {
    /// The bytes themselves; never to be shown or logged.
    #[must_use]
    pub const fn reveal(&self) -> &[u8; SECRET_BYTES] {
        &self.0
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Record events; the relay too.
    Record,
    /// The relay only.
    Relay,
    /// Look at everything of its tenant.
    Read,
    /// Change subscriptions and deliveries of its tenant.
    Manage,
    /// All of these.
    Admin,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 5] = [Self::Record, Self::Relay, Self::Read, Self::Manage, Self::Admin];

    /// The word for it in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Relay => "relay",
            Self::Read => "read",
            Self::Manage => "manage",
            Self::Admin => "admin",
        }
    }

    /// The scope of that word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == word)
    }

    /// Whether whoever has this one may do what the other allows.
    #[must_use]
    pub fn includes(self, other: Self) -> bool {
        self == other || self == Self::Admin || (self == Self::Record && other == Self::Relay)
    }
}

pub(super) fn read(top: &mut Section<'_, '_>, folder: &Path) -> Daemon {
    let mut section = top.section("daemon");
    let mut listen = SocketAddr::from(([127, 0, 0, 1], 8321));
    if let Some((text, node)) = section.string("listen") {
        match text.parse() {
            Ok(address) => listen = address,
            Err(_) => section.wrong(
                "listen",
                node,
                "is no address with a port",
                "write an address and a port, such as \"127.0.0.1:8321\" or \"[::1]:8321\"",
            ),
        }
    }
    let mut data_dir = "data";
    if let Some((text, node)) = section.string("data_dir") {
        match text {
            "" => {
                section.wrong("data_dir", node, "names no folder", "write a path, seen from the configuration's folder")
            }
            _ => data_dir = text,
        }
    }
    let body_max = section.size("body_max", KIB..=GIB, 8 << 20);
    let encryption_key = read_key(&mut section);
    let previous_encryption_keys = read_previous_keys(&mut section);
    let tokens = read_tokens(&mut section);
    if !listen.ip().to_canonical().is_loopback() && tokens.is_empty() {
        let place = section.place_of("listen");
        let why = format!("= \"{listen}\" is not on loopback, and there are no tokens");
        section.unseen(&place, "listen", why, "add tokens = [{ name, token, scopes }], or listen on 127.0.0.1");
    }
    section.finish();
    Daemon { listen, data_dir: folder.join(data_dir), body_max, tokens, encryption_key, previous_encryption_keys }
}

fn read_key(section: &mut Section<'_, '_>) -> Option<SecretKey> {
    let (text, node) = section.secret("encryption_key")?;
    let key = secret::parse(text).map(SecretKey);
    if key.is_none() {
        let hint = "make one with `openssl rand -base64 32 > key`, for nobody else to read, and write \"file:key\"";
        section.unseen(&node.place, "encryption_key", format!("is not the base64 of {SECRET_BYTES} bytes"), hint);
    }
    key
}

fn read_previous_keys(section: &mut Section<'_, '_>) -> Vec<SecretKey> {
    const KEY: &str = "previous_encryption_keys";
    let Some(node) = section.node(KEY) else { return Vec::new() };
    let hint = "write previous_encryption_keys = [\"file:old.key\"]";
    let Value::Array(nodes) = &node.value else {
        // A key itself may stand here.
        section.unseen(&node.place, KEY, format!("is {}, not an array", node.kind()), hint);
        return Vec::new();
    };
    if nodes.len() > PREVIOUS_MAX {
        section.unseen(
            &node.place,
            KEY,
            format!("has more than {PREVIOUS_MAX} keys"),
            "leave out what seals nothing more",
        );
    }
    let mut keys = Vec::new();
    for (node, at) in nodes.iter().zip(1..) {
        let text = if let Value::String(text) = &node.value { text.as_str() } else { "" };
        match secret::parse(text) {
            Some(key) => keys.push(SecretKey(key)),
            None => {
                let why = format!("entry {at} is not the base64 of {SECRET_BYTES} bytes");
                section.unseen(&node.place, "previous_encryption_keys,", why, hint);
            }
        }
    }
    keys
}

fn read_tokens(section: &mut Section<'_, '_>) -> Vec<Token> {
    let Some(node) = section.node("tokens") else { return Vec::new() };
    let Value::Array(nodes) = &node.value else {
        // A token itself may stand here.
        let why = format!("is {}, not an array", node.kind());
        section.unseen(&node.place, "tokens", why, "write tokens = [{ name, token, scopes }]");
        return Vec::new();
    };
    let mut tokens: Vec<(usize, Token)> = Vec::new();
    for (node, at) in nodes.iter().zip(1..) {
        let place = node.place.clone();
        let scope = format!("[daemon]: tokens, entry {at}");
        let Some(token) = read_token(Section::of(node, &place, scope, section.problems).hushed()) else { continue };
        if let Some((first, other)) = tokens.iter().find(|(_, t)| t.name == token.name || t.token == token.token) {
            let what = if other.name == token.name { "name" } else { "token" };
            let why = format!("entry {at} has the same {what} as entry {first}");
            section.unseen(&place, "tokens,", why, "each name and each token stands once");
            continue;
        }
        tokens.push((at, token));
    }
    tokens.into_iter().map(|(_, token)| token).collect()
}

/// `None` where something is missing or wrong; that was named then.
fn read_token(mut section: Section<'_, '_>) -> Option<Token> {
    let place = section.place.clone();
    let name = section.string("name");
    if let Some((text, node)) = name
        && (text.is_empty() || text.chars().count() > 64)
    {
        section.wrong("name", node, "has not 1 to 64 characters", "name the token after who has it");
    }
    let token = section.secret("token");
    if let Some((text, node)) = token
        && (text.len() < TOKEN_MIN || !text.bytes().all(|b| b.is_ascii_graphic()))
    {
        let why = format!("has not {TOKEN_MIN} or more visible ASCII characters");
        section.unseen(&node.place, "token", why, "make one with `openssl rand -hex 32`");
    }
    for (key, given) in [("name", name.is_some()), ("token", token.is_some()), ("scopes", section.has("scopes"))] {
        if !given && !section.has(key) {
            section.unseen(&place, key, "is missing", "a token has name, token and scopes");
        }
    }
    let scopes = read_scopes(&mut section);
    let tenant = read_tenant(&mut section);
    section.finish();
    Some(Token { name: name?.0.to_owned(), token: Secret(token?.0.to_owned()), scopes, tenant })
}

fn read_scopes(section: &mut Section<'_, '_>) -> Vec<Scope> {
    let known: Vec<&str> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
    let Some(words) = section.strings("scopes") else { return Vec::new() };
    if words.is_empty() {
        let place = section.place_of("scopes");
        section.unseen(&place, "scopes", "is empty", format!("write some of {}", nearest::listed(&known)));
    }
    let mut scopes = Vec::new();
    for ((word, node), at) in words.into_iter().zip(1..) {
        match Scope::parse(word) {
            Some(scope) => scopes.push(scope),
            None => {
                // A token may stand here by mistake; a few letters, fewer than a token has, are none.
                let is_word = word.len() < TOKEN_MIN && word.bytes().all(|b| b.is_ascii_alphabetic());
                let shown = if is_word { format!("{word:?} ") } else { String::new() };
                let why = format!("entry {at} {shown}is an unknown scope");
                section.unseen(&node.place, "scopes,", why, nearest::hint(word, &known));
            }
        }
    }
    scopes
}

/// The key `tenant`: 1 to [`TENANT_MAX`] characters.
pub(super) fn read_tenant(section: &mut Section<'_, '_>) -> Option<String> {
    let (text, node) = section.string("tenant")?;
    if text.is_empty() || text.chars().count() > TENANT_MAX {
        section.wrong("tenant", node, format!("has not 1 to {TENANT_MAX} characters"), "leave it out for no tenant");
        return None;
    }
    Some(text.to_owned())
}

/// What deliveries may dial.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks {
    /// Networks that may be dialled although they are private, loopback or otherwise special.
    pub allow: Vec<IpNet>,
    /// Networks that may not be dialled, whatever else is said.
    pub deny: Vec<IpNet>,
    /// The only ports that may be dialled; empty: any.
    pub ports: Vec<u16>,
}

/// How many networks, and how many ports, may be listed: each is looked at for every connection.
const NETWORKS_MAX: usize = 1_024;

impl Networks {
    /// Who judges every address by this.
    #[must_use]
    pub fn guard(&self) -> Guard {
        Guard::allowing(self.allow.clone()).denying(self.deny.clone()).at_ports(self.ports.clone())
    }
}

pub(super) fn read_networks(top: &mut Section<'_, '_>) -> Networks {
    let mut section = top.section("network");
    let allow = networks(&mut section, "allow_networks");
    let deny = networks(&mut section, "deny_networks");
    let ports = ports(&mut section);
    section.finish();
    Networks { allow, deny, ports }
}

fn networks(section: &mut Section<'_, '_>, key: &'static str) -> Vec<IpNet> {
    let mut networks = Vec::new();
    for (at, (text, node)) in section.strings(key).unwrap_or_default().into_iter().enumerate() {
        let hint = "write an address and its length, such as \"10.0.0.0/8\"";
        match text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)) {
            Ok(_) if at == NETWORKS_MAX => {
                section.wrong(key, node, format!("is one more than {NETWORKS_MAX}"), "write larger networks");
            }
            Ok(network) => networks.push(network.trunc()),
            Err(_) => section.wrong(key, node, "is no network", hint),
        }
    }
    networks
}

fn ports(section: &mut Section<'_, '_>) -> Vec<u16> {
    let mut ports = Vec::new();
    for (at, node) in section.array("ports").unwrap_or_default().iter().enumerate() {
        let written = if let Value::Integer(n) = node.value { u16::try_from(n).ok() } else { None };
        let port = written.filter(|port| *port != 0);
        match port {
            Some(_) if at == NETWORKS_MAX => {
                section.wrong(
                    "ports",
                    node,
                    format!("is one more than {NETWORKS_MAX}"),
                    "leave ports out: then any may be dialled",
                );
            }
            Some(port) => ports.push(port),
            None => section.wrong("ports", node, "is no port", "list numbers from 1 to 65535, such as ports = [443]"),
        }
    }
    ports
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_secret_shows_nothing_in_debug_output() {
        assert_eq!(format!("{:?}", Secret("hunter2".into())), "Secret(…)");
        assert_eq!(format!("{:?}", SecretKey([7; SECRET_BYTES])), "SecretKey(…)");
    }

    #[test]
    fn every_scope_has_one_word() {
        let words: BTreeSet<_> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
        assert_eq!(words.len(), Scope::ALL.len());
    }
}
