//! What the dialects with special tokens share: the tokens' texts, JSON as
//! Python writes it, lines as Python counts them, and a reader that says where
//! a text is broken.

pub(crate) mod cursor;
pub(crate) mod json;
pub(crate) mod source;
pub(crate) mod special;

/// Stands for what has not changed since it was last shown.
pub(crate) const UNCHANGED: &str = "..";
