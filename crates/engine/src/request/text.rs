//! The text of a generation as it grows: tokens in, text out, with stop strings.
//!
//! Each byte is looked at once, whatever was generated before. Text is held back only while it
//! may be the beginning of a stop string or of a character; put together, what is released is the
//! lossy UTF-8 decoding of all bytes before the stop string.

/// The bytes that tokens stand for. A character may be spread over tokens.
pub trait TokenText {
    /// Appends the bytes of one token to `out`; none for a token that has no text.
    fn append_bytes(&self, id: u32, out: &mut Vec<u8>);
}

impl TokenText for cwm_tokenizer::llama::Llama {
    /// Reserved tokens have their names for text. Ids outside the vocabulary have none.
    fn append_bytes(&self, id: u32, out: &mut Vec<u8>) {
        out.extend(self.decode_bytes(&[id]).unwrap_or_default());
    }
}

/// Finds one string in a stream of bytes (Knuth, Morris & Pratt, 1977).
#[derive(Clone, Debug)]
struct Finder {
    pattern: Vec<u8>,
    /// For each length of a matched beginning, the longest shorter beginning that ends it.
    fallback: Vec<usize>,
    /// Bytes of the pattern that end the stream so far.
    matched: usize,
}

impl Finder {
    /// `pattern` is not empty.
    fn new(pattern: &str) -> Self {
        let pattern = pattern.as_bytes().to_vec();
        let mut fallback = vec![0; pattern.len() + 1];
        let mut border = 0;
        for end in 1..pattern.len() {
            while border > 0 && pattern[end] != pattern[border] {
                border = fallback[border];
            }
            border += usize::from(pattern[end] == pattern[border]);
            fallback[end + 1] = border;
        }
        Self {
            pattern,
            fallback,
            matched: 0,
        }
    }

    /// Takes one byte; says whether the pattern ends with it.
    fn push(&mut self, byte: u8) -> bool {
        if self.matched == self.pattern.len() {
            self.matched = self.fallback[self.matched];
        }
        while self.matched > 0 && self.pattern[self.matched] != byte {
            self.matched = self.fallback[self.matched];
        }
        self.matched += usize::from(self.pattern[self.matched] == byte);
        self.matched == self.pattern.len()
    }
}

/// What a [`TextStream`] makes of a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// Text that is certain now; the end of it when a stop string was found.
    pub text: String,
    /// Which of the stop strings was found, by index. It is not part of the text, nor is what
    /// followed it in the same token.
    pub stop: Option<usize>,
}

/// Turns the bytes of tokens into text that can be shown at once, up to the first stop string.
///
/// Of several stop strings the one that ends first counts, and of those that end together the
/// longest.
#[derive(Clone, Debug)]
pub struct TextStream {
    stops: Vec<Finder>,
    /// Bytes that are not released yet.
    held: Vec<u8>,
}

impl TextStream {
    /// A stream without text. Empty stop strings are left out: they would end every text at once.
    pub fn new(stop_strings: &[String]) -> Self {
        let stops = stop_strings.iter().filter(|stop| !stop.is_empty());
        Self {
            stops: stops.map(|stop| Finder::new(stop)).collect(),
            held: Vec::new(),
        }
    }

    /// Takes the bytes of the next token.
    pub fn push(&mut self, bytes: &[u8]) -> Released {
        for &byte in bytes {
            self.held.push(byte);
            if let Some((index, len)) = self.find(byte) {
                self.held.truncate(self.held.len() - len);
                return Released {
                    text: self.finish(),
                    stop: Some(index),
                };
            }
        }
        let begun = self.stops.iter().map(|stop| stop.matched).max();
        let sure = self.held.len() - begun.unwrap_or(0);
        let (text, used) = decode(&self.held[..sure]);
        self.held.drain(..used);
        Released { text, stop: None }
    }

    /// Releases what is held back, because nothing follows.
    pub fn finish(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.held).into_owned();
        self.held.clear();
        text
    }

    /// Shows a byte to every finder; the longest stop string that ends with it and its length.
    fn find(&mut self, byte: u8) -> Option<(usize, usize)> {
        let mut found: Option<(usize, usize)> = None;
        for (index, stop) in self.stops.iter_mut().enumerate() {
            let len = stop.pattern.len();
            if stop.push(byte) && found.is_none_or(|(_, longest)| len > longest) {
                found = Some((index, len));
            }
        }
        found
    }
}

/// Decodes all of `bytes` but a character that has only begun; also the number of bytes decoded.
/// What can never become a character is replaced, as [`String::from_utf8_lossy`] does.
fn decode(bytes: &[u8]) -> (String, usize) {
    let mut text = String::with_capacity(bytes.len());
    let mut used = 0;
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        used += chunk.valid().len();
        let invalid = chunk.invalid();
        let is_open = used + invalid.len() == bytes.len()
            && std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none());
        if !invalid.is_empty() && !is_open {
            text.push(char::REPLACEMENT_CHARACTER);
            used += invalid.len();
        }
    }
    (text, used)
}
