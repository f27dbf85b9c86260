//! Changes of a repository, as a pull request shows them: what it is about, the files before, the diff.
//!
//! A merge on the main line is a pull request: its title and body are those that GitHub and GitLab
//! write into the message, and its change is all that came with it. Any other commit is a change
//! with its own message. Rendered:
//!
//! ```text
//! # TITLE
//!
//! BODY in a fence, if there is one
//!
//! ## PATH, with the file before in a fence; for each file that the change touches
//!
//! ## Change, with the diff in a fence
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::git::{Blob, Commit, Object, Objects, Touched, parse_commit, touched};
use super::layout::{self, ParseError, Reader};
use super::unified::{Change, diff};
use super::{Content, Document, GitError, Material, Skip};
use crate::scrub::Scrubber;

pub use super::git::{History, commits};

/// A change of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PullRequest {
    /// Its number on the site it comes from, where the message says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// What it does, on one line.
    pub title: String,
    /// What else is said about it; may be empty.
    pub body: String,
    /// The files that it touches, as they were, by path. New files are not among them.
    pub files: BTreeMap<String, String>,
    /// What it changes in them, as [`super::unified`] writes it.
    pub diff: String,
}

/// What is too much for one document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Files that a change touches.
    pub files: usize,
    /// Bytes of all files together, before or afterwards.
    pub bytes: usize,
    /// Bytes of the diff.
    pub diff_bytes: usize,
}

impl Default for Limits {
    /// What fits into some 30,000 tokens.
    fn default() -> Self {
        Self {
            files: 16,
            bytes: 96 << 10,
            diff_bytes: 32 << 10,
        }
    }
}

impl PullRequest {
    /// The text a model trains on.
    pub fn render(&self) -> String {
        let mut out = String::new();
        layout::heading(&mut out, 1, &self.title);
        if !self.body.is_empty() {
            layout::block(&mut out, "markdown", &self.body);
        }
        for (path, text) in &self.files {
            layout::heading(&mut out, 2, &format!("{BEFORE}{path}"));
            layout::block(&mut out, layout::language_of(path), text);
        }
        layout::heading(&mut out, 2, CHANGE);
        layout::block(&mut out, "diff", &self.diff);
        out
    }

    /// Reads a rendering back: all but the number, which it does not say.
    ///
    /// # Errors
    /// [`ParseError`], with the line.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut reader = Reader::new(text);
        let title = reader.heading(1, "")?.to_owned();
        let body = reader.block_of("markdown").unwrap_or_default();
        let mut files = BTreeMap::new();
        while let Some(path) = reader.heading_if(2, BEFORE) {
            files.insert(path.to_owned(), reader.block()?.1);
        }
        reader.heading(2, CHANGE)?;
        let diff = reader.block_of("diff")?;
        reader.end()?;
        Ok(Self {
            number: None,
            title,
            body,
            files,
            diff,
        })
    }
}

const BEFORE: &str = "Before: ";
const CHANGE: &str = "Change";

/// The document of one commit. `material` says the project and the licence; its version becomes the commit.
///
/// Whatever `scrubber` finds is replaced in the message and in the files before the diff is made,
/// so that the diff still leads from one to the other.
///
/// # Errors
/// When git fails. A commit that cannot be used is `Ok(Err(_))`.
pub fn pull_request(
    objects: &mut Objects,
    commit: &str,
    material: &Material,
    limits: &Limits,
    scrubber: &Scrubber,
) -> Result<Result<Document, Skip>, GitError> {
    let content = match change(objects, commit, limits, scrubber) {
        Ok(change) => change,
        Err(Stop::Skip(reason)) => return Ok(Err(reason)),
        Err(Stop::Git(error)) => return Err(error),
    };
    let mut material = material.clone();
    commit.clone_into(&mut material.origin.version);
    Ok(Ok(Document::new(
        &material,
        "",
        Content::PullRequest(content),
    )))
}

/// Why there is no document, in one type so that `?` works.
enum Stop {
    Skip(Skip),
    Git(GitError),
}

impl From<Skip> for Stop {
    fn from(reason: Skip) -> Self {
        Self::Skip(reason)
    }
}

impl From<GitError> for Stop {
    fn from(error: GitError) -> Self {
        Self::Git(error)
    }
}

fn change(
    objects: &mut Objects,
    commit: &str,
    limits: &Limits,
    scrubber: &Scrubber,
) -> Result<PullRequest, Stop> {
    let bytes = object(objects, commit, limits.bytes)?;
    let read = parse_commit(bytes).ok_or(Skip::NotText)?;
    let base = read.parents.first().ok_or(Skip::NoBase)?;
    let message = Message::of(&read).ok_or(Skip::NoDescription)?;
    let touched = match touched(objects.folder(), base, commit) {
        // The commit itself was read, so what git refuses for is an object that this copy lacks.
        Err(GitError::Refused { .. }) => return Err(Skip::Missing.into()),
        found => found?,
    };
    if touched.is_empty() {
        return Err(Skip::Empty.into());
    }
    if touched.len() > limits.files {
        return Err(Skip::TooLarge.into());
    }
    let sides = sides(objects, &touched, limits, scrubber)?;
    let mut all = String::new();
    let mut files = BTreeMap::new();
    for (old, new) in sides {
        let change = Change {
            old: old.as_ref().map(|(path, text)| (&**path, &**text)),
            new: new.as_ref().map(|(path, text)| (&**path, &**text)),
        };
        all.push_str(&diff(change).ok_or(Skip::TooLarge)?);
        files.extend(old);
    }
    if all.is_empty() {
        // Only modes differ, or only what must not be shown.
        return Err(Skip::Empty.into());
    }
    if all.len() > limits.diff_bytes {
        return Err(Skip::TooLarge.into());
    }
    Ok(PullRequest {
        number: message.number,
        title: scrubber.scrub(&message.title).text.into_owned(),
        body: scrubber.scrub(&message.body).text.into_owned(),
        files,
        diff: all,
    })
}

fn object(objects: &mut Objects, id: &str, most: usize) -> Result<Vec<u8>, Stop> {
    match objects.read(id, most)? {
        Object::Bytes(bytes) => Ok(bytes),
        Object::TooLarge => Err(Skip::TooLarge.into()),
        Object::Missing => Err(Skip::Missing.into()),
    }
}

/// Path and text of a file before and afterwards.
type Sides = (Option<(String, String)>, Option<(String, String)>);

fn sides(
    objects: &mut Objects,
    touched: &[Touched],
    limits: &Limits,
    scrubber: &Scrubber,
) -> Result<Vec<Sides>, Stop> {
    let mut left = (limits.bytes, limits.bytes);
    let mut sides = Vec::new();
    for file in touched {
        let old = side(objects, file.old.as_ref(), &mut left.0, scrubber)?;
        let new = side(objects, file.new.as_ref(), &mut left.1, scrubber)?;
        sides.push((old, new));
    }
    Ok(sides)
}

fn side(
    objects: &mut Objects,
    blob: Option<&Blob>,
    left: &mut usize,
    scrubber: &Scrubber,
) -> Result<Option<(String, String)>, Stop> {
    let Some(blob) = blob else { return Ok(None) };
    // A regular file, executable or not; links and other repositories have other modes.
    if !blob.mode.starts_with("100") {
        return Err(Skip::NotText.into());
    }
    let path = std::str::from_utf8(&blob.path).map_err(|_| Skip::OddPath)?;
    if path.contains(['"', '\\']) || path != layout::one_line(path) {
        return Err(Skip::OddPath.into());
    }
    let bytes = object(objects, &blob.id, *left)?;
    *left -= bytes.len();
    let text = String::from_utf8(bytes).map_err(|_| Skip::NotText)?;
    if text.contains('\0') {
        return Err(Skip::NotText.into());
    }
    let text = scrubber.scrub(&text).text.into_owned();
    Ok(Some((path.to_owned(), text)))
}

/// What a commit says of itself.
#[derive(Debug, PartialEq, Eq)]
struct Message {
    number: Option<u64>,
    title: String,
    body: String,
}

impl Message {
    fn of(commit: &Commit) -> Option<Self> {
        let lines: Vec<&str> = commit.message.lines().map(str::trim_end).collect();
        let lines: Vec<&str> = lines.into_iter().filter(|line| !is_trailer(line)).collect();
        let (first, rest) = lines.split_first()?;
        let is_merge = commit.parents.len() > 1;
        let mut rest = rest.iter().copied().skip_while(|line| line.is_empty());
        // "Merge pull request #7 from a/b" and "Merge branch 'a' into 'b'" say nothing; the title follows.
        let title = if is_merge && first.starts_with("Merge ") {
            rest.next()?
        } else {
            first
        };
        let body: Vec<&str> = rest.skip_while(|line| line.is_empty()).collect();
        let body = body.join("\n");
        let number = number(first).or_else(|| body.lines().rev().find_map(gitlab_number));
        let title = without_number(title);
        let body = body.trim();
        (!title.is_empty()).then(|| Self {
            number,
            title: layout::one_line(title),
            body: if body.is_empty() {
                String::new()
            } else {
                format!("{body}\n")
            },
        })
    }
}

/// Lines that name people or tools, and say nothing about the change.
fn is_trailer(line: &str) -> bool {
    const NAMES: [&str; 9] = [
        "signed-off-by:",
        "co-authored-by:",
        "reviewed-by:",
        "acked-by:",
        "tested-by:",
        "reported-by:",
        "suggested-by:",
        "cc:",
        "change-id:",
    ];
    let line = line.trim_start().to_ascii_lowercase();
    NAMES.iter().any(|name| line.starts_with(name))
}

/// The number in "Merge pull request #7 from a/b" and in "Title (#7)".
fn number(line: &str) -> Option<u64> {
    if let Some(rest) = line.strip_prefix("Merge pull request #") {
        return rest.split(' ').next()?.parse().ok();
    }
    let (_, rest) = line.trim_end().strip_suffix(')')?.rsplit_once("(#")?;
    rest.parse().ok()
}

/// The number in "See merge request group/project!7".
fn gitlab_number(line: &str) -> Option<u64> {
    let rest = line.strip_prefix("See merge request ")?;
    rest.rsplit_once('!')?.1.parse().ok()
}

/// A title without the number that GitHub puts behind it.
fn without_number(title: &str) -> &str {
    match title.rsplit_once(" (#") {
        Some((start, _)) if number(title).is_some() => start,
        _ => title,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(parents: usize, message: &str) -> Option<(Option<u64>, String, String)> {
        let commit = Commit {
            parents: vec!["p".into(); parents],
            message: message.into(),
        };
        Message::of(&commit).map(|m| (m.number, m.title, m.body))
    }

    #[track_caller]
    fn says(parents: usize, text: &str, number: Option<u64>, title: &str, body: &str) {
        let wanted = (number, title.to_owned(), body.to_owned());
        assert_eq!(message(parents, text), Some(wanted));
    }

    #[test]
    fn messages_say_what_a_change_is_about() {
        let github =
            "Merge pull request #7 from a/b\n\nFix  x\n\nMore.\n\nSigned-off-by: A <a@b.cd>\n";
        says(2, github, Some(7), "Fix x", "More.\n");
        let gitlab = "Merge branch 'a' into 'b'\n\nFix x\n\nSee merge request g/p!12";
        says(2, gitlab, Some(12), "Fix x", "See merge request g/p!12\n");
        says(
            1,
            "Fix x (#5)\n\n* a\n* b\n",
            Some(5),
            "Fix x",
            "* a\n* b\n",
        );
        says(1, "Merge sort is faster", None, "Merge sort is faster", "");
        assert_eq!(message(2, "Merge branch 'a'\n"), None);
        assert_eq!(message(1, "\n"), None);
    }
}
