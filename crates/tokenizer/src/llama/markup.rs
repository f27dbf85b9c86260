//! Ids for the special tokens of our own dialects, in slots that Meta's code leaves unnamed.
//!
//! [`ND_TOKENS`] is the one place where they are given. To all of Meta's functions these slots stay what
//! they were, `<|reserved_special_token_N|>`: a name of ours is special only in a text of the dialect
//! that has it, since in every other text a program may contain it.
//!
//! Slots 130 to 148 are the `nd` dialect's; 149 to 199 are kept for dialects to come. Texts of the other kinds
//! (`cwm-data`'s `text`) have no special tokens but those of the chat format.

use super::special::{self, Segment};
use super::{Llama, UnknownId};

/// A dialect whose texts hold special tokens by their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Markup {
    /// `cwm`: Meta's tokens.
    Cwm,
    /// `nd`, forwards and backwards: those and [`ND_TOKENS`].
    Nd,
}

/// The tokens that the `nd` dialect has besides those of `cwm`, each with its slot: its id is the number of
/// ranks plus that, so 128,130 and on with the vocabulary of Llama 3.
pub const ND_TOKENS: [(&str, u8); 19] = [
    ("<|src_sep|>", 130),
    ("<|trace_end|>", 131),
    ("<|step_into|>", 132),
    ("<|step_over|>", 133),
    ("<|step_return|>", 134),
    ("<|breakpoint|>", 135),
    ("<|continue|>", 136),
    ("<|exit_normal|>", 137),
    ("<|exit_error|>", 138),
    ("<|exit_never|>", 139),
    ("<|inv_return_sep|>", 140),
    ("<|inv_line_sep|>", 141),
    ("<|inv_line_call_sep|>", 142),
    ("<|inv_call_sep|>", 143),
    ("<|inv_exception_sep|>", 144),
    ("<|inv_step_into|>", 145),
    ("<|inv_step_over|>", 146),
    ("<|inv_step_call|>", 147),
    ("<|inv_exit_entry|>", 148),
];

impl Markup {
    fn own(self) -> &'static [(&'static str, u8)] {
        match self {
            Self::Cwm => &[],
            Self::Nd => &ND_TOKENS,
        }
    }

    fn offset_of(self, text: &str) -> Option<u32> {
        let own = self.own().iter().find(|(name, _)| *name == text);
        match own {
            Some(&(_, offset)) => Some(u32::from(offset)),
            None => special::offset_of(text),
        }
    }
}

impl Llama {
    /// The id of a special token of a dialect by its text, such as `<|step_into|>`.
    pub fn markup_id(&self, text: &str, markup: Markup) -> Option<u32> {
        markup.offset_of(text).map(|offset| self.base() + offset)
    }

    /// Encodes a text of a dialect, in which texts of special tokens stand for them. Only for texts whose sources
    /// are escaped as the dialect says.
    pub fn encode_markup(&self, text: &str, markup: Markup) -> Vec<u32> {
        let mut ids = Vec::new();
        special::segments(
            text,
            |name| markup.offset_of(name),
            |segment| match segment {
                Segment::Text(text) => self.encode_into(text, &mut ids),
                Segment::Special(offset) => ids.push(self.base() + offset),
            },
        );
        ids
    }

    /// The text of a dialect that ids stand for, with `U+FFFD` for what is not UTF-8.
    ///
    /// # Errors
    /// [`UnknownId`].
    pub fn decode_markup(&self, ids: &[u32], markup: Markup) -> Result<String, UnknownId> {
        let own = |id: u32| {
            let offset = id.checked_sub(self.base())?;
            let mut own = markup.own().iter();
            own.find(|(_, known)| u32::from(*known) == offset)
                .map(|(name, _)| *name)
        };
        let mut bytes = Vec::with_capacity(4 * ids.len());
        for id in ids {
            match own(*id) {
                Some(name) => bytes.extend_from_slice(name.as_bytes()),
                None => bytes.extend(self.decode_bytes(&[*id])?),
            }
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::{RESERVED, Special};
    use super::*;

    #[test]
    fn every_token_of_the_dialect_has_a_slot_that_nothing_else_has() {
        let names: BTreeSet<&str> = ND_TOKENS.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, cwm_trace::nd::TOKENS.iter().copied().collect());
        let slots: BTreeSet<u32> = ND_TOKENS.iter().map(|(_, slot)| u32::from(*slot)).collect();
        assert_eq!(slots.len(), ND_TOKENS.len());
        // Those of Llama 3.1 and later with a name, which CWM's table does not list.
        let meta = (0..=11).chain(100..=107).chain(120..=121);
        let known = Special::ALL.map(Special::offset).into_iter().chain(meta);
        assert!(known.into_iter().all(|offset| !slots.contains(&offset)));
        assert!(slots.iter().all(|&slot| (slot as usize) < RESERVED));
    }

    #[test]
    fn a_name_is_special_in_its_dialect_alone() {
        let llama = Llama::bytes();
        let text = "<|frame_sep|><|step_into|>x";
        let nd = llama.encode_markup(text, Markup::Nd);
        assert_eq!(nd, [256 + 100, 256 + 132, u32::from(b'x')]);
        assert_eq!(llama.decode_markup(&nd, Markup::Nd).as_deref(), Ok(text));
        assert_eq!(llama.encode_markup(text, Markup::Cwm).len(), 1 + 13 + 1);
        let meta = llama.decode(&nd);
        assert_eq!(
            meta.as_deref(),
            Ok("<|frame_sep|><|reserved_special_token_132|>x")
        );
        assert_eq!(llama.special_id("<|step_into|>"), None);
        assert_eq!(llama.markup_id("<|step_into|>", Markup::Nd), Some(388));
    }
}
