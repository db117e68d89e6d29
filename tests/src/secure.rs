//! A well-behaved receiver over TLS, with HTTP/1.1 or HTTP/2 as the daemon chooses by ALPN.
//!
//! One that misbehaves is a [`crate::Receiver`] with TLS, or [`crate::frames`].

use crate::{Reply, Request, held};
use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

/// What a connection was: how many requests came over it, and by which protocol.
#[derive(Debug, Clone, Default)]
pub struct Connection {
    /// What ALPN agreed on; empty where nothing.
    pub protocol: String,
    /// Requests that came over it.
    pub requests: u64,
}

/// A running server; it ends when it is dropped.
pub struct SecureReceiver {
    address: SocketAddr,
    wires: Arc<Mutex<Vec<Connection>>>,
    runtime: Option<tokio::runtime::Runtime>,
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

impl SecureReceiver {
    /// Listens on a free port of loopback. [`Reply::Raw`] has no place here and is answered as 500.
    ///
    /// # Errors
    /// Where there is none.
    pub fn start(tls: Arc<ServerConfig>, handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Result<Self> {
        Self::on(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), tls, handler)
    }

    /// Listens on an address.
    ///
    /// # Errors
    /// Where it is taken.
    pub fn on(
        address: SocketAddr,
        tls: Arc<ServerConfig>,
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        // A private network is of the thread that calls, so the socket is made on it.
        let listener = std::net::TcpListener::bind(address).with_context(|| format!("to listen on {address}"))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let wires: Arc<Mutex<Vec<Connection>>> = Arc::default();
        let (noted, handler) = (Arc::clone(&wires), Arc::new(handler));
        runtime.spawn(async move {
            let Ok(listener) = TcpListener::from_std(listener) else { return };
            let acceptor = TlsAcceptor::from(tls);
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, handler, noted) = (acceptor.clone(), Arc::clone(&handler), Arc::clone(&noted));
                tokio::spawn(serve(stream, acceptor, handler, noted));
            }
        });
        Ok(Self { address, wires, runtime: Some(runtime) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A URL of it, under a name that its certificate has.
    #[must_use]
    pub fn url(&self, host: &str, path: &str) -> String {
        format!("https://{host}:{}{path}", self.address.port())
    }

    /// How many requests arrived whole.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.connections().iter().map(|wire| wire.requests).sum()
    }

    /// Every connection that got through its handshake.
    #[must_use]
    pub fn connections(&self) -> Vec<Connection> {
        held(&self.wires).clone()
    }
}

impl Drop for SecureReceiver {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A handler may sleep on it.
            runtime.shutdown_timeout(Duration::from_millis(100));
        }
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, handler: Arc<Handler>, wires: Arc<Mutex<Vec<Connection>>>) {
    let Ok(reached) = stream.local_addr().map(|a| a.ip().to_canonical()) else { return };
    drop(stream.set_nodelay(true));
    // A client that does not like the certificate ends here.
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let protocol =
        stream.get_ref().1.alpn_protocol().map(|p| String::from_utf8_lossy(p).into_owned()).unwrap_or_default();
    let number = {
        let mut wires = held(&wires);
        wires.push(Connection { protocol: protocol.clone(), requests: 0 });
        wires.len() - 1
    };
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (handler, wires) = (Arc::clone(&handler), Arc::clone(&wires));
        async move {
            if let Some(wire) = held(&wires).get_mut(number) {
                wire.requests += 1;
            }
            let answer = answer(request, reached, handler).await;
            Ok::<_, Infallible>(answer.unwrap_or_else(|_| status(500)))
        }
    });
    let stream = TokioIo::new(stream);
    // A peer that breaks off is no failure of the receiver.
    if protocol == "h2" {
        drop(http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await);
    } else {
        drop(http1::Builder::new().serve_connection(stream, service).await);
    }
}

async fn answer(
    request: hyper::Request<Incoming>,
    reached: IpAddr,
    handler: Arc<Handler>,
) -> Result<hyper::Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut headers: Vec<(String, String)> =
        head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value.as_bytes()))).collect();
    // HTTP/2 says it in a field of its own.
    if let Some(authority) = head.uri.authority() {
        headers.push(("host".to_owned(), authority.to_string()));
    }
    let body = body.collect().await?.to_bytes().to_vec();
    let request = Request { path: head.uri.path().to_owned(), headers, body, reached };
    // A handler may sleep.
    let reply = tokio::task::spawn_blocking(move || handler(&request)).await?;
    Ok(match reply {
        Reply::Status(code) => status(code),
        Reply::Full(code, headers, body) => {
            let mut answer = hyper::Response::builder().status(code);
            for (name, value) in headers {
                answer = answer.header(name, value);
            }
            answer.body(Full::new(body.into()))?
        }
        Reply::Raw(_) => status(500),
    })
}

fn status(code: u16) -> hyper::Response<Full<Bytes>> {
    let mut answer = hyper::Response::new(Full::default());
    *answer.status_mut() = hyper::StatusCode::from_u16(code).unwrap_or_default();
    answer
}
