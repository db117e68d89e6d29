//! Receivers over TLS: an authority of a test's own, what it certifies, and HTTP/2 by hyper or frame by frame.

use crate::receiver::{Receiver, Seen};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::server::TlsStream;

/// Somebody who certifies, and whom nobody trusts by default.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        Self::named("An authority of a test")
    }

    pub(crate) fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// Certifies 127.0.0.1 and `receiver.test`, as `change` has it.
    pub(crate) fn certify(&self, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let (key, mut params) = (KeyPair::generate().unwrap(), params());
        change(&mut params);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Identity { chain: vec![certificate.der().clone()], key: key.serialize_der() }
    }
}

fn params() -> CertificateParams {
    CertificateParams::new(vec!["127.0.0.1".to_owned(), "receiver.test".to_owned()]).unwrap()
}

/// A certificate and its key.
pub(crate) struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

impl Identity {
    pub(crate) fn self_signed(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let (key, mut params) = (KeyPair::generate().unwrap(), params());
        change(&mut params);
        let certificate = params.self_signed(&key).unwrap();
        Self { chain: vec![certificate.der().clone()], key: key.serialize_der() }
    }

    pub(crate) fn acceptor(&self, protocols: &[&str]) -> TlsAcceptor {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), key)
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// A receiver's connection over TLS.
pub(crate) type Secured = TlsStream<TcpStream>;

/// Hands each connection that got through its handshake to `serve`.
pub(crate) async fn secured<F>(
    acceptor: TlsAcceptor,
    serve: impl Fn(Secured, Arc<Seen>) -> F + Clone + Send + Sync + 'static,
) -> Receiver
where
    F: Future<Output = ()> + Send + 'static,
{
    Receiver::at("127.0.0.1", move |stream, seen| {
        let (acceptor, serve) = (acceptor.clone(), serve.clone());
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                serve(stream, seen).await;
            }
        }
    })
    .await
}

/// An answer of a well-behaved HTTP/2 receiver.
pub(crate) type Answer = hyper::Response<BoxBody<Bytes, Infallible>>;

/// 200 with a body.
pub(crate) fn ok(body: &'static str) -> Answer {
    hyper::Response::new(Full::new(Bytes::from_static(body.as_bytes())).boxed())
}

/// A well-behaved HTTP/2 receiver; `answer` is told the number of the request, from 0.
pub(crate) async fn speaking_http_2(
    authority: &Authority,
    answer: impl Fn(usize, hyper::Request<Bytes>) -> BoxFuture<'static, Answer> + Clone + Send + Sync + 'static,
) -> Receiver {
    let count = Arc::new(AtomicUsize::new(0));
    secured(authority.certify(|_| {}).acceptor(&["h2", "http/1.1"]), move |stream, _| {
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (answer, count) = (answer.clone(), Arc::clone(&count));
        serve_http_2(stream, move |request| answer(count.fetch_add(1, Ordering::SeqCst), request))
    })
    .await
}

/// Answers whatever comes on a connection over HTTP/2.
pub(crate) async fn serve_http_2(
    stream: Secured,
    answer: impl Fn(hyper::Request<Bytes>) -> BoxFuture<'static, Answer> + Clone + Send + Sync + 'static,
) {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let answer = answer.clone();
        async move {
            let (head, body) = request.into_parts();
            let Ok(body) = body.collect().await else { return Ok(ok("")) };
            Ok::<_, Infallible>(answer(hyper::Request::from_parts(head, body.to_bytes())).await)
        }
    });
    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

/// Frame types and flags of RFC 9113 section 6.
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// `:status: 200` as HPACK's static table has it (RFC 7541 appendix A).
pub(crate) const STATUS_200: &[u8] = &[0x88];

/// A header without any table: a literal, never indexed.
pub(crate) fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut block = vec![0x10];
    for text in [name, value] {
        assert!(text.len() < 127);
        block.push(u8::try_from(text.len()).unwrap());
        block.extend_from_slice(text.as_bytes());
    }
    block
}

/// A frame's bytes, whatever sense they make.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// Reads the preface, says `settings`, and waits for a request to end; answers its stream. Settings are acknowledged.
pub(crate) async fn read_stream(wire: &mut Secured, settings: &[u8]) -> Option<u32> {
    let mut preface = [0; 24];
    wire.read_exact(&mut preface).await.ok()?;
    assert_eq!(&preface[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    wire.write_all(&frame(SETTINGS, 0, 0, settings)).await.ok()?;
    loop {
        let mut head = [0; 9];
        wire.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        wire.read_exact(&mut payload).await.ok()?;
        let (kind, flags) = (head[3], head[4]);
        if kind == SETTINGS && flags & END_STREAM == 0 {
            wire.write_all(&frame(SETTINGS, END_STREAM, 0, &[])).await.ok()?;
        }
        if (kind == DATA || kind == HEADERS) && flags & END_STREAM != 0 {
            return Some(u32::from_be_bytes([head[5], head[6], head[7], head[8]]));
        }
    }
}
