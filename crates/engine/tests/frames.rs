//! The constraint accepts every trace in the dialect's specification, token by token, with any
//! vocabulary; it refuses damaged ones; and whatever it lets through reads back.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::Random;
use cwm_engine::frames::{FrameGrammar, FrameTokens, FrameVocabulary, Frames};
use cwm_engine::{Constraint, Error};
use cwm_trace::cwm::{self, parse, render_prompt};
use proptest::prelude::*;

const SPEC: &str = include_str!("../../trace/specs/cwm.md");

/// The blocks of the specification in a language.
fn blocks(language: &str) -> Vec<String> {
    let open = format!("\n```{language}\n");
    let blocks = SPEC.split(&open).skip(1);
    let text = |block: &str| block.split("\n```").next().map(str::to_owned);
    blocks.filter_map(text).collect()
}

const SEPARATORS: [&str; 8] = [
    cwm::CALL_SEP,
    cwm::LINE_SEP,
    cwm::RETURN_SEP,
    cwm::EXCEPTION_SEP,
    cwm::ACTION_SEP,
    cwm::ARG_SEP,
    cwm::FRAME_SEP,
    cwm::END_OF_TEXT,
];

/// A vocabulary of the 256 bytes and pieces of the texts, with the separators behind them.
struct Pieces {
    vocabulary: Arc<FrameVocabulary>,
    ids: BTreeMap<Vec<u8>, u32>,
    first_separator: u32,
}

impl Pieces {
    fn new(texts: &[String], seed: u64, n_merged: usize) -> Self {
        let mut random = Random(seed);
        let mut tokens: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
        let all: Vec<u8> = texts.concat().into_bytes();
        for _ in 0..n_merged {
            let start = random.below(all.len() - 12);
            let piece = all[start..start + 2 + random.below(9)].to_vec();
            if !tokens.contains(&piece) {
                tokens.push(piece);
            }
        }
        let ids = tokens.iter().cloned().zip(0..).collect();
        let first = tokens.len() as u32;
        let separators = FrameTokens {
            call: first,
            line: first + 1,
            returns: first + 2,
            exception: first + 3,
            action: first + 4,
            argument: first + 5,
            frame: first + 6,
            end: first + 7,
        };
        let vocabulary = FrameVocabulary::new(tokens, separators).expect("it has all bytes");
        Self {
            vocabulary: Arc::new(vocabulary),
            ids,
            first_separator: first,
        }
    }

    /// One of the ways to write a text: pieces as long as can be, or cut short at random.
    fn encode(&self, mut text: &str, random: &mut Random) -> Vec<u32> {
        let mut ids = Vec::new();
        while !text.is_empty() {
            let separator = (0..)
                .zip(SEPARATORS)
                .find(|(_, name)| text.starts_with(name));
            if let Some((place, name)) = separator {
                ids.push(self.first_separator + place);
                text = &text[name.len()..];
                continue;
            }
            let lengths = SEPARATORS.iter().filter_map(|name| text.find(name));
            let end = lengths.min().unwrap_or(text.len());
            let mut rest = &text.as_bytes()[..end];
            text = &text[end..];
            while !rest.is_empty() {
                let longest = rest.len().min(2 + random.below(10));
                let known = (1..=longest).rev().find_map(|length| {
                    let id = self.ids.get(&rest[..length])?;
                    Some((*id, length))
                });
                let (id, length) = known.expect("every byte is a token");
                ids.push(id);
                rest = &rest[length..];
            }
        }
        ids
    }

    fn decode(&self, ids: &[u32]) -> String {
        let mut bytes = Vec::new();
        for &id in ids {
            match id.checked_sub(self.first_separator) {
                Some(place) => bytes.extend_from_slice(SEPARATORS[place as usize].as_bytes()),
                None => {
                    let found = self.ids.iter().find(|(_, known)| **known == id);
                    bytes.extend_from_slice(found.expect("a known id").0);
                }
            }
        }
        String::from_utf8(bytes).expect("legal texts are UTF-8")
    }

    fn frames(&self, sources: &[&str]) -> Frames {
        Frames::new(Arc::new(FrameGrammar::new(
            self.vocabulary.clone(),
            sources,
        )))
    }
}

/// The context and the frames of a text.
fn parts(text: &str) -> (String, &str) {
    let context = parse(text).document.context;
    let frames = text.strip_prefix(&render_prompt(&context));
    (context, frames.expect("a text begins with its prompt"))
}

/// Feeds tokens; says which was the first to be refused.
fn feed(frames: &mut Frames, ids: &[u32]) -> Result<(), usize> {
    for (index, &id) in ids.iter().enumerate() {
        let is_allowed = frames.mask().allows(id);
        let accepted = frames.accept(id);
        assert_eq!(is_allowed, accepted.is_ok(), "mask and step agree");
        if let Err(error) = accepted {
            assert_eq!(error, Error::NotAllowed { id, index });
            return Err(index);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_specified_trace_is_legal(seed: u64, n_merged in 0usize..400) {
        let texts = blocks("cwm");
        prop_assert!(texts.len() > 15);
        let mut random = Random(seed ^ 1);
        let pieces = Pieces::new(&texts, seed, n_merged);
        for text in &texts {
            let (context, written) = parts(text);
            let ids = pieces.encode(written, &mut random);
            let mut frames = pieces.frames(&[&context]);
            prop_assert_eq!(feed(&mut frames, &ids), Ok(()), "{}", text);
            prop_assert_eq!(frames.is_complete(), written.ends_with(cwm::END_OF_TEXT));

            // What is forced is what comes, from any place that a rollback leads to.
            let back = random.below(ids.len() + 1);
            frames.rollback(back);
            let mut forced = Vec::new();
            for at in ids.len() - back..ids.len() {
                forced.clear();
                frames.forced(&mut forced);
                prop_assert!(ids[at..].starts_with(&forced[..forced.len().min(ids.len() - at)]));
                prop_assert_eq!(frames.len(), at);
                prop_assert!(frames.accept(ids[at]).is_ok());
            }
            frames.rollback(usize::MAX);
            prop_assert!(frames.is_empty() && frames.is_between_frames());
            prop_assert_eq!(feed(&mut frames, &ids), Ok(()));
        }
    }

    #[test]
    fn masks_allow_what_is_accepted(seed: u64, n_merged in 0usize..300) {
        let texts = blocks("cwm");
        let mut random = Random(seed ^ 2);
        let pieces = Pieces::new(&texts, seed, n_merged);
        let (context, written) = parts(&texts[random.below(texts.len())]);
        let ids = pieces.encode(written, &mut random);
        let mut frames = pieces.frames(&[&context]);
        let at = random.below(ids.len());
        prop_assert_eq!(feed(&mut frames, &ids[..at]), Ok(()));
        for id in 0..pieces.vocabulary.size() as u32 + 3 {
            let is_allowed = frames.mask().allows(id);
            prop_assert_eq!(is_allowed, frames.clone().accept(id).is_ok(), "{}", id);
        }
    }

    #[test]
    fn whatever_is_let_through_reads_back(seed: u64, n_merged in 0usize..300) {
        let texts = blocks("cwm");
        let mut random = Random(seed ^ 3);
        let pieces = Pieces::new(&texts, seed, n_merged);
        let (context, _) = parts(&texts[random.below(texts.len())]);
        let mut frames = pieces.frames(&[&context]);
        let mut ids = Vec::new();
        while ids.len() < 1500 && !frames.is_complete() {
            let legal: Vec<u32> = frames.mask().iter(pieces.vocabulary.size()).collect();
            prop_assert!(!legal.is_empty(), "a dead end after {}", pieces.decode(&ids));
            // Strings would go on for ever.
            let quote = u32::from(b'"');
            let id = match legal.contains(&quote) && random.below(3) > 0 {
                true => quote,
                false => legal[random.below(legal.len())],
            };
            ids.push(id);
            prop_assert!(frames.accept(id).is_ok());
        }
        let text = render_prompt(&context) + &pieces.decode(&ids);
        let parsed = parse(&text);
        let fault = parsed.broken.map(|broken| broken.to_string());
        // A trace that is not over may stop anywhere.
        let is_sound = fault.as_ref().is_none_or(|fault| fault.ends_with("the text is cut off"));
        prop_assert!(is_sound, "{:?} in {}", fault, text);
        prop_assert_eq!(parsed.document.end, frames.is_complete());
    }
}

#[test]
fn broken_texts_are_refused() {
    let texts = blocks("broken");
    let errors = blocks("error");
    assert_eq!(texts.len(), errors.len());
    let pieces = Pieces::new(&blocks("cwm"), 7, 200);
    let prompt = render_prompt("x");
    let mut refused = 0;
    for (text, error) in texts.iter().zip(&errors) {
        // A frame's source line has its newline.
        let text = text.replace("<|action_sep|>x", "<|action_sep|>x\n");
        let Some(written) = text.strip_prefix(&prompt) else {
            continue;
        };
        let is_cut = error.ends_with("the text is cut off");
        let known = |text: &str| text.replace("<|pad|>", "\u{1}");
        let ids = pieces.encode(&known(written), &mut Random(3));
        // A second file has the names that these texts use.
        let mut frames = pieces.frames(&["x", "a = b"]);
        assert_eq!(feed(&mut frames, &ids).is_ok(), is_cut, "{text}: {error}");
        refused += usize::from(!is_cut);
    }
    assert!(refused > 9, "{refused}");
}

/// Whether a trace of a source may begin so.
fn is_legal(sources: &[&str], written: &str) -> bool {
    let pieces = Pieces::new(&blocks("cwm"), 5, 100);
    let mut frames = pieces.frames(sources);
    let ids = pieces.encode(written, &mut Random(9));
    feed(&mut frames, &ids).is_ok()
}

#[test]
fn names_and_lines_are_those_of_the_program() {
    let source = "def f(a):\n    return [b for b in a]\n";
    let call = |locals: &str, line: &str| {
        format!("<|call_sep|>{{{locals}}}<|action_sep|>{line}\n<|frame_sep|>")
    };
    for (locals, line, legal) in [
        (r#""a": "1""#, "def f(a):", true),
        (r#""a": "1", "b": "2""#, "def f(a):", true),
        (r#"".0": "1""#, "    return [b for b in a]", true),
        (r#""a": """#, "def f(a):", true),
        (r#""a": "..""#, "def f(a):", true),
        (r#""a": "1""#, "def g(a):", false),
        (r#""a": "1""#, "    def f(a):", false),
        (r#""c": "1""#, "def f(a):", false),
        (r#""a": "1","b": "2""#, "def f(a):", false),
        (r#""a":"1""#, "def f(a):", false),
        (r#""a": "1", "a": "2""#, "def f(a):", false),
        (r#""a": "1", "#, "def f(a):", false),
        (r#""a": "\u002e.""#, "def f(a):", false),
    ] {
        assert_eq!(
            is_legal(&[source], &call(locals, line)),
            legal,
            "{locals} {line}"
        );
    }
    let begun = call(r#""a": "1""#, "def f(a):");
    for (frame, legal) in [
        (r#"<|line_sep|>{"a": "..", "b": "2"}<|action_sep|>"#, true),
        (r#"<|line_sep|>{"a": "..", "b": ".."}<|action_sep|>"#, false),
        (
            r#"<|line_sep|>{"a": "..", "b": "\u002e."}<|action_sep|>"#,
            true,
        ),
        ("<|end_of_text|>", false),
        (
            "<|exception_sep|><|action_sep|>def f(a):\n<|arg_sep|>\"E()\"<|frame_sep|><|line_sep|>",
            true,
        ),
        (
            "<|return_sep|><|action_sep|>def f(a):\n<|arg_sep|>\"..\"<|frame_sep|><|end_of_text|>",
            true,
        ),
        (
            "<|return_sep|><|action_sep|>def f(a):\n<|frame_sep|>",
            false,
        ),
        (
            "<|return_sep|><|action_sep|>def f(a):\n<|arg_sep|>\"1\"<|frame_sep|><|call_sep|>",
            false,
        ),
    ] {
        assert_eq!(
            is_legal(&[source], &format!("{begun}{frame}")),
            legal,
            "{frame}"
        );
    }
    assert!(!is_legal(&[source], "<|line_sep|>"));
}

#[test]
fn names_that_no_source_has_are_legal_where_anything_can_be_bound() {
    let call =
        |name: &str| format!("<|call_sep|>{{\"x\": \"1\", {name}: \"2\"}}<|action_sep|>x = 1\n");
    for (source, name, legal) in [
        ("x = 1\n", r#""pi""#, false),
        ("from math import *\nx = 1\n", r#""pi""#, true),
        ("from math import *\nx = 1\n", r#""gr\u00f6\u00dfe""#, true),
        ("from math import *\nx = 1\n", r#""x""#, false),
        ("from math import *\nx = 1\n", r#""xx""#, true),
    ] {
        assert_eq!(is_legal(&[source], &call(name)), legal, "{source} {name}");
    }
    // Another file of the program.
    assert!(is_legal(&["x = 1\n", "pi = 3\n"], &call(r#""pi""#)));
}
