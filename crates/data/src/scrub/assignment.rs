//! Values given to names that speak of secrets, in code, in JSON and in files of settings.
//!
//! `password = "x"`, `"password": "x"`, `Password: Optional[str] = 'x'`, `DB_PASSWORD=x`. A
//! password is any text; what is given to a `token`, `secret` or `key` has to look random, since
//! programs use these words for ordinary things as well.

use std::ops::Range;

use super::{Finding, Hit, run_end, run_start};

/// Names that end so hold passwords.
const PASSWORDS: [&str; 6] = [
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "_pass",
    "passwort",
];

/// Names that have this in them hold what has to be kept.
const KEPT: [&str; 6] = [
    "secret",
    "token",
    "auth",
    "credential",
    "signature",
    "cookie",
];

/// Values that stand for a password and are none.
const NO_PASSWORDS: [&str; 8] = [
    "password", "passwd", "string", "none", "null", "true", "false", "secret",
];

/// Bytes of the longest value looked at.
const LONGEST: usize = 4096;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Name {
    Password,
    Kept,
}

pub(super) fn find(text: &str, hits: &mut Vec<Hit>) {
    for (at, byte) in text.bytes().enumerate() {
        if matches!(byte, b'=' | b':') {
            hits.extend(hit_at(text, at));
        }
    }
}

fn hit_at(text: &str, operator: usize) -> Option<Hit> {
    let (name, kind) = name_before(text, operator)?;
    let value = value_start(text, operator);
    if let Some(range) = literal(text, value).or_else(|| annotated(text, operator, value)) {
        return judge(text, range, kind);
    }
    let is_setting = is_setting(text, &name);
    let end = run_end(text, value, |byte| {
        byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'#' | b';' | b',' | b'\\' | b'`')
    });
    if is_setting && value == operator + 1 && kind == Name::Password {
        return judge(text, value..end, kind);
    }
    let bare = &text[value..end];
    (kind == Name::Kept && is_random(bare) && is_no_name(bare))
        .then(|| Hit::new(value..end, Finding::RandomValue))
}

/// The name that something is given to here, if it speaks of secrets.
fn name_before(text: &str, operator: usize) -> Option<(Range<usize>, Name)> {
    let is_closer = |byte| {
        matches!(
            byte,
            b' ' | b'"' | b'\'' | b']' | b')' | b'\\' | b'!' | b'=' | b':'
        )
    };
    let before = &text.as_bytes()[..operator];
    let closers = before.iter().rev().take_while(|&&byte| is_closer(byte));
    let end = operator - closers.take(6).count();
    let start = run_start(text, end, |byte| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
    });
    let name = text[start..end].to_ascii_lowercase();
    let is_key = name.ends_with("key") && name.len() > 3;
    let kind = if PASSWORDS.iter().any(|ending| name.ends_with(ending)) {
        Name::Password
    } else if is_key || KEPT.iter().any(|word| name.contains(word)) {
        Name::Kept
    } else {
        return None;
    };
    Some((start..end, kind))
}

/// Behind the operator, what else belongs to it, and blanks.
fn value_start(text: &str, operator: usize) -> usize {
    let end = run_end(text, operator, |byte| matches!(byte, b'=' | b':' | b'>'));
    run_end(text, end, |byte| matches!(byte, b' ' | b'\t'))
}

/// Content of the literal that begins here, prefixes of Python's allowed.
fn literal(text: &str, start: usize) -> Option<Range<usize>> {
    let quote_at = run_end(text, start, |byte| {
        matches!(byte | 0x20, b'r' | b'b' | b'u' | b'f')
    });
    if quote_at - start > 2 {
        return None;
    }
    let rest = &text[quote_at..];
    // A literal inside a literal, as JSON in a text of JSON, has its quotes escaped.
    let quotes = ["\"\"\"", "'''", "\"", "'", "\\\"", "\\'"];
    let quote = quotes.into_iter().find(|quote| rest.starts_with(quote))?;
    let begin = quote_at + quote.len();
    let len = content_len(&text.as_bytes()[begin..], quote.as_bytes())?;
    Some(begin..begin + len)
}

fn content_len(bytes: &[u8], quote: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at < bytes.len().min(LONGEST) {
        if bytes[at..].starts_with(quote) {
            return Some(at);
        }
        match bytes[at] {
            b'\n' if quote.len() < 3 => return None,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    None
}

/// The literal behind an annotation, `: str = "..."`.
fn annotated(text: &str, operator: usize, start: usize) -> Option<Range<usize>> {
    if text.as_bytes()[operator] != b':' {
        return None;
    }
    let end = run_end(text, start, |byte| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'[' | b']' | b'|' | b' ')
    });
    let is_given = text[end..].starts_with('=') && end > start;
    is_given
        .then(|| value_start(text, end))
        .and_then(|value| literal(text, value))
}

fn judge(text: &str, range: Range<usize>, kind: Name) -> Option<Hit> {
    let value = &text[range.clone()];
    let finding = match kind {
        Name::Password if is_password(value) => Finding::Password,
        Name::Kept if is_random(value) => Finding::RandomValue,
        _ => return None,
    };
    Some(Hit::new(range, finding))
}

fn is_password(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    let is_filled_in_later = value.contains(['{', '}', '<', '>', '$', '%', '(']);
    let has_letters = value.chars().any(char::is_alphanumeric);
    has_letters
        && value.len() >= 3
        && !is_filled_in_later
        && !value.starts_with("REDACTED_")
        && !NO_PASSWORDS.contains(&lower.as_str())
}

/// Whether a text is long, one word, and spread over many characters, some of them digits.
fn is_random(value: &str) -> bool {
    const LEAST: usize = 16;
    /// Bits for each character. Random hexadecimal digits have 3.0 at this length, English 2.9 or
    /// less without blanks.
    const BITS: f64 = 3.0;
    let is_token = |byte: u8| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'+' | b'/' | b'=' | b'_' | b'-' | b'.' | b'~')
    };
    let digits = value.bytes().filter(u8::is_ascii_digit).count();
    let is_path = value.starts_with(['/', '.']) || value.contains("//");
    value.len() >= LEAST
        && value.bytes().all(is_token)
        && digits >= 2
        && digits < value.len()
        && !is_path
        && entropy(value.as_bytes()) >= BITS
}

/// Whether a random-looking word outside quotes can be no identifier of a program.
fn is_no_name(value: &str) -> bool {
    let digits = value.bytes().filter(u8::is_ascii_digit).count();
    value.len() >= 20 && digits >= 4 && !value.contains(['_', '.', '-'])
}

/// Shannon's, in bits for each byte.
fn entropy(bytes: &[u8]) -> f64 {
    let mut counts = [0usize; 256];
    for &byte in bytes {
        counts[byte as usize] += 1;
    }
    let share = |&count: &usize| count as f64 / bytes.len() as f64;
    let used = counts.iter().filter(|&&count| count > 0).map(share);
    used.map(|share| -share * share.log2()).sum()
}

/// Whether a line gives a value to a name in capitals, as in the environment of a process.
fn is_setting(text: &str, name: &Range<usize>) -> bool {
    let is_capital = !text[name.clone()]
        .bytes()
        .any(|byte| byte.is_ascii_lowercase());
    let before = text[..name.start].rsplit('\n').next().unwrap_or_default();
    is_capital && matches!(before.trim(), "" | "export" | "set")
}
