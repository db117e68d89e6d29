//! As much of HTTP/1.1 as the load and the receiver need: where a message ends, and its status.

/// A whole message at the beginning of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// Where its body begins.
    pub body: usize,
    /// Where it ends.
    pub end: usize,
}

/// Finds the first message, if the buffer holds it whole. A message without a length has no body.
#[must_use]
pub fn message(buffer: &[u8]) -> Option<Message> {
    let body = buffer.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let end = body + length(&buffer[..body]);
    (buffer.len() >= end).then_some(Message { body, end })
}

/// The value of `content-length` in a head; 0 where there is none.
fn length(head: &[u8]) -> usize {
    const NAME: &[u8] = b"\r\ncontent-length:";
    let found = head.windows(NAME.len()).position(|w| w.eq_ignore_ascii_case(NAME));
    found.map_or(0, |at| number(head[at + NAME.len()..].trim_ascii_start()) as usize)
}

/// The decimal number that a text begins with; 0 where there is none.
#[must_use]
pub fn number(text: &[u8]) -> u64 {
    text.iter().take_while(|b| b.is_ascii_digit()).fold(0, |n, b| n.wrapping_mul(10).wrapping_add(u64::from(b - b'0')))
}

/// The status of an answer; 0 where it is none.
#[must_use]
pub fn status(head: &[u8]) -> u64 {
    head.get(9..12).map_or(0, number)
}

#[cfg(test)]
mod tests {
    use super::{Message, message, status};

    #[test]
    fn a_message_ends_where_its_length_says() {
        let text = b"HTTP/1.1 202 Accepted\r\nContent-Length: 5\r\n\r\nhelloHTTP";
        assert_eq!(message(text), Some(Message { body: 44, end: 49 }));
        assert_eq!(status(text), 202);
        assert_eq!(message(&text[..47]), None, "not whole yet");
    }
}
