//! Tokens of services, by the prefixes that the services publish so that scanners can find them.

use super::{Finding, Hit, is_base64_url, run_end, starts_word};

/// What a token looks like behind its prefix.
struct Shape {
    prefix: &'static str,
    body: fn(u8) -> bool,
    /// Bytes of the whole run of `body` behind the prefix.
    least: usize,
    most: usize,
    /// Digits that must be among them: some prefixes occur in ordinary words as well.
    digits: usize,
}

const fn shape(prefix: &'static str, body: fn(u8) -> bool, least: usize, most: usize) -> Shape {
    Shape {
        prefix,
        body,
        least,
        most,
        digits: 0,
    }
}

const fn with_digits(shape: Shape, digits: usize) -> Shape {
    Shape { digits, ..shape }
}

const ANY: usize = usize::MAX;

fn upper_or_digit(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit()
}

fn alphanumeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

fn word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn dotted(byte: u8) -> bool {
    is_base64_url(byte) || byte == b'.'
}

fn path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'/'
}

const SHAPES: &[Shape] = &[
    // Amazon: identifiers of keys and of temporary credentials.
    shape("AKIA", upper_or_digit, 16, 16),
    shape("ASIA", upper_or_digit, 16, 16),
    shape("ABIA", upper_or_digit, 16, 16),
    shape("ACCA", upper_or_digit, 16, 16),
    // GitHub.
    shape("ghp_", alphanumeric, 30, ANY),
    shape("gho_", alphanumeric, 30, ANY),
    shape("ghu_", alphanumeric, 30, ANY),
    shape("ghs_", alphanumeric, 30, ANY),
    shape("ghr_", alphanumeric, 30, ANY),
    shape("github_pat_", word, 22, ANY),
    // GitLab.
    shape("glpat-", dotted, 20, ANY),
    shape("gldt-", dotted, 20, ANY),
    shape("glrt-", dotted, 20, ANY),
    shape("glptt-", dotted, 20, ANY),
    shape("glcbt-", dotted, 20, ANY),
    // Slack.
    with_digits(shape("xoxa-", is_base64_url, 10, ANY), 2),
    with_digits(shape("xoxb-", is_base64_url, 10, ANY), 2),
    with_digits(shape("xoxe-", is_base64_url, 10, ANY), 2),
    with_digits(shape("xoxp-", is_base64_url, 10, ANY), 2),
    with_digits(shape("xoxr-", is_base64_url, 10, ANY), 2),
    with_digits(shape("xoxs-", is_base64_url, 10, ANY), 2),
    with_digits(shape("xapp-", is_base64_url, 10, ANY), 2),
    shape("hooks.slack.com/services/", path, 20, ANY),
    // Google.
    shape("AIza", is_base64_url, 35, 35),
    shape("GOCSPX-", is_base64_url, 20, ANY),
    shape("ya29.", is_base64_url, 20, ANY),
    // OpenAI, Anthropic and others that use their form; a class in style sheets begins so too.
    with_digits(shape("sk-", is_base64_url, 20, ANY), 2),
    // Stripe.
    shape("sk_live_", word, 16, ANY),
    shape("sk_test_", word, 16, ANY),
    shape("rk_live_", word, 16, ANY),
    // Hugging Face, npm, PyPI, crates.io, SendGrid, DigitalOcean.
    shape("hf_", alphanumeric, 30, ANY),
    shape("npm_", alphanumeric, 36, ANY),
    shape("pypi-", is_base64_url, 50, ANY),
    shape("cio", alphanumeric, 32, 32),
    shape("SG.", dotted, 50, ANY),
    shape("dop_v1_", alphanumeric, 60, ANY),
];

/// What a JSON object is in base64, from its brace and quote on.
const JSON: &str = "eyJ";

pub(super) fn find(text: &str, hits: &mut Vec<Hit>) {
    for shape in SHAPES {
        for (start, _) in text.match_indices(shape.prefix) {
            if let Some(end) = end_of(text, start, shape) {
                hits.push(Hit::new(start..end, Finding::ServiceToken));
            }
        }
    }
    for (start, _) in text.match_indices(JSON) {
        if let Some(end) = end_of_web_token(text, start) {
            hits.push(Hit::new(start..end, Finding::WebToken));
        }
    }
}

fn end_of(text: &str, start: usize, shape: &Shape) -> Option<usize> {
    let begin = start + shape.prefix.len();
    let end = run_end(text, begin, shape.body);
    let digits = text.as_bytes()[begin..end].iter();
    let digits = digits.filter(|byte| byte.is_ascii_digit()).count();
    let is_long = (shape.least..=shape.most).contains(&(end - begin));
    (is_long && digits >= shape.digits && starts_word(text, start)).then_some(end)
}

/// A header and a body, both JSON, and a signature.
fn end_of_web_token(text: &str, start: usize) -> Option<usize> {
    const LEAST: usize = 10;
    if !starts_word(text, start) {
        return None;
    }
    let mut end = start;
    for part in 0..3 {
        let begin = end + usize::from(part > 0);
        if part > 0 && text.as_bytes().get(end) != Some(&b'.') {
            return None;
        }
        end = run_end(text, begin, is_base64_url);
        let is_json = text[begin..end].starts_with(JSON);
        if end - begin < LEAST || (part == 1 && !is_json) {
            return None;
        }
    }
    Some(end)
}
