//! The one writer to standard output, and the one to standard error.

use std::io::{self, Write};

/// Where a command's answers go, a line at a time. A closed pipe is an error here, and no panic.
pub(super) struct Output(Box<dyn Write + Send>);

impl Output {
    pub(super) fn stdout() -> Self {
        Self(Box::new(io::stdout()))
    }

    #[cfg(test)]
    pub(super) fn to(writer: impl Write + Send + 'static) -> Self {
        Self(Box::new(writer))
    }

    /// Writes a line and sends it on at once: who reads a stream waits for it.
    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        self.0.write_all(text.as_bytes())?;
        self.0.write_all(b"\n")?;
        self.0.flush()
    }
}

/// Writes a line to standard error. Where that is closed too there is nobody left to tell.
pub(super) fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Control characters escaped: what came from outside must not rewrite the terminal.
pub(super) fn plain(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        // The characters that turn the direction of text hide what stands there as well.
        let hides = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || hides { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}
