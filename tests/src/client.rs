//! A small blocking HTTP/1.1 client over one connection that is kept.
//!
//! Written here so that what the tests send and count does not depend on a library that the daemon uses too.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longest wait for a part of an answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longest answer that is read.
const ANSWER_MAX: u64 = 64 * 1024 * 1024;

/// A client of one address.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    wire: Option<BufReader<TcpStream>>,
    /// Sent as `Authorization: Bearer` when set.
    pub token: Option<String>,
}

/// What was answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The header lines, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header, the first where there are several.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// Where it is none, with its beginning.
    pub fn json(&self) -> Result<Value> {
        let beginning = || String::from_utf8_lossy(&self.body).chars().take(300).collect::<String>();
        serde_json::from_slice(&self.body).with_context(|| format!("status {}, not JSON: {}", self.status, beginning()))
    }
}

impl Client {
    /// A client that connects when it first sends.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self { address, wire: None, token: None }
    }

    /// Reads a resource that must be there.
    ///
    /// # Errors
    /// Where the connection fails or the status is not 200.
    pub fn get(&mut self, path: &str) -> Result<Value> {
        let answer = self.send("GET", path, &[], b"")?;
        if answer.status != 200 {
            bail!("GET {path}: {} {}", answer.status, String::from_utf8_lossy(&answer.body));
        }
        answer.json()
    }

    /// Posts JSON.
    ///
    /// # Errors
    /// Where the connection fails; a status is an answer, not an error.
    pub fn post(&mut self, path: &str, body: &Value) -> Result<Answer> {
        self.send("POST", path, &[("content-type", "application/json")], body.to_string().as_bytes())
    }

    /// Sends a request and reads the whole answer. A request is sent once: what failed may have been taken.
    ///
    /// # Errors
    /// Where the connection can not be made, breaks, or answers what is not HTTP; the connection is dropped then.
    pub fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer> {
        let mut wire = match self.wire.take() {
            Some(wire) => wire,
            None => connect(self.address)?,
        };
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.address);
        if let Some(token) = &self.token {
            request.push_str(&format!("authorization: Bearer {token}\r\n"));
        }
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
        let mut bytes = request.into_bytes();
        bytes.extend_from_slice(body);
        wire.get_mut().write_all(&bytes)?;
        let answer = read_answer(&mut wire)?;
        if answer.header("connection").is_none_or(|c| !c.eq_ignore_ascii_case("close")) {
            self.wire = Some(wire);
        }
        Ok(answer)
    }
}

fn connect(address: SocketAddr) -> Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(BufReader::new(stream))
}

fn line(wire: &mut impl BufRead) -> Result<String> {
    let mut line = String::new();
    if wire.take(64 * 1024).read_line(&mut line)? == 0 {
        bail!("the connection ended");
    }
    Ok(line.trim_end().to_owned())
}

fn read_answer(wire: &mut impl BufRead) -> Result<Answer> {
    let first = line(wire)?;
    let status = first.split(' ').nth(1).and_then(|s| s.parse().ok()).with_context(|| format!("no status: {first}"))?;
    let mut headers = Vec::new();
    loop {
        let line = line(wire)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').with_context(|| format!("no header: {line}"))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut answer = Answer { status, headers, body: Vec::new() };
    if answer.header("transfer-encoding").is_some_and(|t| t.eq_ignore_ascii_case("chunked")) {
        while let size @ 1.. = u64::from_str_radix(&line(wire)?, 16)? {
            wire.take(size).read_to_end(&mut answer.body)?;
            line(wire)?;
        }
        line(wire)?;
    } else if let Some(length) = answer.header("content-length") {
        let length: u64 = length.parse()?;
        anyhow::ensure!(length <= ANSWER_MAX, "an answer of {length} bytes");
        let read = wire.take(length).read_to_end(&mut answer.body)?;
        anyhow::ensure!(read as u64 == length, "the body broke off");
    }
    Ok(answer)
}
