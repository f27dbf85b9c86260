//! Text to token ids and back.
//!
//! * [`llama`]: Llama 3's byte-pair encoding with CWM's reserved tokens.
//! * [`chat`]: CWM's messages over it.
//! * [`nano`]: the vocabulary of our own small model.

pub mod chat;
pub mod llama;
pub mod nano;
