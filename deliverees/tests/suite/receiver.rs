//! A receiver on loopback that counts connections, keeps requests, and answers as it is told.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Its first line.
    pub(crate) line: String,
    /// Its headers, names in small letters; a name that comes twice keeps both values, with a line end between.
    pub(crate) headers: BTreeMap<String, String>,
    /// Its body, as long as `content-length` says.
    pub(crate) body: Vec<u8>,
}

/// A receiver that listens until it is dropped.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    seen: Arc<Seen>,
    task: tokio::task::JoinHandle<()>,
}

/// What a receiver saw.
#[derive(Default)]
pub(crate) struct Seen {
    connections: AtomicUsize,
    requests: Mutex<Vec<Request>>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Receiver {
    /// Listens at a free port of `ip` and hands each connection to `serve`.
    pub(crate) async fn at<F>(ip: &str, serve: impl Fn(TcpStream, Arc<Seen>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        Self::on(listener, serve)
    }

    /// The same on a listener that is there already.
    pub(crate) fn on<F>(listener: TcpListener, serve: impl Fn(TcpStream, Arc<Seen>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (address, seen) = (listener.local_addr().unwrap(), Arc::new(Seen::default()));
        let counted = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counted.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, Arc::clone(&counted)));
            }
        });
        Self { address, seen, task }
    }

    /// Answers every request on a connection with the same bytes, and keeps the connection.
    pub(crate) async fn answering(answer: &'static str) -> Self {
        Self::at("127.0.0.1", move |mut stream, seen| async move {
            while let Some(request) = read_request(&mut stream).await {
                seen.keep(request);
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        })
        .await
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hooks?token=canary", self.address)
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.seen.requests.lock().unwrap().clone()
    }
}

impl Seen {
    pub(crate) fn keep(&self, request: Request) {
        self.requests.lock().unwrap().push(request);
    }
}

/// Reads one request; `None` where the connection ends before one is whole.
pub(crate) async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<Request> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap().to_owned();
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    for header in lines {
        let (name, value) = header.split_once(": ").unwrap();
        headers
            .entry(name.to_ascii_lowercase())
            .and_modify(|had| *had = format!("{had}\n{value}"))
            .or_insert_with(|| value.to_owned());
    }
    let mut body = bytes.split_off(end + 4);
    let length: usize = headers.get("content-length").map_or(0, |text| text.parse().unwrap());
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some(Request { line, headers, body })
}
