//! The Llama-3 byte-pair encoding with CWM's reserved tokens.
//!
//! The vocabulary comes from a `tokenizer.model` file: one token a line, its
//! bytes in base64 and its rank. After the N ranks of the file come 256
//! reserved ids, N + offset; see [`Special`] for those with a name. Ids equal
//! those of tiktoken with Meta's settings.
//!
//! **Long texts.** Like Meta's code, [`Llama::encode`] cuts a text of 400,000
//! characters or more into pieces of 400,000 and encodes each by itself, so a
//! token boundary falls on every cut. (Characters are code points.)

mod markup;
mod merge;
mod ranks;
mod special;
mod split;
mod unicode;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use self::markup::{Markup, ND_TOKENS};
pub use self::ranks::BadFile;
pub use self::special::{RESERVED, Special};

use self::merge::Merger;
use self::ranks::Ranks;
use self::special::Segment;

/// Texts are cut after this many characters before they are encoded.
pub const CUT: usize = 400_000;

/// Number of tokens of Llama 3, not counting the reserved ones.
pub const TOKENS: usize = 128_000;

/// A tokenizer made from a `tokenizer.model` file.
#[derive(Debug)]
pub struct Llama {
    ranks: Ranks,
}

/// Why a tokenizer could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file could not be read.
    #[error("cannot read the tokenizer {path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is not a Llama-3 `tokenizer.model`.
    #[error(
        "{path} is not a `tokenizer.model` file of the Llama-3 kind: {reason}",
        path = path.display()
    )]
    Bad {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: BadFile,
    },
}

/// An id that the vocabulary does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("token id {id} is outside the vocabulary of {vocabulary} tokens")]
pub struct UnknownId {
    /// The id.
    pub id: u32,
    /// Number of ids there are.
    pub vocabulary: usize,
}

impl Llama {
    /// Reads the `tokenizer.model` file of Llama 3: [`TOKENS`] tokens, so that
    /// the reserved ids are those of CWM.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, LoadError> {
        let path = path.as_ref();
        let bytes = fs::read(path).map_err(|source| LoadError::Io {
            path: path.to_owned(),
            source,
        })?;
        let bad = |reason| LoadError::Bad {
            path: path.to_owned(),
            reason,
        };
        let llama = Self::from_bytes(&bytes).map_err(bad)?;
        match llama.ranks.len() {
            TOKENS => Ok(llama),
            found => Err(bad(BadFile::Count {
                found,
                expected: TOKENS,
            })),
        }
    }

    /// A tokenizer whose tokens are the 256 bytes, each with its own value for an id; the reserved ids follow from
    /// 256 on. It needs no file, and everything that a larger vocabulary can write it can write too, in
    /// more tokens.
    pub fn bytes() -> Self {
        Self {
            ranks: Ranks::bytes(),
        }
    }

    /// Reads the content of a file like `tokenizer.model`, with any number of
    /// tokens; the reserved ids follow them.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadFile> {
        Ok(Self {
            ranks: Ranks::parse(bytes)?,
        })
    }

    /// How many ids there are, reserved ones included.
    pub fn vocabulary(&self) -> usize {
        self.ranks.len() + RESERVED
    }

    /// The id of a reserved token with a name.
    pub fn id(&self, special: Special) -> u32 {
        self.base() + special.offset()
    }

    /// The id of a reserved token by its text, such as `<|frame_sep|>` or
    /// `<|reserved_special_token_2|>`.
    pub fn special_id(&self, text: &str) -> Option<u32> {
        special::offset_of(text).map(|offset| self.base() + offset)
    }

    /// The ids that end a reply: end of message, of turn, of text.
    pub fn stop_ids(&self) -> [u32; 3] {
        [
            Special::EndOfMessage,
            Special::EndOfTurn,
            Special::EndOfText,
        ]
        .map(|s| self.id(s))
    }

    /// Encodes a text. Texts of special tokens in it are ordinary text.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        self.encode_into(text, &mut ids);
        ids
    }

    /// As [`Llama::encode`], appending to `ids`.
    pub fn encode_into(&self, text: &str, ids: &mut Vec<u32>) {
        let mut merger = Merger::new(&self.ranks);
        for part in cut(text) {
            for piece in split::pieces(part) {
                merger.encode(piece.as_bytes(), ids);
            }
        }
    }

    /// Encodes a text in which texts of special tokens stand for them. The
    /// stretches between them are encoded, and cut, each by itself.
    ///
    /// Only for text this program made: with text of others, use
    /// [`Llama::encode`], or they can write what only the program should.
    pub fn encode_with_specials(&self, text: &str) -> Vec<u32> {
        self.encode_allowing(text, |_| true)
    }

    /// As [`Llama::encode_with_specials`] for those special tokens that
    /// `allowed` holds true of, given their ids; others are ordinary text.
    pub fn encode_allowing(&self, text: &str, allowed: impl Fn(u32) -> bool) -> Vec<u32> {
        let mut ids = Vec::new();
        special::segments(
            text,
            |name| special::offset_of(name).filter(|offset| allowed(self.base() + offset)),
            |segment| match segment {
                Segment::Text(text) => self.encode_into(text, &mut ids),
                Segment::Special(offset) => ids.push(self.base() + offset),
            },
        );
        ids
    }

    /// The bytes that ids stand for. They need not be UTF-8: a character may
    /// be spread over tokens.
    pub fn decode_bytes(&self, ids: &[u32]) -> Result<Vec<u8>, UnknownId> {
        let mut bytes = Vec::with_capacity(4 * ids.len());
        for &id in ids {
            match self.ranks.token(id) {
                Some(token) => bytes.extend_from_slice(token),
                None => bytes.extend_from_slice(self.special_text(id)?.as_bytes()),
            }
        }
        Ok(bytes)
    }

    /// The text that ids stand for, with `U+FFFD` for what is not UTF-8.
    pub fn decode(&self, ids: &[u32]) -> Result<String, UnknownId> {
        let bytes = self.decode_bytes(ids)?;
        Ok(String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    fn special_text(&self, id: u32) -> Result<String, UnknownId> {
        let offset = id
            .checked_sub(self.base())
            .and_then(|offset| u8::try_from(offset).ok());
        offset.map(special::text_of).ok_or(UnknownId {
            id,
            vocabulary: self.vocabulary(),
        })
    }

    /// The first reserved id.
    fn base(&self) -> u32 {
        self.ranks.base()
    }
}

/// Cuts a text after every [`CUT`] characters.
pub(crate) fn cut(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        // A text of few bytes has few characters, and needs no counting.
        let end = match text.len() {
            0 => return None,
            short @ ..CUT => short,
            long => text.char_indices().nth(CUT).map_or(long, |(end, _)| end),
        };
        let (part, rest) = text.split_at(end);
        text = rest;
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_need_no_file_and_chat_works_over_them() {
        use crate::chat::{Message, Role, encode_dialog};

        let llama = Llama::bytes();
        assert_eq!(llama.vocabulary(), 512);
        let all: Vec<u8> = (0..=255).collect();
        let ids: Vec<u32> = (0..=255).collect();
        assert_eq!(llama.decode_bytes(&ids), Ok(all));
        let text = "é def f(x):\n\treturn  'a'";
        let ids = llama.encode(text);
        assert!(ids.iter().copied().eq(text.bytes().map(u32::from)));
        let message = Message {
            role: Role::User,
            body: "hi".to_owned(),
        };
        let dialog = encode_dialog(&llama, &[message]).expect("a dialog");
        assert_eq!(
            llama.decode(&dialog).as_deref(),
            Ok("<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>")
        );
        assert_eq!(dialog.last(), Some(&(256 + 9)));
    }

    #[test]
    fn long_texts_are_cut_by_characters() {
        let lengths = |text: &str| {
            cut(text)
                .map(|part| part.chars().count())
                .collect::<Vec<_>>()
        };
        assert!(lengths("").is_empty());
        assert_eq!(lengths("é"), [1]);
        assert_eq!(lengths(&"é".repeat(CUT - 1)), [CUT - 1]);
        assert_eq!(lengths(&"é".repeat(CUT)), [CUT]);
        assert_eq!(lengths(&"é".repeat(2 * CUT + 3)), [CUT, CUT, 3]);
        assert_eq!(lengths(&"e".repeat(CUT + 1)), [CUT, 1]);
    }
}
