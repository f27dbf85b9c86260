//! Lean code with everything blanked that is no code, at the same places.

use std::ops::Range;

/// A text without comments and the contents of strings.
#[derive(Debug)]
pub(super) struct Masked {
    /// As long as the text; line ends are kept, other bytes of comments and strings are blanks.
    pub(super) code: String,
    /// Where comments are, `-/` or line end included.
    pub(super) comments: Vec<Range<usize>>,
}

/// Blanks comments (`--`, nested `/- -/`), strings (escaped and raw) and characters. What is not closed
/// reaches to the end.
pub(super) fn mask(text: &str) -> Masked {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut comments = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let (len, is_comment) = if rest.starts_with(b"--") {
            (line_len(rest), true)
        } else if rest.starts_with(b"/-") {
            (comment_len(rest), true)
        } else if rest[0] == b'"' {
            (string_len(rest), false)
        } else if let Some(len) = raw_string_len(bytes, at) {
            (len, false)
        } else if let Some(len) = character_len(text, at) {
            (len, false)
        } else {
            at += 1;
            continue;
        };
        let range = at..at + len;
        for byte in &mut code[range.clone()] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        if is_comment {
            comments.push(range.clone());
        }
        at = range.end;
    }
    // Only whole comments and literals were blanked, all of which begin and end with ASCII.
    let code = String::from_utf8(code).unwrap_or_else(|_| text.to_owned());
    Masked { code, comments }
}

fn line_len(rest: &[u8]) -> usize {
    let end = rest.iter().position(|&byte| byte == b'\n');
    end.unwrap_or(rest.len())
}

fn comment_len(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/-") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"-/") {
            depth -= 1;
            at += 2;
        } else {
            at += 1;
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string_len(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// `r"..."` and `r#"..."#`.
fn raw_string_len(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = bytes[at..].strip_prefix(b"r")?;
    let hashes = rest.iter().take_while(|&&byte| byte == b'#').count();
    let is_word = at > 0 && is_name_byte(bytes[at - 1]);
    if is_word || rest.get(hashes) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'"'];
    close.extend(vec![b'#'; hashes]);
    let begin = hashes + 1;
    let end = rest[begin..]
        .windows(close.len())
        .position(|window| window == close);
    Some(1 + end.map_or(rest.len(), |end| begin + end + close.len()))
}

/// `'x'` and `'\n'`; a prime behind a name is a part of it.
fn character_len(text: &str, at: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    if bytes[at] != b'\'' || (at > 0 && is_name_byte(bytes[at - 1])) {
        return None;
    }
    let mut inside = text.get(at + 1..)?.chars();
    let first = inside.next().filter(|c| !matches!(c, '\n' | '\''))?;
    let rest = inside.as_str();
    let end = if first == '\\' {
        // The escaped character may be a quote.
        let next = rest.chars().next()?.len_utf8();
        next + rest.get(next..)?.find('\'').filter(|&end| end < 8)?
    } else {
        rest.starts_with('\'').then_some(0)?
    };
    Some(1 + first.len_utf8() + end + 1)
}

/// Bytes of names, other characters than ASCII included.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte >= 0x80 || matches!(byte, b'_' | b'\'' | b'!' | b'?')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_is_left() {
        for (text, left) in [
            ("a -- b\nc", "a c"),
            ("a /- /- x -/ \n -/ b", "a b"),
            (r#"a "x\" -- y" b"#, "a b"),
            (r##"f r#"x" y"# b"##, "f b"),
            ("h' 'x' '\\'' '\"' b'", "h' b'"),
            ("⟨é⟩ /- ö -/", "⟨é⟩"),
            ("a /- never closed", "a"),
            ("a \"never closed", "a"),
        ] {
            let code = mask(text).code;
            assert_eq!(code.len(), text.len(), "{text}");
            assert_eq!(code.split_whitespace().collect::<Vec<_>>().join(" "), left);
            assert_eq!(code.matches('\n').count(), text.matches('\n').count());
        }
        assert_eq!(mask("/-- d -/ x -- y").comments, [0..8, 11..15]);
    }
}
