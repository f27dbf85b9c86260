//! Versions, and the object `READY` that makes a folder one.
//!
//! Promises: what [`Version::from_ready`] accepts can be fetched without leaving the folder it is
//! fetched into, whoever wrote it; versions sort as people count: `step-9` before `step-10`.

use std::cmp::Ordering;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::Error;

/// Name of the object that makes a version one.
pub(crate) const READY: &str = "READY";
const FORMAT: u32 = 1;
/// Hexadecimal digits of a digest of contents: 128 bits.
const CONTENT_DIGITS: usize = 32;
const MAX_NAME: usize = 200;

/// A folder in a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Version {
    /// What it was stored as.
    pub name: String,
    /// Digest of names, sizes and SHA-256 of its files, in hexadecimal.
    pub content: String,
    /// Its files, sorted by path.
    pub files: Vec<StoredFile>,
    /// When it became a version, by the store's clock.
    #[serde(skip)]
    pub ready_at: SystemTime,
}

/// A file of a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredFile {
    /// From the version's folder, with `/` between the parts.
    pub path: String,
    /// Size.
    pub bytes: u64,
    /// SHA-256 of the contents, in hexadecimal.
    pub sha256: String,
}

/// Contents of `READY`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ready {
    format: u32,
    content: String,
    files: Vec<StoredFile>,
}

impl Version {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// The text of `READY` for these files.
    pub(crate) fn to_ready(content: &str, files: &[StoredFile]) -> Vec<u8> {
        let ready = Ready {
            format: FORMAT,
            content: content.to_owned(),
            files: files.to_vec(),
        };
        let mut text = serde_json::to_vec_pretty(&ready)
            .expect("texts and numbers under fixed names are always JSON");
        text.push(b'\n');
        text
    }

    /// Reads a `READY`; an error is a reason for a person.
    pub(crate) fn from_ready(
        name: &str,
        text: &[u8],
        ready_at: SystemTime,
    ) -> Result<Self, String> {
        let ready: Ready = serde_json::from_slice(text)
            .map_err(|error| format!("it does not say what the version consists of ({error})"))?;
        if ready.format != FORMAT {
            let found = ready.format;
            return Err(format!(
                "it has format {found}, and this program reads format {FORMAT}"
            ));
        }
        if let Some(file) = ready.files.iter().find(|file| !is_inside(&file.path)) {
            return Err(format!(
                "it names a file outside its folder: `{}`",
                file.path.escape_debug()
            ));
        }
        if ready.content != content_of(&ready.files) {
            return Err("its digest is not that of the files it names".to_owned());
        }
        Ok(Self {
            name: name.to_owned(),
            content: ready.content,
            files: ready.files,
            ready_at,
        })
    }
}

/// The digest of files, which are sorted by path.
pub(crate) fn content_of(files: &[StoredFile]) -> String {
    let mut hasher = Sha256::new();
    for file in files {
        // The length first, so that no path can pass for the end of a line.
        let line = format!(
            "{} {} {} {}\n",
            file.path.len(),
            file.path,
            file.bytes,
            file.sha256
        );
        hasher.update(line);
    }
    let mut digest = hexadecimal(&hasher.finalize());
    digest.truncate(CONTENT_DIGITS);
    digest
}

/// Whether a part of a key is where the files of some contents are.
pub(crate) fn is_content(part: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    part.len() == CONTENT_DIGITS && part.bytes().all(is_digit)
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    if is_name(name) {
        Ok(())
    } else {
        Err(Error::Name(name.to_owned()))
    }
}

pub(crate) fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    !name.is_empty()
        && name.len() <= MAX_NAME
        && !name.starts_with('.')
        && name.bytes().all(is_plain)
}

/// Whether a path stays below the folder that it is joined to, on every system.
fn is_inside(path: &str) -> bool {
    let is_part = |part: &str| {
        let is_strange = |c: char| c == '\\' || c == ':' || c.is_control();
        !matches!(part, "" | "." | "..") && !part.contains(is_strange)
    };
    path.split('/').all(is_part)
}

/// Why a path cannot be kept, if so.
pub(crate) fn refusal(path: &str) -> Option<&'static str> {
    (!is_inside(path)).then_some(
        "names of files with `\\`, `:` or control characters do not work on every system",
    )
}

/// Order of names: runs of digits by their number, all else by characters.
pub(crate) fn natural_order(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    while !left.is_empty() && !right.is_empty() {
        let (first, rest_of_left) = token(left);
        let (second, rest_of_right) = token(right);
        let by_number = is_number(first) && is_number(second);
        let order = if by_number {
            let (first, second) = (
                first.trim_start_matches('0'),
                second.trim_start_matches('0'),
            );
            first
                .len()
                .cmp(&second.len())
                .then_with(|| first.cmp(second))
        } else {
            first.cmp(second)
        };
        if order.is_ne() {
            return order;
        }
        (left, right) = (rest_of_left, rest_of_right);
    }
    // `a1` and `a01` are not the same.
    left.len().cmp(&right.len()).then_with(|| a.cmp(b))
}

/// A run of digits or one other character, and what follows.
fn token(text: &str) -> (&str, &str) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let first = text.chars().next().map_or(0, char::len_utf8);
    text.split_at(digits.max(first))
}

fn is_number(token: &str) -> bool {
    token.starts_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(path: &str) -> StoredFile {
        StoredFile {
            path: path.to_owned(),
            bytes: 3,
            sha256: "00".repeat(32),
        }
    }

    fn read(text: &[u8]) -> Result<Version, String> {
        Version::from_ready("a", text, SystemTime::UNIX_EPOCH)
    }

    #[track_caller]
    fn assert_refused(text: &[u8], why: &str) {
        let reason = read(text).expect_err("refused");
        assert!(reason.contains(why), "{reason}");
    }

    #[test]
    fn ready_round_trips() {
        let files = vec![file("a/b.json"), file("model.safetensors")];
        let content = content_of(&files);
        let version = read(&Version::to_ready(&content, &files)).expect("whole");
        assert_eq!((version.content, version.files), (content, files));
    }

    #[test]
    fn a_ready_of_others_is_refused() {
        let files = vec![file("model.safetensors")];
        let text = |content: &str, files: &[StoredFile]| Version::to_ready(content, files);
        let good = String::from_utf8(text(&content_of(&files), &files)).expect("JSON");
        assert_refused(b"", "does not say");
        assert_refused(b"{}", "does not say");
        assert_refused(
            good.replace("\"bytes\"", "\"size\"").as_bytes(),
            "does not say",
        );
        assert_refused(
            good.replace("\"format\": 1", "\"format\": 2").as_bytes(),
            "format 2",
        );
        assert_refused(good.replace("3", "4").as_bytes(), "digest");
        for path in [
            "../a", "/etc/a", "a//b", "a/./b", "..", "", "a\\b", "C:a", "a\nb",
        ] {
            let files = [file(path)];
            assert_refused(&text(&content_of(&files), &files), "outside its folder");
        }
    }

    #[test]
    fn names_are_plain() {
        for name in ["step-000100", "a", "v1.2_b", &"x".repeat(200)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", ".a", "..", "a/b", "a b", "é", &"x".repeat(201)] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn numbers_sort_by_their_value() {
        let mut names = [
            "b",
            "step-10",
            "step-9",
            "step-1000000",
            "step-999999",
            "a1b",
            "a01b",
            "a",
        ];
        names.sort_by(|a, b| natural_order(a, b));
        let expected = [
            "a",
            "a01b",
            "a1b",
            "b",
            "step-9",
            "step-10",
            "step-999999",
            "step-1000000",
        ];
        assert_eq!(names, expected);
    }

    proptest! {
        #[test]
        fn the_order_is_one(a in "[a0-9-]{0,5}", b in "[a0-9-]{0,5}", c in "[a0-9-]{0,5}") {
            prop_assert_eq!(natural_order(&a, &b), natural_order(&b, &a).reverse());
            prop_assert_eq!(natural_order(&a, &b).is_eq(), a == b);
            if natural_order(&a, &b).is_le() && natural_order(&b, &c).is_le() {
                prop_assert!(natural_order(&a, &c).is_le());
            }
        }

        #[test]
        fn reading_never_panics(text in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = read(&text);
        }
    }
}
