//! An HTTP server on loopback that answers as a test wants: well, late, wrongly, or with bytes that are no HTTP.
//!
//! One thread a connection: a daemon opens only as many as its subscriptions allow.

use crate::held;
use anyhow::{Context, Result};
use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its path, without the query.
    pub path: String,
    /// The header lines, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
    /// The address of ours that the connection was made to.
    pub reached: IpAddr,
}

impl Request {
    /// The value of a header, empty where there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v.as_str())
    }
}

/// What to answer.
pub enum Reply {
    /// A status without a body.
    Status(u16),
    /// A status, header lines and a body of a right length.
    Full(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// Writes what it likes; the connection is closed afterwards.
    Raw(Behaviour),
}

/// Writes what it likes to a connection.
pub type Behaviour = Box<dyn FnOnce(&mut dyn Wire) + Send>;

/// A connection as what misbehaves needs it: bytes, and the socket below them.
pub trait Wire: Read + Write {
    /// The socket; with TLS its bytes are encrypted.
    fn socket(&self) -> &TcpStream;

    /// Says that nothing more will be written, and goes on reading.
    fn finish(&mut self);
}

impl Wire for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }

    fn finish(&mut self) {
        drop(self.shutdown(Shutdown::Write));
    }
}

/// TLS over a socket, on the server's side.
pub type Tls = StreamOwned<ServerConnection, TcpStream>;

impl Wire for Tls {
    fn socket(&self) -> &TcpStream {
        &self.sock
    }

    fn finish(&mut self) {
        self.conn.send_close_notify();
        // A peer that is gone needs to hear nothing.
        drop(self.flush());
        drop(self.sock.shutdown(Shutdown::Write));
    }
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

/// How many connections one that never answers holds open; the oldest, whose peers gave up long ago, are let go.
const SILENT_MAX: usize = 4_096;

/// Takes connections on a free port of loopback and never answers; ends with its process.
///
/// # Errors
/// Where there is no port.
pub fn silent() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        // Kept, so that nobody sees them end.
        let mut open = VecDeque::new();
        for stream in listener.incoming().flatten() {
            open.push_back(stream);
            if open.len() > SILENT_MAX {
                open.pop_front();
            }
        }
    });
    Ok(address)
}

/// A running server; it ends when it is dropped.
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    handler: Box<Handler>,
    closing: AtomicBool,
    requests: AtomicU64,
    /// By number, so that closing can break connections that wait for a next request. Each is taken out when it ends:
    /// a copy that stays would keep the socket open.
    open: Mutex<BTreeMap<u64, TcpStream>>,
}

impl Receiver {
    /// Listens on a free port of loopback.
    ///
    /// # Errors
    /// Where there is none.
    pub fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Result<Self> {
        Self::on(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), handler)
    }

    /// Listens on an address, for example one where nobody listened so far.
    ///
    /// # Errors
    /// Where it is taken.
    pub fn on(address: SocketAddr, handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Result<Self> {
        Self::with(address, None, handler)
    }

    /// Listens on a free port of loopback and speaks HTTP/1.1 over TLS.
    ///
    /// # Errors
    /// Where there is none.
    pub fn secure(tls: Arc<ServerConfig>, handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Result<Self> {
        Self::with(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), Some(tls), handler)
    }

    fn with(
        address: SocketAddr,
        tls: Option<Arc<ServerConfig>>,
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = TcpListener::bind(address).with_context(|| format!("to listen on {address}"))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            handler: Box::new(handler),
            closing: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            open: Mutex::new(BTreeMap::new()),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for (number, stream) in (0..).zip(listener.incoming()) {
                if accepting.closing.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                if let Ok(copy) = stream.try_clone() {
                    held(&accepting.open).insert(number, copy);
                }
                let (shared, tls) = (Arc::clone(&accepting), tls.clone());
                thread::spawn(move || {
                    // A peer that breaks off is no failure of the receiver.
                    drop(match tls {
                        None => shared.serve(&mut BufReader::with_capacity(64 * 1024, stream)),
                        Some(tls) => shared.serve_tls(tls, stream),
                    });
                    drop(held(&shared.open).remove(&number));
                });
            }
        });
        Ok(Self { address, shared })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A URL of it.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// How many requests arrived whole.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        // Wakes `accept`.
        drop(TcpStream::connect_timeout(&self.address, Duration::from_millis(200)));
        for stream in held(&self.shared.open).values() {
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

impl Shared {
    fn serve_tls(&self, tls: Arc<ServerConfig>, stream: TcpStream) -> Result<()> {
        self.serve(&mut BufReader::with_capacity(64 * 1024, StreamOwned::new(ServerConnection::new(tls)?, stream)))
    }

    fn serve<W: Wire>(&self, wire: &mut BufReader<W>) -> Result<()> {
        wire.get_ref().socket().set_nodelay(true)?;
        let reached = wire.get_ref().socket().local_addr()?.ip().to_canonical();
        while !self.closing.load(Ordering::SeqCst) {
            let Some(request) = read_request(wire, reached)? else { return Ok(()) };
            self.requests.fetch_add(1, Ordering::SeqCst);
            match (self.handler)(&request) {
                Reply::Status(status) => write(wire.get_mut(), status, &[], b"")?,
                Reply::Full(status, headers, body) => write(wire.get_mut(), status, &headers, &body)?,
                Reply::Raw(behaviour) => {
                    behaviour(wire.get_mut());
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

fn write(stream: &mut dyn Wire, status: u16, headers: &[(&'static str, String)], body: &[u8]) -> Result<()> {
    let mut head = format!("HTTP/1.1 {status} As-Wanted\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if status != 204 {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body);
    Ok(stream.write_all(&bytes)?)
}

fn read_request(wire: &mut impl BufRead, reached: IpAddr) -> Result<Option<Request>> {
    let mut line = String::new();
    if wire.take(64 * 1024).read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let target = line.split(' ').nth(1).context("no target")?;
    let path = target.split('?').next().unwrap_or_default().to_owned();
    let (mut headers, mut length) = (Vec::new(), 0_u64);
    loop {
        line.clear();
        wire.take(64 * 1024).read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse()?;
        }
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut body = Vec::new();
    let read = wire.take(length).read_to_end(&mut body)?;
    anyhow::ensure!(read as u64 == length, "the body broke off");
    Ok(Some(Request { path, headers, body, reached }))
}
