//! The last text of a variable, and how to see cheaply that it still holds.

use std::rc::Rc;

use crate::ffi::*;
use crate::held::{Held, give_back, take};
use crate::recent::Reading;
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
    shown: Rendered,
    /// What stands for snapshot and text if others may have it, too.
    shared: Option<Rc<Reading>>,
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
            let others = self.unshare(value, renderer);
            let held = Held::to(value);
            let kind = kind_of(value);
            if simple(value, kind, scratch, renderer) {
                self.snapshot.clear();
            } else if let Some(reading) = renderer.recent(value) {
                release(quick);
                *quick = LOOSE;
                self.is_literal = false;
                return Ok(self.share(reading, scratch));
            } else if !self.splice(value, others, renderer, scratch) {
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
        if let Some(reading) = renderer.recent.keep(value, scratch, &mut self.snapshot) {
            return Ok(self.share(reading, scratch));
        }
        if self.is_bound && *scratch == self.shown {
            return Ok(Change::Nothing);
        }
        std::mem::swap(scratch, &mut self.shown);
        Ok(self.bind())
    }

    /// The text that the variable has now.
    pub fn shown(&self) -> &Rendered {
        self.shared.as_ref().map_or(&self.shown, |reading| &reading.shown)
    }

    /// Takes over a reading; `scratch` gets the last text if that was another.
    fn share(&mut self, reading: Rc<Reading>, scratch: &mut Rendered) -> Change {
        let is_same = self.is_bound && reading.shown == self.shown;
        self.snapshot.clear();
        self.shared = Some(reading);
        if is_same {
            return Change::Nothing;
        }
        std::mem::swap(scratch, &mut self.shown);
        self.bind()
    }

    /// Moves snapshot and text back if they were shared; if others have them, too, gives them and copies
    /// the text.
    fn unshare(&mut self, value: *mut Object, renderer: &mut Renderer) -> Option<Rc<Reading>> {
        let reading = self.shared.take()?;
        let others = renderer.recent.take(value, reading, &mut self.shown, &mut self.snapshot)?;
        self.shown.clone_from(&others.shown);
        Some(others)
    }

    /// Renders a live value by the last text, if that is shorter.
    unsafe fn splice(
        &mut self,
        value: *mut Object,
        others: Option<Rc<Reading>>,
        renderer: &mut Renderer,
        scratch: &mut Rendered,
    ) -> bool {
        if let Some(reading) = others.filter(|reading| !reading.snapshot.children().is_empty()) {
            self.snapshot = reading.snapshot.clone();
        }
        // SAFETY: the value is live.
        unsafe { renderer.splice(value, &self.shown, &mut self.snapshot, scratch) }
    }

    fn bind(&mut self) -> Change {
        let was_bound = std::mem::replace(&mut self.is_bound, true);
        if was_bound { Change::Rebound } else { Change::Bound }
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
                let shared = self.shared.as_ref();
                let snapshot = shared.map_or(&self.snapshot, |reading| &reading.snapshot);
                return renderer.reads_the_same(value, snapshot);
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
        self.shared = None;
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
