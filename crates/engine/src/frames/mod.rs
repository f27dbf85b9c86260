//! Decoding held to the frames of the `cwm` dialect.
//!
//! [`FrameGrammar`] is what a trace of one program may look like, to the byte: the writing of
//! [`cwm_trace::cwm`] with the program's own names and lines. [`Frames`] follows one trace
//! through it, as a [`Constraint`](crate::Constraint) over the tokens of any vocabulary of bytes
//! ([`FrameVocabulary`]). What it lets through reads back without a fault; what `cwm_trace` writes
//! is let through.
//!
//! A trace is frames and an end. Each frame is one of
//!
//! ```text
//! call_sep  locals action_sep LINE frame_sep          every value in full
//! line_sep  locals action_sep LINE frame_sep          `".."` where the scope showed the variable
//! return_sep       action_sep LINE arg_sep STRING frame_sep
//! exception_sep    action_sep LINE arg_sep STRING frame_sep
//! ```
//!
//! where `locals` is `{"x": "1", "y": ".."}`, no name twice. The first frame is a call; the end
//! stands where every call has returned and nowhere else.
//!
//! What it does not look at is what values mean: a variable that has kept its value may be written
//! in full, and any frame may follow any other inside a call.

mod automaton;
mod constraint;
mod grammar;
mod names;
mod sets;
mod string;
mod vocabulary;
mod words;

pub use constraint::Frames;
pub use grammar::FrameGrammar;
pub use vocabulary::{FrameTokens, FrameVocabulary, VocabularyError};
