//! Whether a value still reads as it did, told from its snapshot without rendering it.
//!
//! The walk goes over the value in the order in which it was rendered. Where the snapshot ends the rest
//! was not visible, so it is equal. Nothing here runs code of the program.

use std::ptr::null_mut;

use crate::ffi::*;
use crate::held::Held;
use crate::layout;
use crate::objects::is_own_closure;
use crate::render::Renderer;
use crate::snapshot::{Snapshot, Tag};
use crate::types::Shown;

impl Renderer {
    /// False also when there is no telling. Only with a layout.
    pub unsafe fn reads_the_same(&mut self, value: *mut Object, snapshot: &Snapshot) -> bool {
        let Some((repr, detail)) = snapshot.parts() else { return false };
        // SAFETY: callers pass a live value.
        unsafe {
            if !Walk::over(self, repr).same(value) {
                return false;
            }
            let Some(words) = detail else { return true };
            Walk { renderer: self, words, detailed: true }.same(value)
        }
    }
}

pub struct Walk<'a> {
    renderer: &'a mut Renderer,
    /// What is left of the snapshot.
    words: &'a [usize],
    detailed: bool,
}

/// Whether a row has these words as its first elements.
#[inline(always)]
fn begins_with(row: &[*mut Object], words: &[usize]) -> bool {
    let Some(row) = row.get(..words.len()) else { return false };
    // One comparison of memory: pointers and words have the same size.
    // SAFETY: as just said.
    words == unsafe { std::slice::from_raw_parts(row.as_ptr().cast::<usize>(), row.len()) }
}

impl<'a> Walk<'a> {
    /// A walk over the words of a repr.
    pub fn over(renderer: &'a mut Renderer, words: &'a [usize]) -> Self {
        Self { renderer, words, detailed: false }
    }

    /// Whether all words have been passed.
    pub fn is_over(&self) -> bool {
        self.words.is_empty()
    }

    /// Takes a number or tag off the snapshot if it is the one expected.
    fn takes(&mut self, word: usize) -> bool {
        match self.words.split_first() {
            Some((&first, rest)) if first == word => {
                self.words = rest;
                true
            }
            Some(_) => false,
            None => true,
        }
    }

    fn takes_number(&mut self, number: usize) -> bool {
        self.takes(number << 1 | 1)
    }

    pub unsafe fn same(&mut self, value: *mut Object) -> bool {
        let Some((&word, rest)) = self.words.split_first() else { return true };
        if word & 1 == 0 {
            self.words = rest;
            return word == value as usize;
        }
        // SAFETY: the value is live: callers reach it from one that is, and nothing runs meanwhile.
        unsafe {
            let kind = kind_of(value);
            if kind == &raw mut PyList_Type {
                self.sequence(value, Tag::List)
            } else if kind == &raw mut PyTuple_Type {
                self.sequence(value, Tag::Tuple)
            } else if kind == &raw mut PyDict_Type {
                self.takes(Tag::Dict.word()) && self.dict(value)
            } else if kind == &raw mut PySet_Type {
                self.takes(Tag::Set.word()) && self.set(value)
            } else if kind == &raw mut PyFrozenSet_Type {
                self.takes(Tag::FrozenSet.word()) && self.set(value)
            } else if kind == &raw mut PyFunction_Type {
                self.function(value)
            } else {
                self.instance(value, kind)
            }
        }
    }

    #[inline(always)]
    unsafe fn sequence(&mut self, value: *mut Object, tag: Tag) -> bool {
        let &[known_tag, known_size, flat, ref rest @ ..] = self.words else { return false };
        let is_list = tag == Tag::List;
        // SAFETY: as for `same`; the items are read anew for each step.
        unsafe {
            let items = layout::items_of(value, is_list);
            if known_tag != tag.word() || known_size != items.len() << 1 | 1 {
                return false;
            }
            let flat = flat >> 1;
            if flat > 0 {
                let (known, rest) = rest.split_at(flat.min(rest.len()));
                self.words = rest;
                return begins_with(items, known);
            }
            self.words = rest;
            let Some(first) = self.plain_items(items) else { return false };
            for at in first..items.len() {
                if self.words.is_empty() {
                    break;
                }
                let Some(&item) = layout::items_of(value, is_list).get(at) else { return false };
                if !self.same(item) {
                    return false;
                }
            }
            true
        }
    }

    /// Compares elements as long as they are atoms or lists of atoms; gives the number of those that are
    /// the same, or `None` if one is not.
    #[inline(never)]
    unsafe fn plain_items(&mut self, items: &[*mut Object]) -> Option<usize> {
        let mut words = self.words;
        let mut done = 0;
        // SAFETY: as for `same`; nothing at all is called here.
        unsafe {
            for &item in items {
                let Some((&word, after)) = words.split_first() else { break };
                if word & 1 == 0 {
                    if word != item as usize {
                        return None;
                    }
                    words = after;
                } else {
                    let &[size, flat, ref after @ ..] = after else { break };
                    let is_row = word == Tag::List.word() && kind_of(item) == &raw mut PyList_Type;
                    let Some((known, after)) = after.split_at_checked(flat >> 1) else { break };
                    if !is_row || known.is_empty() {
                        break;
                    }
                    let row = layout::items_of(item, true);
                    if size != row.len() << 1 | 1 || !begins_with(row, known) {
                        return None;
                    }
                    words = after;
                }
                done += 1;
            }
        }
        self.words = words;
        Some(done)
    }

    /// A subclass's instance, by the container that it is.
    unsafe fn base(&mut self, value: *mut Object, shown: Shown) -> bool {
        // SAFETY: the type is the one that was found to be such a subclass.
        unsafe {
            if shown == Shown::AsList {
                self.sequence(value, Tag::List)
            } else {
                self.takes(Tag::Dict.word()) && self.dict(value)
            }
        }
    }

    unsafe fn dict(&mut self, dict: *mut Object) -> bool {
        // SAFETY: as for `same`.
        unsafe { self.takes_number(layout::dict_size(dict)) && self.entries(dict) }
    }

    unsafe fn entries(&mut self, dict: *mut Object) -> bool {
        let (mut at, mut key, mut value) = (0, null_mut(), null_mut());
        // SAFETY: as for `same`.
        unsafe {
            while !self.words.is_empty() && PyDict_Next(dict, &mut at, &mut key, &mut value) != 0 {
                if !self.same(key) || !self.same(value) {
                    return false;
                }
            }
        }
        true
    }

    unsafe fn set(&mut self, set: *mut Object) -> bool {
        // SAFETY: as for `same`.
        unsafe {
            if !self.takes_number(layout::set_size(set)) {
                return false;
            }
            let mut at = 0;
            while let Some((item, next)) = layout::set_next(set, at) {
                if self.words.is_empty() {
                    break;
                }
                if !self.same(item) {
                    return false;
                }
                at = next;
            }
        }
        true
    }

    unsafe fn function(&mut self, function: *mut Object) -> bool {
        // SAFETY: as for `same`; a function's parts are live while it is.
        unsafe {
            let Some(layout) = self.renderer.layout else { return false };
            if self.words[0] == Tag::Function.word() {
                self.words = &self.words[1..];
                return self.takes_number(usize::from(is_own_closure(function)))
                    && self.takes(layout.qualname(function) as usize);
            }
            if !self.takes(Tag::Closure.word()) {
                return false;
            }
            let closure = PyFunction_GetClosure(function);
            let code = PyFunction_GetCode(function);
            // The name is the second even word; it is compared through the attribute's C getter.
            if closure.is_null() || !self.takes_number(code as usize >> 1) {
                return false;
            }
            let name = Held(PyObject_GetAttrString(function, c"__name__".as_ptr()));
            if name.0.is_null() || !self.takes(name.0 as usize) {
                return false;
            }
            for at in 0..PyTuple_Size(closure) {
                if self.words.is_empty() {
                    break;
                }
                let content = layout::through_cell(PyTuple_GetItem(closure, at));
                if content.is_null() {
                    if !self.takes(Tag::Unbound.word()) {
                        return false;
                    }
                    continue;
                }
                if self.words[0] == Tag::Unbound.word() {
                    return false;
                }
                // The name of the captured variable, which the code object fixes.
                self.words = &self.words[1..];
                if !self.same(content) {
                    return false;
                }
            }
            true
        }
    }

    unsafe fn instance(&mut self, value: *mut Object, kind: *mut Object) -> bool {
        // SAFETY: as for `same`; the dict is held.
        unsafe {
            let Some(number) = self.renderer.types.known(kind) else { return false };
            let shown = self.renderer.types.get(number).shown;
            match shown {
                Shown::ByType => {}
                Shown::AsList | Shown::AsDict => {
                    return self.takes(Tag::Base.word())
                        && self.takes_number(number as usize)
                        && self.base(value, shown);
                }
                _ => return false,
            }
            let is_own = self.renderer.types.get(number).is_own && self.detailed;
            let tag = if is_own { Tag::Own } else { Tag::Plain };
            if !self.takes(tag.word()) || !self.takes_number(number as usize) {
                return false;
            }
            if !is_own {
                return true;
            }
            let dict = Held(PyObject_GenericGetDict(value, null_mut()));
            if dict.0.is_null() {
                PyErr_Clear();
                return self.takes_number(0);
            }
            if kind_of(dict.0) != &raw mut PyDict_Type {
                return self.takes_number(0);
            }
            self.dict(dict.0)
        }
    }
}
