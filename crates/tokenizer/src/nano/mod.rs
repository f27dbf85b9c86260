//! The small model's own vocabulary.
//!
//! Fewer than a thousand tokens: one per character inside strings, one per
//! digit inside numbers, one per line number, nesting depth and loop ordinal,
//! one per keyword, operator, builtin and method of builtin types, and a pool
//! of *symbols*: every other identifier of a program becomes the symbol of
//! its first appearance, since names carry no meaning for execution.
//!
//! Digits of whole numbers stand lowest first, so that a carry is known when
//! it is needed.
//!
//! [`Vocabulary`] holds the tokens, [`Codec`] translates one program's source
//! and [window pieces](cwm_trace::live::Piece) to ids and ids back to text.

mod codec;
mod edit;
mod lex;
mod names;
mod notes;
mod text;
mod vocabulary;
mod words;

pub use codec::{Codec, CodecError, Offsets};
pub use edit::Shape;
pub use vocabulary::{Token, Vocabulary, VocabularyError};
