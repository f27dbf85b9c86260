//! The last text of a variable, and how to see cheaply that it still holds.

use crate::ffi::*;
use crate::held::{Held, give_back, take};
use crate::record::Fail;
use crate::render::{Rendered, Renderer, is_atom, is_constant};
use crate::snapshot::Snapshot;
use crate::{text, text_of};

/// Longer strings are not held: that would keep Python from growing them in place.
const LONGEST_HELD: isize = 64;
/// What `quick` says of a variable whose value is not held.
const LOOSE: usize = 1;

#[derive(Default)]
pub struct Shadow {
    is_bound: bool,
    /// Whether the text is the string itself between quotes.
    is_literal: bool,
    snapshot: Snapshot,
    pub shown: Rendered,
}

/// What became of a variable since the last record.
#[derive(Clone, Copy, PartialEq)]
pub enum Change {
    Nothing,
    Bound,
    /// Its text is another; the last one is left in `scratch`, unless both are short.
    Rebound,
    Unbound,
}

impl Shadow {
    /// Takes note of a variable's value, NULL if it has none. `quick` is the object itself while a
    /// reference to it is held, and 0 while the variable is unbound: callers need not call when it equals
    /// the value.
    pub unsafe fn update(
        &mut self,
        quick: &mut usize,
        value: *mut Object,
        renderer: &mut Renderer,
        scratch: &mut Rendered,
    ) -> Result<Change, Fail> {
        if value.is_null() {
            let was_bound = self.is_bound;
            self.clear(quick);
            return Ok(if was_bound { Change::Unbound } else { Change::Nothing });
        }
        // SAFETY: the value is live.
        if let Some(change) = unsafe { self.number(quick, value, renderer) } {
            return Ok(change);
        }
        // SAFETY: the value is live, and held while it is rendered: that may run code that drops it.
        unsafe {
            if *quick == LOOSE && self.still_reads(value, renderer) {
                return Ok(Change::Nothing);
            }
            let held = Held::to(value);
            let kind = kind_of(value);
            if simple(value, kind, scratch, renderer) {
                self.snapshot.clear();
            } else {
                renderer.render(value, scratch, &mut self.snapshot)?;
            }
            release(quick);
            *quick = LOOSE;
            self.is_literal = false;
            if kind == &raw mut PyUnicode_Type && PyUnicode_GetLength(value) > LONGEST_HELD {
                self.snapshot.clear();
                let size = text_of(value).map(<[u8]>::len);
                self.is_literal = scratch.flags == 0 && size == Some(scratch.repr.len() - 2);
            } else if is_atom(kind) || is_constant(kind) || self.snapshot.is_flat_tuple() {
                self.snapshot.clear();
                *quick = value as usize;
                // The reference goes from `held` to `quick`.
                std::mem::forget(held);
            }
        }
        if self.is_bound && *scratch == self.shown {
            return Ok(Change::Nothing);
        }
        std::mem::swap(scratch, &mut self.shown);
        let was_bound = std::mem::replace(&mut self.is_bound, true);
        Ok(if was_bound { Change::Rebound } else { Change::Bound })
    }

    /// The commonest case: a number takes the place of another.
    #[inline(always)]
    unsafe fn number(
        &mut self,
        quick: &mut usize,
        value: *mut Object,
        renderer: &Renderer,
    ) -> Option<Change> {
        // SAFETY: the value is live; its exact type is checked.
        unsafe {
            if *quick <= LOOSE || self.shown.flags != 0 || kind_of(value) != &raw mut PyLong_Type {
                return None;
            }
            let number = renderer.layout?.short_int(value)?;
            let mut digits = [0; text::MOST_DIGITS];
            let text = text::digits(number, &mut digits);
            if text.len() > renderer.longest() {
                return None;
            }
            release(quick);
            take(value);
            *quick = value as usize;
            if *text == *self.shown.repr {
                return Some(Change::Nothing);
            }
            self.shown.repr.clear();
            self.shown.repr.extend_from_slice(text);
            Some(Change::Rebound)
        }
    }

    unsafe fn still_reads(&self, value: *mut Object, renderer: &mut Renderer) -> bool {
        // SAFETY: the value is live.
        unsafe {
            if !self.is_literal {
                return renderer.reads_the_same(value, &self.snapshot);
            }
            let shown = &self.shown.repr;
            kind_of(value) == &raw mut PyUnicode_Type
                && text_of(value).is_some_and(|text| text == &shown[1..shown.len() - 1])
        }
    }

    /// The variable is unbound again.
    pub fn clear(&mut self, quick: &mut usize) {
        release(quick);
        *quick = 0;
        self.is_bound = false;
        self.is_literal = false;
        self.snapshot.clear();
        self.shown.clear();
    }
}

/// Gives back the reference that `quick` may hold.
fn release(quick: &mut usize) {
    if *quick > LOOSE {
        // SAFETY: an owned reference to an immutable builtin.
        unsafe { give_back(*quick as *mut Object) };
        *quick = LOOSE;
    }
}

/// The text of the commonest values, if it is short.
unsafe fn simple(value: *mut Object, kind: *mut Object, out: &mut Rendered, renderer: &Renderer) -> bool {
    let (layout, longest) = (renderer.layout, renderer.longest());
    // SAFETY: the value is live; its exact type is checked.
    unsafe {
        let done = if kind == &raw mut PyLong_Type {
            out.clear();
            text::integer(value, layout, &mut out.repr)
        } else if kind == &raw mut PyUnicode_Type && PyUnicode_GetLength(value) <= LONGEST_HELD {
            out.clear();
            text::string(value, layout, &mut out.repr, LONGEST_HELD as usize)
        } else {
            None
        };
        done.is_some() && out.repr.len() <= longest
    }
}
