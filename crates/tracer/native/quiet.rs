//! Values that are made of builtins only, rendered in one go.
//!
//! No function of Python's that could run anything is called here. So nothing can change meanwhile, and
//! no element need be held or looked at twice. Most values are of this kind; of the others nothing is
//! left behind, and `render.rs` shows them with more care. The text and the notes are the same.

use std::ptr::null_mut;

use crate::ffi::*;
use crate::layout::{self, Layout};
use crate::render::{DEEPEST, Renderer, is_atom};
use crate::snapshot::Tag;
use crate::text;
use crate::types::Shown;

/// The most bytes that `small_atom` writes.
const WIDEST: usize = 8;

/// A text of at most seven bytes, and its size in the highest byte.
const fn short(text: &[u8]) -> u64 {
    let mut bytes = [0; WIDEST];
    let mut at = 0;
    while at < text.len() {
        bytes[at] = text[at];
        at += 1;
    }
    bytes[WIDEST - 1] = text.len() as u8;
    u64::from_le_bytes(bytes)
}

/// `, ` and a number, for the commonest ones.
static NUMBERS: [u64; 256] = {
    let mut numbers = [0; 256];
    let mut number = 0;
    while number < 256 {
        let ones = b'0' + (number % 10) as u8;
        let tens = b'0' + (number / 10 % 10) as u8;
        let hundreds = b'0' + (number / 100) as u8;
        numbers[number] = match number {
            0..10 => short(&[b',', b' ', ones]),
            10..100 => short(&[b',', b' ', tens, ones]),
            _ => short(&[b',', b' ', hundreds, tens, ones]),
        };
        number += 1;
    }
    numbers
};

/// `, ` and a value of the shortest kinds, or 0 for other values.
#[inline(always)]
unsafe fn small_atom(value: *mut Object, layout: &Layout) -> u64 {
    // SAFETY: the value is live.
    unsafe {
        if kind_of(value) == &raw mut PyLong_Type {
            let number = layout.digit(value).and_then(|digit| NUMBERS.get(digit as usize));
            number.copied().unwrap_or(0)
        } else if value == &raw mut _Py_TrueStruct {
            const { short(b", True") }
        } else if value == &raw mut _Py_FalseStruct {
            const { short(b", False") }
        } else if value == &raw mut _Py_NoneStruct {
            const { short(b", None") }
        } else {
            0
        }
    }
}

impl Renderer {
    /// Renders a live value into an empty buffer, or gives false and leaves that empty.
    pub(crate) unsafe fn quiet(&mut self, value: *mut Object) -> bool {
        let Some(layout) = self.layout else { return false };
        let mark = self.notes.mark();
        // SAFETY: the value is live.
        let done = unsafe { self.quiet_value(value, layout) };
        if !done {
            self.out.clear();
            self.open.clear();
            self.notes.back_to(mark);
            self.wide = 0;
            self.has_own = false;
        }
        done
    }

    pub(crate) unsafe fn quiet_value(&mut self, value: *mut Object, layout: &Layout) -> bool {
        // SAFETY: the value is live: it is reached from one that is, and nothing runs meanwhile. Exact
        // types are checked before each step that needs them.
        unsafe {
            let kind = kind_of(value);
            if kind == &raw mut PyLong_Type {
                self.notes.hold(value);
                let Some(number) = layout.short_int(value) else { return false };
                text::decimal(number, &mut self.out);
            } else if kind == &raw mut PyUnicode_Type {
                self.notes.hold(value);
                let Some(ascii) = layout.ascii(value) else { return false };
                if ascii.len() > self.max {
                    self.notes.held_large();
                }
                text::quoted(ascii, &mut self.out, self.max);
            } else if kind == &raw mut PyList_Type {
                let items = layout::items_of(value, true);
                return self.quiet_items(value, items, Tag::List, [b"[", b"]"], layout);
            } else if kind == &raw mut PyTuple_Type {
                let items = layout::items_of(value, false);
                let close: &[u8] = if items.len() == 1 { b",)" } else { b")" };
                return self.quiet_items(value, items, Tag::Tuple, [b"(", close], layout);
            } else if kind == &raw mut PyBool_Type {
                self.notes.hold(value);
                let is_true = value == &raw mut _Py_TrueStruct;
                self.put(if is_true { b"True" } else { b"False" });
            } else if value == &raw mut _Py_NoneStruct {
                self.notes.hold(value);
                self.put(b"None");
            } else if kind == &raw mut PyFloat_Type {
                self.notes.hold(value);
                text::float(PyFloat_AsDouble(value), &mut self.out);
            } else if kind == &raw mut PyDict_Type {
                return self.quiet_dict(value, layout);
            } else if kind == &raw mut PySet_Type {
                return self.quiet_set(value, Tag::Set, [b"set()", b"{", b"}"], layout);
            } else if kind == &raw mut PyFrozenSet_Type {
                let marks: [&[u8]; 3] = [b"frozenset()", b"frozenset({", b"})"];
                return self.quiet_set(value, Tag::FrozenSet, marks, layout);
            } else {
                return self.quiet_object(value, kind, layout);
            }
        }
        true
    }

    /// Whether to go into a container: one that is open, or is too deep, needs more care.
    fn quiet_enter(&mut self, value: *mut Object) -> bool {
        let fine = self.open.len() < DEEPEST && !self.open.contains(&value);
        if fine {
            self.open.push(value);
        }
        fine
    }

    unsafe fn quiet_items(
        &mut self,
        value: *mut Object,
        items: &[*mut Object],
        tag: Tag,
        [open, close]: [&[u8]; 2],
        layout: &Layout,
    ) -> bool {
        let count = self.notes.row(tag, items.len());
        self.put(open);
        if items.is_empty() {
            self.put(close);
            return true;
        }
        if !self.quiet_enter(value) {
            return false;
        }
        let (mut shown, mut is_flat) = (0, true);
        let is_outermost = self.open.len() == 1 && tag == Tag::List;
        while let Some(&item) = items.get(shown).filter(|_| !self.is_full()) {
            if shown > 0 {
                self.put(b", ");
            }
            shown += 1;
            // SAFETY: as for `quiet_value`.
            unsafe {
                is_flat = is_flat && is_atom(kind_of(item));
                if !self.quiet_value(item, layout) {
                    return false;
                }
                if is_outermost && !is_flat {
                    self.notes.end_child(self.out.len());
                    continue;
                }
                let run = self.run(&items[shown..], layout);
                self.notes.hold_all(&items[shown..shown + run]);
                shown += run;
            }
        }
        self.put(close);
        self.open.pop();
        if is_flat {
            self.notes.fill(count, shown);
        } else if is_outermost && !self.has_children(items.len()) {
            self.notes.forget_children();
        }
        true
    }

    /// Whether the notes say of each element of the outermost list where its text ends, and that can be
    /// relied on.
    fn has_children(&self, count: usize) -> bool {
        self.notes.children().len() == count && self.wide == 0 && !self.is_full() && !self.has_own
    }

    /// Appends the small numbers, truth values and `None`s that the rest of a row begins with, as long as
    /// they are visible, each after `, `; gives their number.
    unsafe fn run(&mut self, items: &[*mut Object], layout: &Layout) -> usize {
        let full = self.max + self.wide;
        let layout = *layout;
        let mut done = 0;
        while done < items.len() && self.out.len() <= full {
            self.out.reserve(WIDEST);
            let stop = full.min(self.out.capacity() - WIDEST);
            let (start, mut end) = (self.out.as_mut_ptr(), self.out.len());
            let before = done;
            // SAFETY: `end` stays at least `WIDEST` below the capacity wherever something is written, and
            // all below it is initialised. The items are live.
            unsafe {
                while let Some(&item) = items.get(done).filter(|_| end <= stop) {
                    let text = small_atom(item, &layout);
                    if text == 0 {
                        break;
                    }
                    // What is too much is written over.
                    start.add(end).cast::<[u8; WIDEST]>().write_unaligned(text.to_le_bytes());
                    end += (text >> 56) as usize;
                    done += 1;
                }
                self.out.set_len(end);
            }
            if end <= stop || done == before {
                break;
            }
        }
        done
    }

    unsafe fn quiet_dict(&mut self, dict: *mut Object, layout: &Layout) -> bool {
        let (mut at, mut key, mut value) = (0, null_mut(), null_mut());
        // SAFETY: a live dict; as for `quiet_value`.
        unsafe {
            let size = layout::dict_size(dict);
            self.notes.sized(Tag::Dict, size);
            self.put(b"{");
            if size > 0 {
                if !self.quiet_enter(dict) {
                    return false;
                }
                let mut is_first = true;
                while !self.is_full() && PyDict_Next(dict, &mut at, &mut key, &mut value) != 0 {
                    if !is_first {
                        self.put(b", ");
                    }
                    is_first = false;
                    if !self.quiet_value(key, layout) {
                        return false;
                    }
                    self.put(b": ");
                    if !self.quiet_value(value, layout) {
                        return false;
                    }
                }
                self.open.pop();
            }
            self.put(b"}");
        }
        true
    }

    unsafe fn quiet_set(
        &mut self,
        set: *mut Object,
        tag: Tag,
        [empty, open, close]: [&[u8]; 3],
        layout: &Layout,
    ) -> bool {
        // SAFETY: a live set; as for `quiet_value`.
        unsafe {
            let size = layout::set_size(set);
            self.notes.sized(tag, size);
            if size == 0 {
                self.put(empty);
                return true;
            }
            if !self.quiet_enter(set) {
                return false;
            }
            self.put(open);
            let (mut at, mut is_first) = (0, true);
            while let Some((item, next)) = layout::set_next(set, at).filter(|_| !self.is_full()) {
                if !is_first {
                    self.put(b", ");
                }
                is_first = false;
                if !self.quiet_value(item, layout) {
                    return false;
                }
                at = next;
            }
            self.put(close);
            self.open.pop();
        }
        true
    }

    /// An instance that is shown by its type, or as the list or dictionary that it is, too.
    unsafe fn quiet_object(&mut self, value: *mut Object, kind: *mut Object, layout: &Layout) -> bool {
        // SAFETY: the value is live, and so is its type; as for `quiet_value`.
        unsafe {
            let Some(number) = self.types.known(kind) else { return false };
            let info = self.types.get(number);
            match info.shown {
                Shown::ByType => {}
                Shown::AsList => {
                    self.notes.sized(Tag::Base, number as usize);
                    let items = layout::items_of(value, true);
                    return self.quiet_items(value, items, Tag::List, [b"[", b"]"], layout);
                }
                Shown::AsDict => {
                    self.notes.sized(Tag::Base, number as usize);
                    return self.quiet_dict(value, layout);
                }
                _ => return false,
            }
            if info.is_own && self.detailed {
                return false;
            }
            self.has_own |= info.is_own;
            self.notes.sized(Tag::Plain, number as usize);
            self.wide += info.text.iter().filter(|&byte| byte & 0xc0 == 0x80).count();
            self.out.extend_from_slice(&info.text);
        }
        true
    }
}
