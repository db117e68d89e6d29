//! How a receiver may misbehave in HTTP/1.1, over plain and over TLS alike.

use posthaste_tests::Wire;
use rustix::net::sockopt::set_socket_linger;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What a delivery to a hostile receiver ends as.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum End {
    /// A failed attempt.
    Dead,
    /// A 2xx that counts all the same.
    Delivered,
    /// Either is sound; it must only end.
    Either,
}
use End::{Dead, Delivered, Either};

/// How one receiver misbehaves once it has read the request.
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) end: End,
    pub(super) answer: fn(&mut dyn Wire),
}

/// Longest that a hostile answer goes on by itself.
pub(super) const STAMINA: Duration = Duration::from_secs(30);

fn say(stream: &mut dyn Wire, text: &str) {
    drop(stream.write_all(text.as_bytes()));
}

/// Writes the same again and again, until the other side has had enough.
pub(super) fn forever(stream: &mut dyn Wire, bytes: impl AsRef<[u8]>, pause: Duration) {
    let end = Instant::now() + STAMINA;
    while Instant::now() < end && stream.write_all(bytes.as_ref()).is_ok() {
        sleep(pause);
    }
}

/// Without time to linger, the end of a connection is a reset.
pub(super) fn reset_on_close(stream: &mut dyn Wire) {
    // Where it can not be set the connection just ends, which is another of these kinds.
    let _unset = set_socket_linger(stream.socket(), Some(Duration::ZERO));
}

pub(super) const AT_ONCE: Duration = Duration::ZERO;
pub(super) const SLOWLY: Duration = Duration::from_millis(150);
const OK_CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

pub(super) fn kinds() -> Vec<Kind> {
    let kind = |name, end, answer| Kind { name, end, answer };
    let page: fn(&mut dyn Wire) = |s| forever(s, "x".repeat(4096), AT_ONCE);
    vec![
        kind("endless-headers", Dead, |s| {
            say(s, "HTTP/1.1 200 OK\r\n");
            forever(s, format!("x-more: {}\r\n", "x".repeat(1000)), AT_ONCE);
        }),
        kind("endless-header-line", Dead, |s| {
            say(s, "HTTP/1.1 200 OK\r\nx-more: ");
            forever(s, "x".repeat(4096), AT_ONCE);
        }),
        kind("endless-status-line", Dead, |s| {
            say(s, "HTTP/1.1 200 ");
            forever(s, "x".repeat(4096), AT_ONCE);
        }),
        kind("endless-body", Delivered, |s| {
            say(s, "HTTP/1.1 200 OK\r\n\r\n");
            forever(s, "x".repeat(4096), AT_ONCE);
        }),
        kind("endless-chunks", Delivered, |s| {
            say(s, OK_CHUNKED);
            forever(s, format!("1000\r\n{}\r\n", "x".repeat(4096)), AT_ONCE);
        }),
        kind("endless-failure", Dead, |s| {
            say(s, "HTTP/1.1 500 No\r\n\r\n");
            forever(s, "x".repeat(4096), AT_ONCE);
        }),
        kind("endless-chunk-extension", Dead, |s| {
            say(s, &format!("{OK_CHUNKED}5;"));
            forever(s, "x".repeat(4096), AT_ONCE);
        }),
        kind("endless-trailers", Dead, |s| {
            say(s, &format!("{OK_CHUNKED}0\r\n"));
            forever(s, format!("x-more: {}\r\n", "x".repeat(1000)), AT_ONCE);
        }),
        kind("endless-noise", Dead, page),
        kind("a-head-byte-by-byte", Dead, |s| forever(s, "H", SLOWLY)),
        kind("a-header-line-at-a-time", Dead, |s| {
            say(s, "HTTP/1.1 200 OK\r\n");
            forever(s, "x-slow: 1\r\n", SLOWLY);
        }),
        kind("a-body-byte-by-byte", Dead, |s| {
            say(s, "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n");
            forever(s, "x", SLOWLY);
        }),
        kind("silence", Dead, |_| sleep(STAMINA / 5)),
        kind("hints-forever", Dead, |s| forever(s, "HTTP/1.1 103 Early Hints\r\n\r\n", AT_ONCE)),
        kind("hints-slowly", Dead, |s| forever(s, "HTTP/1.1 100 Continue\r\n\r\n", SLOWLY)),
        kind("a-bad-chunk-size", Dead, |s| say(s, &format!("{OK_CHUNKED}zz\r\nhello\r\n0\r\n\r\n"))),
        kind("a-huge-chunk-size", Dead, |s| say(s, &format!("{OK_CHUNKED}{}\r\nhello", "f".repeat(40)))),
        kind("a-chunk-cut-off", Dead, |s| say(s, &format!("{OK_CHUNKED}5\r\nhe"))),
        kind("a-reset", Dead, reset_on_close),
        kind("a-reset-in-the-body", Dead, |s| {
            say(s, "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nhello");
            sleep(Duration::from_millis(50));
            reset_on_close(s);
        }),
        kind("a-half-close", Dead, |s| {
            s.finish();
            sleep(STAMINA / 5);
        }),
        kind("an-end-without-a-word", Dead, |_| {}),
        kind("a-header-not-in-ascii", Either, |s| {
            drop(s.write_all(b"HTTP/1.1 200 OK\r\nx-name: Bj\xf6rn \xff\xfe\r\ncontent-length: 0\r\n\r\n"));
        }),
        kind("a-header-name-not-in-ascii", Dead, |s| {
            drop(s.write_all(b"HTTP/1.1 200 OK\r\nx-n\xe4me: x\r\ncontent-length: 0\r\n\r\n"));
        }),
        kind("ten-thousand-headers", Dead, |s| {
            say(s, &format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", "x-more: 1\r\n".repeat(10_000)));
        }),
        kind("a-redirect-to-itself", Dead, |s| {
            say(s, "HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n");
        }),
        kind("a-redirect-that-keeps-the-method", Dead, |s| {
            say(s, "HTTP/1.1 307 Go\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n");
        }),
        kind("a-retry-after-of-ages", Dead, |s| {
            say(s, "HTTP/1.1 503 No\r\nretry-after: 99999999999999999999999\r\ncontent-length: 0\r\n\r\n");
        }),
        kind("a-retry-after-that-is-none", Dead, |s| {
            say(s, "HTTP/1.1 429 No\r\nretry-after: Thu, 99 Foo 99999 -1:-1:-1 GMT\r\ncontent-length: 0\r\n\r\n");
        }),
        kind("no-http", Dead, |s| say(s, "SSH-2.0-OpenSSH_9.2\r\n\r\n")),
        kind("a-status-that-is-no-number", Dead, |s| say(s, "HTTP/1.1 2OO OK\r\ncontent-length: 0\r\n\r\n")),
        kind("a-body-shorter-than-said", Dead, |s| {
            say(s, "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nhello");
        }),
        kind("two-lengths", Dead, |s| {
            say(s, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!");
        }),
        kind("a-negative-length", Dead, |s| say(s, "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\nhello")),
        kind("a-length-past-every-number", Dead, |s| {
            say(s, &format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\nhello", "9".repeat(40)));
        }),
        kind("another-protocol", Dead, |s| {
            say(s, "HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n");
            forever(s, "noise", AT_ONCE);
        }),
        kind("frames-of-http-2", Dead, |s| drop(s.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0]))),
        kind("a-gzip-bomb", Delivered, |s| {
            let bomb = gzip_bomb();
            say(s, &format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", bomb.len()));
            drop(s.write_all(&bomb));
            sleep(SLOWLY);
        }),
    ]
}

/// About 9 MiB of zeros in 60 kB of gzip: one literal, then matches of length 258 at distance 1, in the fixed code.
fn gzip_bomb() -> Vec<u8> {
    let mut bits: Vec<bool> = vec![true, true, false];
    // The literal 0 is 00110000; Huffman codes go from the highest bit down.
    bits.extend("00110000".chars().map(|c| c == '1'));
    for _ in 0..37_000 {
        bits.extend("1100010100000".chars().map(|c| c == '1'));
    }
    bits.extend([false; 7]);
    let packed = bits.chunks(8).map(|byte| byte.iter().enumerate().fold(0, |b, (at, on)| b | (u8::from(*on) << at)));
    [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3].into_iter().chain(packed).collect()
}
