//! A small HTTP client for the commands: one connection a request, each step bounded in time, answers in length.
//!
//! It dials what its own user named, so no guard stands in its way, and it follows no redirect.

use super::output::plain;
use super::{Daemon, Failure};
use bytes::{Buf as _, Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use serde_json::Value;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

/// How long a connection may take.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// How long an answer may take, its body included.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// How long an answer may be: a thousand events of 256 KiB, and a little.
const ANSWER_BYTES_MAX: usize = 300 * 1024 * 1024;
/// How long a line of a stream may be.
const LINE_MAX: usize = 1024 * 1024;

/// A client of one daemon.
pub(super) struct Client {
    base: Url,
    authorization: Option<HeaderValue>,
}

impl Client {
    pub(super) fn new(daemon: &Daemon) -> Result<Self, Failure> {
        let env = super::environment();
        let url = daemon.url(&env);
        let wrong = |why: &str| Failure::Usage(format!("--url {}: {why}", plain(&url)));
        let base = Url::parse(&url).map_err(|e| wrong(&e.to_string()))?;
        if !matches!(base.scheme(), "http" | "https") || base.host().is_none() {
            return Err(wrong("write an absolute http or https URL, such as http://127.0.0.1:8321"));
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err(Failure::Usage("--url: a user or password is not taken; use --token".to_owned()));
        }
        let authorization = match daemon.token(&env) {
            None => None,
            Some(token) => {
                let mut value = HeaderValue::try_from(format!("Bearer {token}"))
                    .map_err(|_| Failure::Usage("--token: it has characters that no header takes".to_owned()))?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        Ok(Self { base, authorization })
    }

    /// The daemon's URL as messages name it.
    pub(super) fn shown(&self) -> String {
        plain(self.base.as_str().trim_end_matches('/'))
    }

    /// An answer that no daemon of ours gives.
    pub(super) fn strange(&self, what: &str) -> Failure {
        Failure::Failed(format!("{}: {what}; is this a Posthaste daemon?", self.shown()))
    }

    /// Gets a JSON answer; `path` are the segments, to be escaped here.
    pub(super) async fn get(&self, path: &[&str], query: &[(&str, String)]) -> Result<Value, Failure> {
        self.ask(Method::GET, path, query, Bytes::new(), None).await
    }

    /// Posts JSON and gets a JSON answer.
    pub(super) async fn post(&self, path: &[&str], body: Vec<u8>) -> Result<Value, Failure> {
        self.ask(Method::POST, path, &[], body.into(), None).await
    }

    /// Sends JSON, or nothing, by this method and gets a JSON answer, or nothing.
    pub(super) async fn send_as(&self, method: Method, path: &[&str], body: Vec<u8>) -> Result<Value, Failure> {
        self.ask(method, path, &[], body.into(), None).await
    }

    /// Posts JSON that is taken once, however often it comes under the same key.
    pub(super) async fn post_once(&self, path: &[&str], body: Vec<u8>, key: Option<&str>) -> Result<Value, Failure> {
        let wrong = |_| Failure::Usage("--idempotency-key: it has characters that no header takes".to_owned());
        let key = key.map(HeaderValue::from_str).transpose().map_err(wrong)?;
        self.ask(Method::POST, path, &[], body.into(), key).await
    }

    /// Opens a stream of lines.
    pub(super) async fn stream(&self, path: &[&str]) -> Result<Lines, Failure> {
        let response =
            self.late(timeout(ANSWER_MAX, self.send(Method::GET, path, &[], Bytes::new(), None)).await)??;
        if !response.status().is_success() {
            return Err(self
                .late(timeout(ANSWER_MAX, self.read(response)).await)?
                .err()
                .unwrap_or_else(|| self.strange("no stream")));
        }
        Ok(Lines { body: response.into_body(), read: BytesMut::new(), url: self.shown() })
    }

    async fn ask(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: Bytes,
        key: Option<HeaderValue>,
    ) -> Result<Value, Failure> {
        let exchange = async { self.read(self.send(method, path, query, body, key).await?).await };
        self.late(timeout(ANSWER_MAX, exchange).await)?
    }

    fn late<T>(&self, done: Result<T, tokio::time::error::Elapsed>) -> Result<T, Failure> {
        done.map_err(|_| Failure::Failed(format!("{} did not answer within {} s", self.shown(), ANSWER_MAX.as_secs())))
    }

    async fn send(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: Bytes,
        key: Option<HeaderValue>,
    ) -> Result<Response<Incoming>, Failure> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url.set_query(None);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
        let host = &url[url::Position::BeforeHost..url::Position::AfterPort];
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header(HOST, host)
            .header(USER_AGENT, concat!("posthaste-cli/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, "application/json, application/x-ndjson");
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        if let Some(token) = &self.authorization {
            request = request.header(AUTHORIZATION, token);
        }
        let request = request.body(Full::new(body)).map_err(|e| Failure::Usage(e.to_string()))?;
        let mut sender = self.connect().await?;
        sender.send_request(request).await.map_err(|e| self.unreachable(&e))
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Failure> {
        let port = self.base.port_or_known_default().unwrap_or(80);
        let stream = async {
            match self.base.host() {
                Some(Host::Domain(name)) => TcpStream::connect((name, port)).await,
                Some(Host::Ipv4(v4)) => TcpStream::connect((v4, port)).await,
                Some(Host::Ipv6(v6)) => TcpStream::connect((v6, port)).await,
                None => Err(std::io::Error::other("the URL has no host")),
            }
        };
        let connect = async {
            let stream = stream.await?;
            stream.set_nodelay(true)?;
            match self.base.scheme() {
                "https" => self.shake_hands(tls(&self.base, stream).await?).await,
                _ => self.shake_hands(stream).await,
            }
        };
        match timeout(CONNECT_MAX, connect).await {
            Ok(done) => done.map_err(|e: Box<dyn Error + Send + Sync>| self.unreachable(&*e)),
            Err(_) => Err(self.unreachable(&std::io::Error::other("no connection in time"))),
        }
    }

    async fn shake_hands<S>(&self, stream: S) -> Result<SendRequest<Full<Bytes>>, Box<dyn Error + Send + Sync>>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the exchange; what goes wrong in it is told by the request.
        tokio::spawn(connection);
        Ok(sender)
    }

    fn unreachable(&self, error: &(dyn Error + 'static)) -> Failure {
        let mut why = error.to_string();
        let mut cause = error.source();
        while let Some(deeper) = cause {
            why.push_str(": ");
            why.push_str(&deeper.to_string());
            cause = deeper.source();
        }
        Failure::Failed(format!("{} cannot be reached: {}; is the daemon running?", self.shown(), plain(&why)))
    }

    async fn read(&self, response: Response<Incoming>) -> Result<Value, Failure> {
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|e| self.strange(&format!("the answer broke off: {e}")))?.to_bytes();
        let said: Option<Value> = serde_json::from_slice(&body).ok();
        match (status, said) {
            (StatusCode::NO_CONTENT, _) => Ok(Value::Null),
            (status, Some(said)) if status.is_success() => Ok(said),
            (status, None) if status.is_success() => Err(self.strange("an answer that is not JSON")),
            (status, said) => Err(Failure::Failed(self.refusal(status, said.as_ref()))),
        }
    }

    /// What a daemon said of what it refused, on one line for each thing.
    fn refusal(&self, status: StatusCode, said: Option<&Value>) -> String {
        let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(plain);
        let title = said.and_then(|s| text(s, "title"));
        let mut told = format!("{} answered {status}", self.shown());
        if let Some(title) = title.filter(|t| Some(t.as_str()) != status.canonical_reason()) {
            told.push_str(&format!(": {title}"));
        }
        let errors = said.and_then(|s| s.get("errors")).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        // A single field's error is often the detail itself, and stands once then.
        let repeated = |detail: &String| errors.iter().any(|e| text(e, "detail").as_ref() == Some(detail));
        if let Some(detail) = said.and_then(|s| text(s, "detail")).filter(|d| !repeated(d)) {
            told.push_str(&format!(": {detail}"));
        }
        for error in errors {
            let at = text(error, "pointer").unwrap_or_default();
            let detail = text(error, "detail").unwrap_or_default();
            told.push_str(&format!("\n  {at}: {detail}"));
        }
        if status == StatusCode::UNAUTHORIZED {
            told.push_str("\n  give a token with --token or POSTHASTE_TOKEN");
        }
        told
    }
}

async fn tls(
    url: &Url,
    stream: TcpStream,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Box<dyn Error + Send + Sync>> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // An IPv6 host stands between brackets in a URL, and without them in a certificate.
    let name = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    Ok(TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(name)?, stream).await?)
}

/// The lines of a streamed answer.
pub(super) struct Lines {
    body: Incoming,
    read: BytesMut,
    url: String,
}

impl Lines {
    /// The next line, without its end; waits for it as long as it takes. `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<String>, Failure> {
        let mut seen = 0;
        loop {
            if let Some(end) = self.read[seen..].iter().position(|b| *b == b'\n') {
                let line = self.read.split_to(seen + end);
                self.read.advance(1);
                return Ok(Some(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned()));
            }
            seen = self.read.len();
            if seen > LINE_MAX {
                return Err(Failure::Failed(format!("{}: a line is longer than {LINE_MAX} bytes", self.url)));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => self.read.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new())),
                Some(Err(error)) => {
                    return Err(Failure::Failed(format!("{}: the stream broke off: {error}", self.url)));
                }
            }
        }
    }
}
