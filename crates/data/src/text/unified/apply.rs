//! Applies a diff to the texts that it was made for.

use std::collections::BTreeMap;

use super::parse::{FileDiff, Hunk, Line};

/// Why a diff does not apply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// There is no such file.
    #[error("there is no file `{0}` to change")]
    NoFile(String),
    /// A new file is there already.
    #[error("the new file `{0}` is there already")]
    Exists(String),
    /// The text is another one than the diff was made for.
    #[error("line {line} of `{path}` is not what the diff says")]
    Mismatch {
        /// The file.
        path: String,
        /// 1-based.
        line: usize,
    },
    /// Hunks overlap, or lie beyond the end or in the wrong order.
    #[error("the hunk for line {line} of `{path}` cannot lie there")]
    Place {
        /// The file.
        path: String,
        /// 1-based.
        line: usize,
    },
    /// A file that is deleted would not be empty.
    #[error("the deleted file `{0}` is not empty afterwards")]
    Rest(String),
}

/// The files after the change, from those before it, by path. Files that the diff does not name stay.
///
/// # Errors
/// [`ApplyError`] wherever diff and files disagree in the least.
pub fn apply(
    files: &BTreeMap<String, String>,
    diff: &[FileDiff],
) -> Result<BTreeMap<String, String>, ApplyError> {
    let mut after = files.clone();
    // All old files go before the new ones come, since two of them may swap their names.
    let mut new = Vec::new();
    for file in diff {
        let before = match &file.old {
            Some(path) => after
                .remove(path)
                .ok_or_else(|| ApplyError::NoFile(path.clone()))?,
            None => String::new(),
        };
        let path = file.old.as_ref().or(file.new.as_ref());
        let path = path.map_or("", String::as_str);
        let text = apply_hunks(path, &before, &file.hunks)?;
        match &file.new {
            Some(path) => new.push((path.clone(), text)),
            None if text.is_empty() => {}
            None => return Err(ApplyError::Rest(path.to_owned())),
        }
    }
    for (path, text) in new {
        if after.insert(path.clone(), text).is_some() {
            return Err(ApplyError::Exists(path));
        }
    }
    Ok(after)
}

fn apply_hunks(path: &str, before: &str, hunks: &[Hunk]) -> Result<String, ApplyError> {
    let old: Vec<&str> = before.split_inclusive('\n').collect();
    let mut after = Vec::new();
    let mut done = 0;
    for hunk in hunks {
        let covers_old = hunk
            .lines
            .iter()
            .any(|line| !matches!(line, Line::Added(_)));
        let covers_new = hunk
            .lines
            .iter()
            .any(|line| !matches!(line, Line::Removed(_)));
        let old_place = place(hunk.old_start, covers_old);
        let new_place = place(hunk.new_start, covers_new);
        let between = old_place.and_then(|place| old.get(done..place));
        let wrong = || ApplyError::Place {
            path: path.to_owned(),
            line: hunk.old_start,
        };
        after.extend_from_slice(between.ok_or_else(wrong)?);
        done += between.map_or(0, <[&str]>::len);
        if new_place != Some(after.len()) {
            return Err(wrong());
        }
        for line in &hunk.lines {
            let (Line::Context(text) | Line::Removed(text) | Line::Added(text)) = line;
            if !matches!(line, Line::Added(_)) {
                if old.get(done) != Some(&text.as_str()) {
                    return Err(ApplyError::Mismatch {
                        path: path.to_owned(),
                        line: done + 1,
                    });
                }
                done += 1;
            }
            if !matches!(line, Line::Removed(_)) {
                after.push(text);
            }
        }
    }
    after.extend_from_slice(&old[done..]);
    Ok(after.concat())
}

/// How many lines precede a hunk. One that covers no line names the line before it.
fn place(start: usize, covers: bool) -> Option<usize> {
    if covers {
        start.checked_sub(1)
    } else {
        Some(start)
    }
}
