//! The new text of a list of lists that has changed in one place, made from the old one.
//!
//! Programs fill tables cell by cell. Only the rows that changed are rendered again; the snapshot knows
//! where the text of each row ends.

use crate::ffi::*;
use crate::layout::{self, Layout};
use crate::render::{Rendered, Renderer};
use crate::snapshot::{Child, Snapshot};
use crate::walk::Walk;

impl Renderer {
    /// Renders a live value into `into` by `shown`, its last text, and brings that text's snapshot up to
    /// date; or gives false and changes nothing.
    pub unsafe fn splice(
        &mut self,
        value: *mut Object,
        shown: &Rendered,
        snapshot: &mut Snapshot,
        into: &mut Rendered,
    ) -> bool {
        // SAFETY: the value is live, and nothing runs meanwhile.
        unsafe {
            let Some(layout) = self.layout else { return false };
            if kind_of(value) != &raw mut PyList_Type || snapshot.children().is_empty() {
                return false;
            }
            let items = layout::items_of(value, true);
            let Some(edit) = self.edit(items, snapshot) else { return false };
            let new = &items[edit.start..items.len() - edit.end];
            into.clear();
            into.repr.extend_from_slice(edit.head(&shown.repr, snapshot.children()));
            self.open.push(value);
            let is_done = self.rows(new, &edit, into, layout);
            self.open.clear();
            into.repr.extend_from_slice(edit.tail(&shown.repr, snapshot.children()));
            if !is_done || into.repr.len() > self.max {
                return false;
            }
            snapshot.replace_children(edit.start, edit.end, &mut self.notes);
            true
        }
    }

    /// How many elements still read the same at the start and at the end; `None` if there are none, or
    /// nothing else.
    unsafe fn edit(&mut self, items: &[*mut Object], snapshot: &Snapshot) -> Option<Edit> {
        let known = snapshot.children().len();
        let most = known.min(items.len());
        let mut same = |item: *mut Object, at: usize| {
            let mut walk = Walk::over(self, snapshot.words_of_child(at));
            // SAFETY: the element is live.
            unsafe { walk.same(item) && walk.is_over() }
        };
        let start = (0..most).take_while(|&at| same(items[at], at)).count();
        let ends = (1..=most - start).take_while(|&back| same(items[items.len() - back], known - back));
        let end = ends.count();
        (start + end > 0 && start + end < items.len()).then_some(Edit { start, end })
    }

    /// Renders the new rows, with separators between them and to what is before and after; what they are
    /// made of is left in the notes.
    unsafe fn rows(&mut self, new: &[*mut Object], edit: &Edit, into: &mut Rendered, layout: &Layout) -> bool {
        self.notes.begin(true);
        self.has_own = false;
        let before = into.repr.len();
        self.out.clear();
        self.wide = 0;
        for (at, &item) in new.iter().enumerate() {
            if at + edit.start > 0 {
                self.put(b", ");
            }
            // SAFETY: the elements are live.
            if self.is_full() || !unsafe { self.quiet_value(item, layout) } {
                self.out.clear();
                return false;
            }
            self.notes.end_child(before + self.out.len());
        }
        if edit.end > 0 {
            self.put(b", ");
        }
        into.repr.append(&mut self.out);
        self.wide == 0 && !self.has_own
    }
}

/// What two versions of a list have in common: so many elements at the start and at the end.
struct Edit {
    start: usize,
    end: usize,
}

impl Edit {
    /// The text before the new elements.
    fn head<'a>(&self, text: &'a [u8], children: &[Child]) -> &'a [u8] {
        match self.start.checked_sub(1) {
            None => &text[..1],
            Some(last) => &text[..children[last].text],
        }
    }

    /// The text after them.
    fn tail<'a>(&self, text: &'a [u8], children: &[Child]) -> &'a [u8] {
        match (children.len() - self.end).checked_sub(1) {
            None => &text[1..],
            Some(_) if self.end == 0 => &text[text.len() - 1..],
            Some(last) => &text[children[last].text + 2..],
        }
    }
}
