//! A receiver that writes HTTP/2 frame by frame, so that a test can break any rule of it.
//!
//! It understands as little as it must: it waits for the preface and for the end of a request, and does not read headers. Each connection
//! is a thread, over TLS with `h2` by ALPN.

use crate::held;
use crate::receiver::Tls;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Frame types of RFC 9113, section 6.
pub const DATA: u8 = 0;
/// Opens a stream, or ends its head.
pub const HEADERS: u8 = 1;
/// Ends a stream at once.
pub const RST_STREAM: u8 = 3;
/// What one side allows the other.
pub const SETTINGS: u8 = 4;
/// Asks for a sign of life.
pub const PING: u8 = 6;
/// Ends a connection.
pub const GOAWAY: u8 = 7;
/// Allows more bytes.
pub const WINDOW_UPDATE: u8 = 8;
/// More of a head.
pub const CONTINUATION: u8 = 9;
/// The flag that ends a stream; of settings and pings, that they are an answer.
pub const END_STREAM: u8 = 1;
/// The flag that ends a head.
pub const END_HEADERS: u8 = 4;
/// The flag that says that there is padding.
pub const PADDED: u8 = 8;

/// `:status: 200` as HPACK's static table has it (RFC 7541, appendix A).
pub const STATUS_200: &[u8] = &[0x88];

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Longest frame that a client may send us.
const FRAME_MAX: usize = 16 * 1024;

/// A header as HPACK writes it without any table: a literal, never indexed.
#[must_use]
pub fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut block = vec![0x10];
    for text in [name, value] {
        // Both are shorter than 127 in what uses this.
        block.push(u8::try_from(text.len().min(126)).unwrap_or(126));
        block.extend_from_slice(&text.as_bytes()[..text.len().min(126)]);
    }
    block
}

/// A frame's bytes, whatever sense they make.
#[must_use]
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// What to do once a request is there whole.
pub enum Frames {
    /// Answers with a status of 200, without a body.
    Good,
    /// Writes what it likes, told the stream; the connection is closed afterwards.
    Raw(Malice),
}

/// Writes what it likes to the wire, told the stream.
pub type Malice = Box<dyn FnOnce(&mut Tls, u32) + Send>;

type Handler = dyn Fn(&[u8]) -> Frames + Send + Sync;

/// A running server; it ends when it is dropped.
pub struct FramesReceiver {
    address: SocketAddr,
    closing: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl FramesReceiver {
    /// Listens on a free port of loopback; the handler sees the body of each request.
    ///
    /// # Errors
    /// Where there is none.
    pub fn start(tls: Arc<ServerConfig>, handler: impl Fn(&[u8]) -> Frames + Send + Sync + 'static) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let (closing, open): (Arc<AtomicBool>, Arc<Mutex<Vec<TcpStream>>>) = Default::default();
        let handler: Arc<Handler> = Arc::new(handler);
        let (ended, noted) = (Arc::clone(&closing), Arc::clone(&open));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                if let Ok(copy) = stream.try_clone() {
                    held(&noted).push(copy);
                }
                let (tls, handler) = (Arc::clone(&tls), Arc::clone(&handler));
                thread::spawn(move || {
                    // What misbehaves must end as a closed connection, also while a copy of it is kept above.
                    let copy = stream.try_clone();
                    drop(serve(tls, stream, &*handler));
                    if let Ok(copy) = copy {
                        drop(copy.shutdown(Shutdown::Both));
                    }
                });
            }
        });
        Ok(Self { address, closing, open })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for FramesReceiver {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::SeqCst);
        drop(TcpStream::connect_timeout(&self.address, Duration::from_millis(200)));
        for stream in held(&self.open).iter() {
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

fn serve(tls: Arc<ServerConfig>, stream: TcpStream, handler: &Handler) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut wire = StreamOwned::new(ServerConnection::new(tls)?, stream);
    let mut preface = [0; PREFACE.len()];
    wire.read_exact(&mut preface)?;
    ensure!(preface == PREFACE, "no HTTP/2");
    wire.write_all(&frame(SETTINGS, 0, 0, &[]))?;
    let mut bodies: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    loop {
        let mut head = [0; 9];
        wire.read_exact(&mut head)?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        ensure!(length <= FRAME_MAX, "a frame of {length} bytes");
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; length];
        wire.read_exact(&mut payload)?;
        match kind {
            SETTINGS if flags & END_STREAM == 0 => wire.write_all(&frame(SETTINGS, END_STREAM, 0, &[]))?,
            PING if flags & END_STREAM == 0 => wire.write_all(&frame(PING, END_STREAM, 0, &payload))?,
            DATA => bodies.entry(stream).or_default().extend_from_slice(&payload),
            HEADERS => drop(bodies.entry(stream).or_default()),
            _ => {}
        }
        if (kind == DATA || kind == HEADERS) && flags & END_STREAM != 0 {
            let body = bodies.remove(&stream).context("a body")?;
            match handler(&body) {
                Frames::Good => wire.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, stream, STATUS_200))?,
                Frames::Raw(behaviour) => {
                    behaviour(&mut wire, stream);
                    return Ok(());
                }
            }
        }
    }
}
