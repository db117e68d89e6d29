//! Looks at a filter's text before it is parsed: the parser goes down into what it reads, so what is nested deep or
//! chained long must not get there.

use super::{NESTING_MAX, NotAFilter, TOKENS_MAX};

/// Refuses a text with too many words and signs, or brackets nested too deep.
///
/// Text within quotes counts as well, one for each word and sign: so nothing depends on where a text ends, and no odd
/// quoting gets past.
pub(super) fn hold(text: &str) -> Result<(), NotAFilter> {
    let (mut tokens, mut nesting, mut deepest, mut in_word) = (0_usize, 0_usize, 0_usize, false);
    for c in text.chars() {
        // Other alphabets occur within quotes alone; anywhere else the parser refuses them at once.
        let word = c.is_alphanumeric() || c == '_';
        let goes_on = word && in_word;
        tokens += usize::from(!c.is_whitespace() && !goes_on);
        in_word = word;
        match c {
            '(' | '[' | '{' => {
                nesting += 1;
                deepest = deepest.max(nesting);
            }
            ')' | ']' | '}' => nesting = nesting.saturating_sub(1),
            _ => {}
        }
    }
    if tokens > TOKENS_MAX {
        return Err(NotAFilter(format!("has {tokens} words and signs; at most {TOKENS_MAX} are read")));
    }
    if deepest > NESTING_MAX {
        return Err(NotAFilter(format!("has brackets nested {deepest} deep; at most {NESTING_MAX} are read")));
    }
    Ok(())
}
