//! What the text of a value was made of, as one flat row of words.
//!
//! Even words are pointers to builtin immutables, with a reference held: the same pointer is the same
//! text. Odd words are tags, sizes and numbers of types. No reference is held on anything else, since
//! that would change when objects of the program die. A container is its tag and size (addresses are
//! reused, so that its own address would say nothing) and its elements in order, as far as they were
//! visible; a list or tuple has a third word, the number of elements if all are immutable builtins.

use crate::ffi::Object;
use crate::held::{give_back_all, take, take_all};

/// What a group of words is about. Never 0 when shifted, always odd.
#[derive(Clone, Copy, PartialEq)]
pub enum Tag {
    List = 1,
    Tuple,
    Dict,
    Set,
    FrozenSet,
    /// An instance shown by its type.
    Plain,
    /// An instance shown with its attributes.
    Own,
    Function,
    Closure,
    /// A captured variable without a value.
    Unbound,
}

impl Tag {
    pub fn word(self) -> usize {
        (self as usize) << 1 | 1
    }
}

#[derive(Default)]
pub struct Snapshot {
    words: Vec<usize>,
    /// Where the words of the detail begin, if there is one.
    detail: Option<usize>,
    /// Whether the words tell all that the text depends on.
    is_whole: bool,
}

impl Snapshot {
    /// Starts taking notes, if there is any use for them.
    pub fn begin(&mut self, is_wanted: bool) {
        self.clear();
        self.is_whole = is_wanted;
    }

    pub fn begin_detail(&mut self) {
        self.detail = Some(self.words.len());
    }

    /// The text depends on something that cannot be noted.
    pub fn give_up(&mut self) {
        self.clear();
    }

    pub fn clear(&mut self) {
        self.is_whole = false;
        self.detail = None;
        self.drop_from(0);
    }

    fn drop_from(&mut self, place: usize) {
        // SAFETY: even words are owned references to builtin immutables, whose end runs no code.
        unsafe { give_back_all(&self.words[place..]) };
        self.words.truncate(place);
    }

    #[inline]
    pub fn hold(&mut self, atom: *mut Object) {
        if self.is_whole {
            // SAFETY: callers pass a live object.
            unsafe { take(atom) };
            self.words.push(atom as usize);
        }
    }

    /// Notes a run of live builtin immutables.
    #[inline]
    pub fn hold_all(&mut self, atoms: &[*mut Object]) {
        if self.is_whole {
            // SAFETY: callers pass live objects.
            unsafe { take_all(atoms) };
            self.words.extend(atoms.iter().map(|&atom| atom as usize));
        }
    }

    pub fn tag(&mut self, tag: Tag) {
        if self.is_whole {
            self.words.push(tag.word());
        }
    }

    /// A tag and a size.
    pub fn sized(&mut self, tag: Tag, size: usize) {
        if self.is_whole {
            self.words.extend_from_slice(&[tag.word(), size << 1 | 1]);
        }
    }

    /// The same for a list or tuple, with a count that is not known yet: gives its place.
    pub fn row(&mut self, tag: Tag, size: usize) -> usize {
        if self.is_whole {
            self.words.extend_from_slice(&[tag.word(), size << 1 | 1, 1]);
        }
        self.words.len()
    }

    pub fn number(&mut self, number: usize) {
        if self.is_whole {
            self.words.push(number << 1 | 1);
        }
    }

    /// How much has been noted, to go back to.
    pub fn mark(&self) -> usize {
        self.words.len()
    }

    /// Forgets what was noted since; if everything was given up meanwhile, that stands.
    pub fn back_to(&mut self, mark: usize) {
        if self.is_whole {
            self.drop_from(mark);
        }
    }

    pub fn fill(&mut self, place: usize, number: usize) {
        if self.is_whole {
            self.words[place - 1] = number << 1 | 1;
        }
    }

    /// Whether this is a tuple of nothing but immutable builtins, which can itself be held.
    pub fn is_flat_tuple(&self) -> bool {
        let is_tuple = self.words.first() == Some(&Tag::Tuple.word());
        self.is_whole && is_tuple && self.words.get(2).is_some_and(|&flat| flat > 1)
    }

    /// The words of the repr and of the detail; `None` if a value must be rendered to be compared.
    pub fn parts(&self) -> Option<(&[usize], Option<&[usize]>)> {
        let split = self.detail.unwrap_or(self.words.len());
        let (repr, detail) = self.words.split_at(split);
        self.is_whole.then_some((repr, self.detail.map(|_| detail)))
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.clear();
    }
}
