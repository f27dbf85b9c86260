//! Takes secrets and traces of people and machines out of texts.
//!
//! [`Scrubber::scrub`] replaces what it finds by constant placeholders, so equal texts stay equal,
//! two versions of a file differ where they differed before, and a second pass finds nothing. A
//! replacement never touches the quotes and escapes around it: a Python or JSON literal stays one.
//!
//! What it knows: tokens of services by their published prefixes (`shapes`), blocks of private keys
//! (`blocks`), values given to names such as `password` or `api_token` (`assignment`), and
//! credentials in addresses, e-mail addresses, home folders, temporary folders and private hosts
//! (`places`). A secret without any of these marks is not found: no scanner can.

mod assignment;
mod blocks;
mod places;
mod shapes;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// A token or key of a known service.
    ServiceToken,
    /// A signed JSON web token.
    WebToken,
    /// The body of a private key.
    PrivateKey,
    /// A text given to a name like `password`.
    Password,
    /// A random-looking text given to a name like `token`, `secret` or `key`.
    RandomValue,
    /// User and password in the address of something.
    Credentials,
    /// An e-mail address.
    Email,
    /// A folder of a person or a machine.
    Folder,
    /// The name of a private host.
    Host,
    /// The name of a person that the caller named.
    Person,
}

impl Finding {
    /// Whether somebody could do harm with it; the rest says who and where somebody is.
    pub fn is_secret(self) -> bool {
        !matches!(self, Self::Email | Self::Folder | Self::Host | Self::Person)
    }

    /// What it is replaced by, where that does not depend on the text.
    fn placeholder(self) -> &'static str {
        match self {
            Self::ServiceToken => "REDACTED_SERVICE_TOKEN",
            Self::WebToken => "REDACTED_WEB_TOKEN",
            Self::PrivateKey => "REDACTED_PRIVATE_KEY",
            Self::Password => "REDACTED_PASSWORD",
            Self::RandomValue => "REDACTED_VALUE",
            Self::Credentials => "REDACTED_CREDENTIALS",
            Self::Email => "user@example.com",
            Self::Folder => "/project",
            Self::Host => "host.example.com",
            Self::Person => "user",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::ServiceToken => "token of a service",
            Self::WebToken => "web token",
            Self::PrivateKey => "private key",
            Self::Password => "password",
            Self::RandomValue => "random value of a secret name",
            Self::Credentials => "credentials in an address",
            Self::Email => "e-mail address",
            Self::Folder => "private folder",
            Self::Host => "private host",
            Self::Person => "person",
        })
    }
}

/// How often each kind was found.
pub type Findings = BTreeMap<Finding, usize>;

/// A text without what must not be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scrubbed<'a> {
    /// The text; borrowed if nothing was found.
    pub text: Cow<'a, str>,
    /// What was replaced.
    pub findings: Findings,
}

/// Something to replace.
struct Hit {
    range: Range<usize>,
    finding: Finding,
    replacement: &'static str,
}

impl Hit {
    fn new(range: Range<usize>, finding: Finding) -> Self {
        Self {
            range,
            finding,
            replacement: finding.placeholder(),
        }
    }
}

/// What to look for. The default knows everything that can be known without being told.
#[derive(Clone, Debug, Default)]
pub struct Scrubber {
    words: Vec<(String, Finding)>,
}

/// A replacement may complete another pattern; more rounds than this were never seen to be needed.
const ROUNDS: usize = 4;

impl Scrubber {
    /// Also hides a word wherever it stands by itself: the name of a host, a person or a folder
    /// with its path. Words of less than three characters are too common to be told from code, and are
    /// not hidden.
    #[must_use]
    pub fn hiding(mut self, word: &str, finding: Finding) -> Self {
        if word.chars().count() >= 3 {
            self.words.push((word.to_owned(), finding));
        }
        self
    }

    /// Replaces all that is found.
    pub fn scrub<'a>(&self, text: &'a str) -> Scrubbed<'a> {
        let mut scrubbed = Scrubbed {
            text: Cow::Borrowed(text),
            findings: Findings::new(),
        };
        for _ in 0..ROUNDS {
            let hits = self.hits(&scrubbed.text);
            if hits.is_empty() {
                break;
            }
            for hit in &hits {
                *scrubbed.findings.entry(hit.finding).or_default() += 1;
            }
            scrubbed.text = Cow::Owned(replace(&scrubbed.text, &hits));
        }
        scrubbed
    }

    /// What there is to replace, in order and without overlaps.
    fn hits(&self, text: &str) -> Vec<Hit> {
        let mut hits = Vec::new();
        shapes::find(text, &mut hits);
        blocks::find(text, &mut hits);
        assignment::find(text, &mut hits);
        places::find(text, &mut hits);
        for (word, finding) in &self.words {
            find_word(text, word, *finding, &mut hits);
        }
        hits.retain(|hit| text[hit.range.clone()] != *hit.replacement);
        hits.sort_by_key(|hit| (hit.range.start, std::cmp::Reverse(hit.range.end)));
        let mut end = 0;
        hits.retain(|hit| {
            let is_apart = hit.range.start >= end;
            if is_apart {
                end = hit.range.end;
            }
            is_apart
        });
        hits
    }
}

fn replace(text: &str, hits: &[Hit]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for hit in hits {
        out.push_str(&text[done..hit.range.start]);
        out.push_str(hit.replacement);
        done = hit.range.end;
    }
    out.push_str(&text[done..]);
    out
}

fn find_word(text: &str, word: &str, finding: Finding, hits: &mut Vec<Hit>) {
    for (start, _) in text.match_indices(word) {
        let end = start + word.len();
        let goes_on = text[end..].starts_with(|c: char| c.is_alphanumeric() || c == '_');
        if starts_word(text, start) && !goes_on {
            hits.push(Hit::new(start..end, finding));
        }
    }
}

/// Whether a word may begin here. The letter of an escape such as `\n` belongs to no word.
fn starts_word(text: &str, at: usize) -> bool {
    let before = &text[..at];
    match before.chars().next_back() {
        Some(c) if c.is_alphanumeric() || c == '_' => is_escaped(text, at - c.len_utf8()),
        _ => true,
    }
}

/// The end of the run of bytes that `belongs` accepts. These must be ASCII.
fn run_end(text: &str, start: usize, belongs: impl Fn(u8) -> bool) -> usize {
    let rest = &text.as_bytes()[start..];
    start + rest.iter().take_while(|&&byte| belongs(byte)).count()
}

/// The start of the run of bytes before `end` that `belongs` accepts, without the letter of an escape.
fn run_start(text: &str, end: usize, belongs: impl Fn(u8) -> bool) -> usize {
    let before = &text.as_bytes()[..end];
    let run = before.iter().rev().take_while(|&&byte| belongs(byte));
    let start = end - run.count();
    start + usize::from(start < end && is_escaped(text, start))
}

/// Whether the character here is the second of an escape such as `\n`.
fn is_escaped(text: &str, at: usize) -> bool {
    let before = text.as_bytes()[..at].iter().rev();
    before.take_while(|&&byte| byte == b'\\').count() % 2 == 1
}

fn is_base64_url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clean_text_is_not_copied() {
        let scrubbed = Scrubber::default();
        let scrubbed = scrubbed.scrub("x = 1\n");
        assert!(matches!(scrubbed.text, Cow::Borrowed("x = 1\n")));
        assert_eq!(scrubbed.findings, Findings::new());
    }

    #[test]
    fn named_words_are_hidden_where_they_stand_alone() {
        let scrubber = Scrubber::default()
            .hiding("zanzibar", Finding::Host)
            .hiding("/srv/zoe", Finding::Folder)
            .hiding("zoe", Finding::Person)
            .hiding("ab", Finding::Person);
        let scrubbed = scrubber.scrub("at zanzibar, '\\nzoe' in /srv/zoe/x; zoey, azoe, ab");
        assert_eq!(
            scrubbed.text,
            "at host.example.com, '\\nuser' in /project/x; zoey, azoe, ab"
        );
        assert_eq!(scrubbed.findings.values().sum::<usize>(), 3);
    }
}
