//! How a receiver may misbehave in HTTP/2.

use super::answers::{AT_ONCE, End, SLOWLY, STAMINA, forever, reset_on_close};
use End::{Dead, Delivered, Either};
use posthaste_tests::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, RST_STREAM, SETTINGS, STATUS_200,
    WINDOW_UPDATE, frame, literal,
};
use posthaste_tests::receiver::Tls;
use std::io::Write as _;
use std::thread::sleep;

/// How one receiver misbehaves once it has read the request of a stream.
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) end: End,
    pub(super) answer: fn(&mut Tls, u32),
}

fn say(wire: &mut Tls, bytes: &[u8]) {
    drop(wire.write_all(bytes));
}

/// A head that says 200 and is followed by a body.
fn begin(wire: &mut Tls, stream: u32) {
    say(wire, &frame(HEADERS, END_HEADERS, stream, STATUS_200));
}

/// A block that opens HPACK's table with one long header, and names it again and again.
fn bomb() -> Vec<u8> {
    let mut block = STATUS_200.to_vec();
    // A literal that is indexed, of a name of 1 and a value of 4,000 bytes (a length in HPACK's 7-bit prefix).
    block.extend([0x40, 1, b'x', 0x7f]);
    block.extend([0xa1, 0x1e]);
    block.extend(vec![b'y'; 4000]);
    // Index 62 is the newest of the table: 4 KiB a byte.
    block.extend(vec![0xbe; 10_000]);
    block
}

/// A block of any length in as many frames as it takes.
fn in_frames(stream: u32, block: &[u8], flags: u8) -> Vec<u8> {
    let pieces: Vec<&[u8]> = block.chunks(16_000).collect();
    let last = pieces.len() - 1;
    pieces
        .iter()
        .enumerate()
        .flat_map(|(at, piece)| {
            let kind = if at == 0 { HEADERS } else { CONTINUATION };
            let ends = if at == last { END_HEADERS } else { 0 };
            frame(kind, ends | if at == 0 { flags } else { 0 }, stream, piece)
        })
        .collect()
}

pub(super) fn kinds() -> Vec<Kind> {
    let kind = |name, end, answer| Kind { name, end, answer };
    vec![
        kind("h2-silence", Dead, |_, _| sleep(STAMINA / 5)),
        kind("h2-an-end-without-a-word", Dead, |_, _| {}),
        kind("h2-a-reset-of-the-connection", Dead, |w, _| reset_on_close(w)),
        kind("h2-a-reset-of-the-stream", Dead, |w, stream| {
            say(w, &frame(RST_STREAM, 0, stream, &[0, 0, 0, 2]));
            sleep(STAMINA / 5);
        }),
        kind("h2-goaway", Dead, |w, stream| {
            let last = [&stream.to_be_bytes()[..], &[0, 0, 0, 11]].concat();
            say(w, &frame(GOAWAY, 0, 0, &last));
        }),
        kind("h2-endless-continuation", Dead, |w, stream| {
            say(w, &frame(HEADERS, 0, stream, STATUS_200));
            let more = frame(CONTINUATION, 0, stream, &literal("x-more", &"x".repeat(100)).repeat(100));
            forever(w, &more, AT_ONCE);
        }),
        kind("h2-empty-continuations", Dead, |w, stream| {
            say(w, &frame(HEADERS, 0, stream, STATUS_200));
            forever(w, frame(CONTINUATION, 0, stream, &[]), AT_ONCE);
        }),
        kind("h2-a-header-bomb", Dead, |w, stream| {
            say(w, &in_frames(stream, &bomb(), END_STREAM));
            sleep(STAMINA / 5);
        }),
        kind("h2-ten-thousand-headers", Dead, |w, stream| {
            let block = [STATUS_200, &literal("x-more", "1").repeat(10_000)].concat();
            say(w, &in_frames(stream, &block, END_STREAM));
            sleep(STAMINA / 5);
        }),
        kind("h2-endless-data", Delivered, |w, stream| {
            begin(w, stream);
            forever(w, frame(DATA, 0, stream, &[b'x'; 8000]), AT_ONCE);
        }),
        kind("h2-data-byte-by-byte", Dead, |w, stream| {
            begin(w, stream);
            forever(w, frame(DATA, 0, stream, b"x"), SLOWLY);
        }),
        kind("h2-empty-data", Dead, |w, stream| {
            begin(w, stream);
            forever(w, frame(DATA, 0, stream, &[]), AT_ONCE);
        }),
        kind("h2-data-without-a-head", Dead, |w, stream| {
            say(w, &frame(DATA, END_STREAM, stream, b"hello"));
            sleep(STAMINA / 5);
        }),
        kind("h2-padding-longer-than-its-frame", Dead, |w, stream| {
            begin(w, stream);
            say(w, &frame(DATA, PADDED | END_STREAM, stream, &[200, b'x']));
            sleep(STAMINA / 5);
        }),
        kind("h2-a-flood-of-pings", Dead, |w, _| forever(w, frame(PING, 0, 0, &[0; 8]).repeat(100), AT_ONCE)),
        kind("h2-a-flood-of-settings", Dead, |w, _| forever(w, frame(SETTINGS, 0, 0, &[]).repeat(100), AT_ONCE)),
        kind("h2-settings-of-the-wrong-length", Dead, |w, _| {
            say(w, &frame(SETTINGS, 0, 0, &[1, 2, 3]));
            sleep(STAMINA / 5);
        }),
        kind("h2-a-window-of-nothing", Dead, |w, stream| {
            say(w, &frame(WINDOW_UPDATE, 0, stream, &[0; 4]));
            sleep(STAMINA / 5);
        }),
        kind("h2-a-window-past-every-number", Dead, |w, _| {
            say(w, &frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]).repeat(2));
            sleep(STAMINA / 5);
        }),
        kind("h2-a-frame-longer-than-allowed", Dead, |w, stream| {
            begin(w, stream);
            say(w, &frame(DATA, 0, stream, &vec![b'x'; 200_000]));
            sleep(STAMINA / 5);
        }),
        kind("h2-a-status-that-is-no-number", Dead, |w, stream| {
            say(w, &frame(HEADERS, END_HEADERS | END_STREAM, stream, &literal(":status", "2OO")));
            sleep(STAMINA / 5);
        }),
        kind("h2-a-head-without-a-status", Dead, |w, stream| {
            say(w, &frame(HEADERS, END_HEADERS | END_STREAM, stream, &literal("x-more", "1")));
            sleep(STAMINA / 5);
        }),
        kind("h2-a-header-in-capitals", Dead, |w, stream| {
            let block = [STATUS_200, &literal("X-MORE", "1")].concat();
            say(w, &frame(HEADERS, END_HEADERS | END_STREAM, stream, &block));
            sleep(STAMINA / 5);
        }),
        kind("h2-a-block-that-is-none", Dead, |w, stream| {
            say(w, &frame(HEADERS, END_HEADERS | END_STREAM, stream, &[0xff; 40]));
            sleep(STAMINA / 5);
        }),
        kind("h2-hints-forever", Dead, |w, stream| {
            forever(w, frame(HEADERS, END_HEADERS, stream, &literal(":status", "103")), AT_ONCE);
        }),
        kind("h2-a-body-shorter-than-said", Dead, |w, stream| {
            let block = [STATUS_200, &literal("content-length", "100")].concat();
            say(w, &frame(HEADERS, END_HEADERS, stream, &block));
            say(w, &frame(DATA, END_STREAM, stream, b"hello"));
            sleep(STAMINA / 5);
        }),
        kind("h2-half-an-answer", Dead, |w, stream| {
            begin(w, stream);
            say(w, &frame(DATA, 0, stream, b"hello"));
        }),
        kind("h2-a-promise-that-was-not-asked-for", Either, |w, stream| {
            let promised = [&2_u32.to_be_bytes()[..], &[0x82, 0x86, 0x84]].concat();
            say(w, &frame(5, END_HEADERS, stream, &promised));
            say(w, &frame(HEADERS, END_HEADERS | END_STREAM, stream, STATUS_200));
            sleep(STAMINA / 5);
        }),
        kind("h2-an-answer-of-http-1", Dead, |w, _| {
            say(w, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
            sleep(STAMINA / 5);
        }),
        kind("h2-half-a-frame", Dead, |w, stream| {
            say(w, &frame(HEADERS, END_HEADERS | END_STREAM, stream, &[0x88; 100])[..20]);
            sleep(STAMINA / 5);
        }),
    ]
}
