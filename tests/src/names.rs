//! A name server for a [`crate::PrivateNetwork`]: it takes the place of the machine's own, and answers as it is told.

use anyhow::{Context, Result};
use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

/// Addresses that a name gets; none of a kind is an answer without addresses, `None` is NXDOMAIN.
pub type Book = dyn Fn(&str) -> Option<Vec<IpAddr>> + Send + Sync;

/// Answers on the address that the machine's resolver asks, from a thread that ends with its process or after
/// 10 minutes. To be called inside the private network.
///
/// # Errors
/// Where the machine names no server, or its address is taken.
pub fn serve(book: impl Fn(&str) -> Option<Vec<IpAddr>> + Send + Sync + 'static) -> Result<()> {
    let resolv = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let named = resolv.lines().filter_map(|l| l.strip_prefix("nameserver")).next();
    // Without a line the resolver asks loopback.
    let server: IpAddr = named.map_or("127.0.0.1", str::trim).parse().context("the machine's name server")?;
    let socket = UdpSocket::bind(SocketAddr::new(server, 53)).with_context(|| format!("to listen on {server}:53"))?;
    socket.set_read_timeout(Some(Duration::from_secs(600)))?;
    thread::spawn(move || {
        let mut buffer = [0_u8; 1500];
        while let Ok((length, asker)) = socket.recv_from(&mut buffer) {
            if let Some(answer) = answer(&buffer[..length], &book) {
                drop(socket.send_to(&answer, asker));
            }
        }
    });
    Ok(())
}

/// An answer to one question; `None` where it is none.
fn answer(question: &[u8], book: &Book) -> Option<Vec<u8>> {
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let length = usize::from(*question.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(question.get(at..at + length)?).to_ascii_lowercase());
        at += length;
    }
    let kind = u16::from_be_bytes([*question.get(at)?, *question.get(at + 1)?]);
    let asked = question.get(12..at + 4)?;
    let found = book(&labels.join("."));
    let addresses: Vec<Vec<u8>> = found
        .iter()
        .flatten()
        .filter_map(|address| match (address, kind) {
            (IpAddr::V4(v4), 1) => Some(v4.octets().to_vec()),
            (IpAddr::V6(v6), 28) => Some(v6.octets().to_vec()),
            _ => None,
        })
        .collect();
    let mut text = question.get(..2)?.to_vec();
    // A response, recursion available; code 3 says that there is no such name.
    text.extend([0x81, if found.is_some() { 0x80 } else { 0x83 }]);
    text.extend([0, 1]);
    text.extend(u16::try_from(addresses.len()).ok()?.to_be_bytes());
    text.extend([0, 0, 0, 0]);
    text.extend(asked);
    for address in addresses {
        // The name again as a pointer to the question, class IN, no caching.
        text.extend([0xc0, 12]);
        text.extend(kind.to_be_bytes());
        text.extend([0, 1, 0, 0, 0, 0]);
        text.extend(u16::try_from(address.len()).ok()?.to_be_bytes());
        text.extend(address);
    }
    Some(text)
}
