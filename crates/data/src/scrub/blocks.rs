//! Private keys in PEM blocks, in files of their own and inside literals of programs.

use super::{Finding, Hit, run_end};

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const KEY: &str = "PRIVATE KEY";

/// Base64 in a row that no program has between two strings by chance, in bytes.
const TELLING: usize = 24;

/// Shorter runs are prefixes of literals, like the `b` of `b"..."`.
const SHORTEST: usize = 3;

/// The longest block looked at, in bytes; an RSA key of 16,384 bits takes 12,700.
const LONGEST: usize = 1 << 15;

pub(super) fn find(text: &str, hits: &mut Vec<Hit>) {
    for (start, _) in text.match_indices(BEGIN) {
        let Some(body) = body_start(text, start + BEGIN.len()) else {
            continue;
        };
        let limit = text.floor_char_boundary(body + LONGEST);
        let end = text[body..limit].find(END).map(|at| body + at);
        let runs = match end {
            Some(end) => whole_block(text, body, end),
            None => cut_block(text, body, limit),
        };
        let hit = |(start, end)| Hit::new(start..end, Finding::PrivateKey);
        hits.extend(runs.into_iter().map(hit));
    }
}

/// Behind the header `... PRIVATE KEY-----`; also of PGP, whose headers end with `BLOCK`.
fn body_start(text: &str, at: usize) -> Option<usize> {
    let label = text[at..].split("-----").next()?;
    let is_header = label.len() < 60 && label.contains(KEY) && !label.contains('\n');
    let end = at + label.len() + "-----".len();
    (is_header && end <= text.len()).then_some(end)
}

/// All base64 up to the end line, if there is so much that it must be a key.
fn whole_block(text: &str, start: usize, end: usize) -> Vec<(usize, usize)> {
    let mut runs = base64_runs(text, start, end);
    if !runs.iter().any(|(start, end)| end - start >= TELLING) {
        return Vec::new();
    }
    runs.retain(|(start, end)| end - start >= SHORTEST && &text[*start..*end] != PLACEHOLDER);
    runs
}

/// Without an end line: long runs with nothing but line ends and quotes between.
fn cut_block(text: &str, start: usize, limit: usize) -> Vec<(usize, usize)> {
    const BETWEEN: usize = 16;
    let mut last = start;
    let mut kept = Vec::new();
    for (start, end) in base64_runs(text, start, limit) {
        if start - last > BETWEEN || end - start < TELLING {
            break;
        }
        last = end;
        kept.push((start, end));
    }
    kept
}

const PLACEHOLDER: &str = "REDACTED_PRIVATE_KEY";

/// Runs of base64; the letter of an escape belongs to none. A placeholder of ours is one run.
fn base64_runs(text: &str, start: usize, end: usize) -> Vec<(usize, usize)> {
    let bytes = text.as_bytes();
    let mut runs = Vec::new();
    let mut at = start;
    while at < end {
        if bytes[at] == b'\\' {
            at += 2;
        } else if text.is_char_boundary(at) && text[at..].starts_with(PLACEHOLDER) {
            runs.push((at, at + PLACEHOLDER.len()));
            at += PLACEHOLDER.len();
        } else if is_base64(bytes[at]) {
            let stop = run_end(text, at, is_base64).min(end);
            runs.push((at, stop));
            at = stop;
        } else {
            at += 1;
        }
    }
    runs
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
}
