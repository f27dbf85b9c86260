//! The tokens of a vocabulary as a tree of bytes, so that all that are legal in a state are found in
//! one walk that leaves out what cannot be.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cwm_tokenizer::llama::{Llama, RESERVED, Special};

use crate::TokenSet;

use super::string::{Inside, SpecialTexts, Step};

/// The ids of the tokens that give a trace its structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameTokens {
    /// Opens a call frame.
    pub call: u32,
    /// Opens a line frame.
    pub line: u32,
    /// Opens a return frame.
    pub returns: u32,
    /// Opens an exception frame.
    pub exception: u32,
    /// Comes before the source line of a frame.
    pub action: u32,
    /// Comes before the value of a return or an exception.
    pub argument: u32,
    /// Closes a frame.
    pub frame: u32,
    /// Closes the trace.
    pub end: u32,
}

impl FrameTokens {
    pub(super) fn all(&self) -> [u32; 8] {
        let Self {
            call,
            line,
            returns,
            exception,
            action,
            argument,
            frame,
            end,
        } = *self;
        [call, line, returns, exception, action, argument, frame, end]
    }
}

/// Why a vocabulary cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VocabularyError {
    /// Some text could not be written.
    #[error("no token is the byte {0:#04x} alone, so not every frame could be written")]
    NoByte(u8),
    /// An id stands for two things.
    #[error(
        "token {0} is a separator of frames and something else too; each separator needs an id of its own, whose bytes are empty in the list of tokens"
    )]
    Ambiguous(u32),
}

/// A vocabulary: the bytes of each token, and the tokens that separate frames. It is made once and
/// shared by all programs.
#[derive(Debug)]
pub struct FrameVocabulary {
    separators: FrameTokens,
    tokens: Vec<Box<[u8]>>,
    /// Preorder, children by their bytes.
    nodes: Vec<Node>,
    /// Ids of tokens, those of a node together.
    ids: Vec<u32>,
    size: usize,
    specials: SpecialTexts,
    strings: Mutex<HashMap<Inside, Arc<InString>>>,
}

/// Bytes that some token begins with.
#[derive(Clone, Debug)]
struct Node {
    byte: u8,
    /// Bytes before the last.
    depth: u32,
    /// Where the nodes below it end.
    end: u32,
    /// Its tokens, in `ids`.
    first: u32,
    count: u32,
}

/// The tokens that are legal in one place of a string, whatever stands around it.
#[derive(Debug)]
pub(super) struct InString {
    /// Those that do not end the string.
    pub(super) ids: Vec<u32>,
    /// The same.
    pub(super) set: TokenSet,
    /// The nodes whose last byte is the closing quote.
    pub(super) ends: Vec<u32>,
}

impl FrameVocabulary {
    /// A vocabulary of the tokens `0..tokens.len()`. One without bytes is never legal, unless it is
    /// a separator, whose id may also lie beyond them.
    ///
    /// # Errors
    /// [`VocabularyError`]
    pub fn new(tokens: Vec<Vec<u8>>, separators: FrameTokens) -> Result<Self, VocabularyError> {
        let mut sorted = separators.all();
        sorted.sort_unstable();
        let twice = sorted.windows(2).find(|pair| pair[0] == pair[1]);
        let is_text = |&id: &u32| {
            tokens
                .get(id as usize)
                .is_some_and(|token| !token.is_empty())
        };
        if let Some(&id) = twice
            .map(|pair| &pair[0])
            .or_else(|| sorted.iter().find(|id| is_text(id)))
        {
            return Err(VocabularyError::Ambiguous(id));
        }
        let last = sorted.iter().max().map_or(0, |&id| id as usize + 1);
        let size = tokens.len().max(last);
        let tokens: Vec<Box<[u8]>> = tokens.into_iter().map(Vec::into_boxed_slice).collect();
        let (nodes, ids) = tree(&tokens);
        let mut single = [false; 256];
        for node in nodes
            .iter()
            .filter(|node| node.depth == 0 && node.count > 0)
        {
            single[usize::from(node.byte)] = true;
        }
        if let Some(missing) = (0..=255).find(|&byte: &u8| !single[usize::from(byte)]) {
            return Err(VocabularyError::NoByte(missing));
        }
        Ok(Self {
            separators,
            tokens,
            nodes,
            ids,
            size,
            specials: SpecialTexts::new(),
            strings: Mutex::default(),
        })
    }

    /// The vocabulary of CWM, or its tokenizer over bytes.
    ///
    /// # Errors
    /// [`VocabularyError::NoByte`] for a tokenizer that lacks a byte.
    pub fn of(llama: &Llama) -> Result<Self, VocabularyError> {
        let text = |id: u32| llama.decode_bytes(&[id]).unwrap_or_default();
        let tokens = (0..(llama.vocabulary() - RESERVED) as u32).map(text);
        let separators = FrameTokens {
            call: llama.id(Special::CallSep),
            line: llama.id(Special::LineSep),
            returns: llama.id(Special::ReturnSep),
            exception: llama.id(Special::ExceptionSep),
            action: llama.id(Special::ActionSep),
            argument: llama.id(Special::ArgSep),
            frame: llama.id(Special::FrameSep),
            end: llama.id(Special::EndOfText),
        };
        Self::new(tokens.collect(), separators)
    }

    /// Number of ids: masks are made for so many.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The tokens that separate frames.
    pub fn separators(&self) -> &FrameTokens {
        &self.separators
    }

    /// The bytes of a token; none where it is a separator or unknown.
    pub(super) fn bytes(&self, id: u32) -> &[u8] {
        self.tokens.get(id as usize).map_or(&[], |token| token)
    }

    pub(super) fn specials(&self) -> &SpecialTexts {
        &self.specials
    }

    /// The legal tokens of a place in a string, found once.
    pub(super) fn in_string(&self, at: Inside) -> Arc<InString> {
        let known = || self.strings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known().get(&at) {
            return found.clone();
        }
        let (mut ids, mut ends) = (Vec::new(), Vec::new());
        let step = |node: u32, at: Inside, byte: u8| match self.specials.step(at, byte)? {
            Step::To(next) => Some(next),
            Step::End => {
                ends.push(node);
                None
            }
        };
        self.walk(None, at, step, &mut ids);
        let found = Arc::new(InString {
            set: ids.iter().copied().collect(),
            ids,
            ends,
        });
        known().insert(at, found.clone());
        found
    }

    /// Appends the tokens whose bytes lead somewhere from `start`: all tokens, or those that go on
    /// from a node, its own included. `step` is given the node of each byte.
    pub(super) fn walk<S: Copy>(
        &self,
        from: Option<u32>,
        start: S,
        mut step: impl FnMut(u32, S, u8) -> Option<S>,
        out: &mut Vec<u32>,
    ) {
        let (mut at, end, depth) = match from {
            None => (0, self.nodes.len(), 0),
            Some(node) => {
                let found = &self.nodes[node as usize];
                out.extend_from_slice(self.tokens_at(found));
                (node as usize + 1, found.end as usize, found.depth + 1)
            }
        };
        // The state before each byte on the way down.
        let mut states = vec![start];
        while at < end {
            let node = &self.nodes[at];
            let level = (node.depth - depth) as usize;
            match step(at as u32, states[level], node.byte) {
                None => at = node.end as usize,
                Some(next) => {
                    out.extend_from_slice(self.tokens_at(node));
                    states.truncate(level + 1);
                    states.push(next);
                    at += 1;
                }
            }
        }
    }

    fn tokens_at(&self, node: &Node) -> &[u32] {
        &self.ids[node.first as usize..][..node.count as usize]
    }
}

/// The tree of all tokens that have bytes.
fn tree(tokens: &[Box<[u8]>]) -> (Vec<Node>, Vec<u32>) {
    let mut ids: Vec<u32> = (0..tokens.len() as u32)
        .filter(|&id| !tokens[id as usize].is_empty())
        .collect();
    ids.sort_by(|&a, &b| tokens[a as usize].cmp(&tokens[b as usize]));
    let mut nodes: Vec<Node> = Vec::new();
    // The nodes from the top to the last token.
    let mut path: Vec<usize> = Vec::new();
    let mut before: &[u8] = &[];
    for (place, &id) in ids.iter().enumerate() {
        let token = &tokens[id as usize];
        let common = token.iter().zip(before).take_while(|(a, b)| a == b).count();
        close(&mut nodes, &mut path, common);
        for &byte in &token[common..] {
            path.push(nodes.len());
            nodes.push(Node {
                byte,
                depth: path.len() as u32 - 1,
                end: 0,
                first: place as u32,
                count: 0,
            });
        }
        if let Some(&node) = path.last() {
            let node = &mut nodes[node];
            node.first = if node.count == 0 {
                place as u32
            } else {
                node.first
            };
            node.count += 1;
        }
        before = token;
    }
    close(&mut nodes, &mut path, 0);
    (nodes, ids)
}

/// Leaves the nodes below `depth`.
fn close(nodes: &mut [Node], path: &mut Vec<usize>, depth: usize) {
    let end = nodes.len() as u32;
    for node in path.drain(depth..) {
        nodes[node].end = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEPARATORS: FrameTokens = FrameTokens {
        call: 300,
        line: 301,
        returns: 302,
        exception: 303,
        action: 304,
        argument: 305,
        frame: 306,
        end: 307,
    };

    fn vocabulary(more: &[&str]) -> Result<FrameVocabulary, VocabularyError> {
        let mut tokens: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
        tokens.extend(more.iter().map(|text| text.as_bytes().to_vec()));
        FrameVocabulary::new(tokens, SEPARATORS)
    }

    #[test]
    fn a_walk_finds_the_tokens_that_lead_somewhere() {
        // 259 and 260 have equal bytes.
        let vocabulary = vocabulary(&["aa", "ab", "abab", "ba", "ba", "c"]).expect("it is sound");
        let mut found = Vec::new();
        // `a` and `b` in turn.
        let step = |_, next: u8, byte: u8| (byte == next).then(|| b'a' + b'b' - byte);
        vocabulary.walk(None, b'a', step, &mut found);
        assert_eq!(found, [u32::from(b'a'), 257, 258]);
        found.clear();
        vocabulary.walk(None, b'b', step, &mut found);
        assert_eq!(found, [u32::from(b'b'), 259, 260]);
        assert_eq!(vocabulary.size(), 308);
    }

    #[test]
    fn unusable_vocabularies_are_refused() {
        let bytes = (0..255).map(|byte| vec![byte]).collect();
        assert_eq!(
            FrameVocabulary::new(bytes, SEPARATORS).err(),
            Some(VocabularyError::NoByte(255))
        );
        let many: Vec<&str> = vec!["ab"; 60];
        assert_eq!(
            vocabulary(&many).err(),
            Some(VocabularyError::Ambiguous(300))
        );
        let separators = FrameTokens {
            end: 300,
            ..SEPARATORS
        };
        let bytes = (0..=255).map(|byte| vec![byte]).collect();
        assert_eq!(
            FrameVocabulary::new(bytes, separators).err(),
            Some(VocabularyError::Ambiguous(300))
        );
    }
}
