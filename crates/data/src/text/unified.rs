//! Unified diffs: made from two texts, read strictly, applied exactly.
//!
//! The form is that of `git diff`, as a model meets it everywhere: a `diff --git` line for each
//! file, three lines of context, `\ No newline at end of file`. [`diff`] makes it without git, so
//! that the same change gives the same bytes on every machine. [`apply`] refuses a hunk whose lines
//! are not where it says: nothing is searched for and nothing guessed.

mod apply;
mod make;
mod parse;

pub use apply::{ApplyError, apply};
pub use make::{Change, MAX_EDITS, diff};
pub use parse::{DiffError, FileDiff, Hunk, Line, parse};
