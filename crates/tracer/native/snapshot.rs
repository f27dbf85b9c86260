//! What the text of a value was made of, as one flat row of words.
//!
//! Even words are pointers to builtin immutables, with a reference held: the same pointer is the same
//! text. Odd words are tags, sizes and numbers of types. No reference is held on anything else, since
//! that would change when objects of the program die. A container is its tag and size (addresses are
//! reused, so that its own address would say nothing) and its elements in order, as far as they were
//! visible; a list or tuple has a third word, the number of elements if all are immutable builtins.

use std::ops::Range;

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
    /// An instance of a subclass of a builtin container, shown as that container, whose words follow.
    Base,
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

/// How many words come before the elements of a list.
const ROW: usize = 3;

/// Where an element of the outermost list ends: the words about it, and its text.
#[derive(Clone, Copy)]
pub struct Child {
    words: usize,
    pub text: usize,
}

#[derive(Default)]
pub struct Snapshot {
    words: Vec<usize>,
    children: Vec<Child>,
    /// Where the words of the detail begin, if there is one.
    detail: Option<usize>,
    /// Whether the words tell all that the text depends on.
    is_whole: bool,
    /// Whether this is for one activation only: a word is the address of a code object, which may come to
    /// mean another, or what a word holds may be large.
    is_passing: bool,
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

    #[inline(always)]
    pub fn clear(&mut self) {
        self.is_whole = false;
        self.is_passing = false;
        self.detail = None;
        // Mostly there is nothing.
        if !self.words.is_empty() || !self.children.is_empty() {
            // SAFETY: even words are owned references to builtin immutables, whose end runs no code.
            unsafe { give_back_all(&self.words) };
            self.words.clear();
            self.children.clear();
        }
    }

    fn drop_from(&mut self, place: usize) {
        // SAFETY: even words are owned references to builtin immutables, whose end runs no code.
        unsafe { give_back_all(&self.words[place..]) };
        self.words.truncate(place);
        while self.children.last().is_some_and(|child| child.words > place) {
            self.children.pop();
        }
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

    /// The start of a closure, which is known by its code.
    pub fn closure(&mut self, code: *mut Object) {
        self.sized(Tag::Closure, code as usize >> 1);
        self.is_passing = true;
    }

    /// Something was held that may be much larger than what is seen of it.
    pub fn held_large(&mut self) {
        self.is_passing = true;
    }

    /// Whether this can be relied on after the activation that it was made for.
    pub fn lasts(&self) -> bool {
        self.is_whole && !self.is_passing
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

    /// The elements of a list whose text is whole, ASCII, and not of atoms alone; of others, none.
    pub fn children(&self) -> &[Child] {
        let is_list = self.words.first() == Some(&Tag::List.word());
        if self.is_whole && self.detail.is_none() && is_list { &self.children } else { &[] }
    }

    /// Notes where an element of the outermost list ends.
    pub fn end_child(&mut self, text: usize) {
        if self.is_whole {
            self.children.push(Child { words: self.words.len(), text });
        }
    }

    pub fn forget_children(&mut self) {
        self.children.clear();
    }

    pub fn words_of_child(&self, at: usize) -> &[usize] {
        &self.words[self.before_child(at).words..self.children[at].words]
    }

    /// Puts other elements between so many at the start and so many at the end, and takes them from where
    /// they were noted; their texts end where that says.
    pub fn replace_children(&mut self, start: usize, end: usize, new: &mut Snapshot) {
        let old_end = self.children.len() - end;
        let (first, old) = (self.before_child(start), self.before_child(old_end));
        // SAFETY: the words are owned references to builtin immutables, or odd.
        unsafe { give_back_all(&self.words[first.words..old.words]) };
        replace(&mut self.words, first.words..old.words, &new.words);
        for child in &mut new.children {
            child.words += first.words;
        }
        replace(&mut self.children, start..old_end, &new.children);
        let new_end = start + new.children.len();
        // The references are this one's now.
        new.words.clear();
        self.is_passing |= new.is_passing;
        new.clear();
        let last = self.before_child(new_end);
        for child in &mut self.children[new_end..] {
            child.words = child.words - old.words + last.words;
            // Separators come before all elements but the first.
            child.text = child.text + 2 * usize::from(new_end > 0) + last.text
                - 2 * usize::from(old_end > 0)
                - old.text;
        }
        self.words[1] = self.children.len() << 1 | 1;
        self.words[2] = 1;
    }

    /// Where the child before one of this number ends: for the first, the list's beginning.
    fn before_child(&self, at: usize) -> Child {
        at.checked_sub(1).map_or(Child { words: ROW, text: 1 }, |last| self.children[last])
    }

    /// The words of the repr and of the detail; `None` if a value must be rendered to be compared.
    pub fn parts(&self) -> Option<(&[usize], Option<&[usize]>)> {
        let split = self.detail.unwrap_or(self.words.len());
        let (repr, detail) = self.words.split_at(split);
        self.is_whole.then_some((repr, self.detail.map(|_| detail)))
    }
}

/// Puts others in the place of some elements, which mostly are as many.
fn replace<T: Copy>(row: &mut Vec<T>, range: Range<usize>, new: &[T]) {
    if range.len() == new.len() {
        row[range].copy_from_slice(new);
    } else {
        row.splice(range, new.iter().copied());
    }
}

impl Clone for Snapshot {
    fn clone(&self) -> Self {
        let even = self.words.iter().filter(|&&word| word & 1 == 0);
        // SAFETY: even words are references that this one owns.
        even.for_each(|&word| unsafe { take(word as *mut Object) });
        let Self { words, children, detail, is_whole, is_passing } = self;
        let (words, children) = (words.clone(), children.clone());
        Self { words, children, detail: *detail, is_whole: *is_whole, is_passing: *is_passing }
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.clear();
    }
}
