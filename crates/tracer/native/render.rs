//! Values as text: `Renderer` of `python/values.py`, character for character.
//!
//! Builtins, functions, generators and plain instances of the program's classes are rendered here,
//! without running any of its code. Everything else is left to Python: one element where that will do,
//! the whole value where it will not. While it renders, it notes what the text was made of, so that
//! `walk.rs` can tell later that the value still reads the same.

use std::ptr::null_mut;

use crate::ffi::*;
use crate::held::Held;
use crate::lasting::Lasting;
use crate::layout::{self, Layout};
use crate::recent::Recent;
use crate::record::Fail;
use crate::snapshot::{Snapshot, Tag};
use crate::types::Types;
use crate::{text, text_of};

/// Nesting that is followed; deeper values go to Python's `repr`.
pub(crate) const DEEPEST: usize = 60;
pub const HAS_DETAIL: u8 = 1;
pub const IS_CUT: u8 = 2;

/// A value as the log has it.
#[derive(Clone, Default)]
pub struct Rendered {
    pub flags: u8,
    pub repr: Vec<u8>,
    /// Empty unless the flags say that there is one.
    pub detail: Vec<u8>,
}

impl PartialEq for Rendered {
    fn eq(&self, other: &Self) -> bool {
        self.flags == other.flags
            && self.repr == other.repr
            && (self.flags & HAS_DETAIL == 0 || self.detail == other.detail)
    }
}

impl Rendered {
    pub fn clear(&mut self) {
        self.flags = 0;
        self.repr.clear();
        self.detail.clear();
    }
}

/// Why a value was not rendered here.
pub enum Stop {
    /// Python can do it.
    Refused,
    /// A Python exception is set.
    Failed,
}

impl From<Fail> for Stop {
    fn from(Fail: Fail) -> Self {
        Self::Failed
    }
}

/// Functions of the Python renderer.
pub struct Helpers {
    /// `(repr, detail or None, truncated)` of a value.
    pub whole: *mut Object,
    /// The text of an object that may run code of the program, in a tuple if it stands for one that takes
    /// too long; `None` if that must not be run.
    pub foreign: *mut Object,
    /// The text of a builtin constant.
    pub constant: *mut Object,
    /// What `Types::learn` takes.
    pub describe: *mut Object,
    /// Names and values of an instance's slots.
    pub slots: *mut Object,
}

pub struct Renderer {
    pub(crate) layout: Option<&'static Layout>,
    pub(crate) max: usize,
    pub(crate) helpers: Helpers,
    pub(crate) types: Types,
    pub(crate) lasting: Lasting,
    pub(crate) recent: Recent,
    /// Containers that are being rendered, outermost first.
    pub(crate) open: Vec<*mut Object>,
    /// Elements of those containers, held while code of the program may run.
    pub(crate) kept: Vec<Held>,
    pub(crate) out: Vec<u8>,
    /// Bytes of `out` that begin no character.
    pub(crate) wide: usize,
    pub(crate) notes: Snapshot,
    pub(crate) detailed: bool,
    pub(crate) has_own: bool,
    /// Whether something is shown by its type since its `repr` takes too long.
    is_degraded: bool,
}

impl Renderer {
    pub fn new(layout: Option<&'static Layout>, max: usize, helpers: Helpers) -> Self {
        Self {
            layout,
            max,
            helpers,
            types: Types::default(),
            lasting: Lasting::default(),
            recent: Recent::default(),
            open: Vec::new(),
            kept: Vec::new(),
            out: Vec::new(),
            wide: 0,
            notes: Snapshot::default(),
            detailed: false,
            has_own: false,
            is_degraded: false,
        }
    }

    /// The most characters that a text may have.
    pub fn longest(&self) -> usize {
        self.max
    }

    /// Renders a live value that the caller holds, and leaves a snapshot of it if there can be one.
    pub unsafe fn render(
        &mut self,
        value: *mut Object,
        into: &mut Rendered,
        snapshot: &mut Snapshot,
    ) -> Result<(), Fail> {
        snapshot.clear();
        self.notes.begin(self.layout.is_some());
        // SAFETY: the value is live.
        unsafe { self.try_here(value, into)? };
        std::mem::swap(snapshot, &mut self.notes);
        Ok(())
    }

    /// The same for a value that need not be compared later.
    pub unsafe fn render_once(&mut self, value: *mut Object, into: &mut Rendered) -> Result<(), Fail> {
        self.notes.begin(false);
        // SAFETY: the value is live.
        unsafe { self.try_here(value, into) }
    }

    unsafe fn try_here(&mut self, value: *mut Object, into: &mut Rendered) -> Result<(), Fail> {
        // SAFETY: the value is live.
        let outcome = unsafe { self.both(value, into) };
        self.open.clear();
        self.kept.clear();
        match outcome {
            Ok(()) => Ok(()),
            Err(Stop::Failed) => Err(Fail),
            Err(Stop::Refused) => {
                self.notes.give_up();
                // SAFETY: the value is live.
                unsafe { self.by_python(value, into) }
            }
        }
    }

    /// The repr, and the detail if anything in the value has one.
    unsafe fn both(&mut self, value: *mut Object, into: &mut Rendered) -> Result<(), Stop> {
        into.clear();
        self.has_own = false;
        // SAFETY: the value is live.
        unsafe {
            self.pass(value, false)?;
            into.flags = self.finish(&mut into.repr);
            if self.has_own {
                self.notes.begin_detail();
                self.pass(value, true)?;
                into.flags |= self.finish(&mut into.detail);
                if into.detail == into.repr {
                    into.detail.clear();
                } else {
                    into.flags |= HAS_DETAIL;
                }
            }
        }
        Ok(())
    }

    unsafe fn pass(&mut self, value: *mut Object, detailed: bool) -> Result<(), Stop> {
        self.out.clear();
        self.wide = 0;
        self.is_degraded = false;
        self.detailed = detailed;
        // SAFETY: the value is live.
        unsafe { if self.quiet(value) { Ok(()) } else { self.show(value) } }
    }

    /// Moves the text out into an empty buffer, cut if it is too long; gives the flag for that.
    fn finish(&mut self, into: &mut Vec<u8>) -> u8 {
        if !self.is_full() {
            std::mem::swap(&mut self.out, into);
            return if self.is_degraded { IS_CUT } else { 0 };
        }
        let is_start = |byte: &u8| byte & 0xc0 != 0x80;
        let mut starts = self.out.iter().enumerate().filter(|(_, byte)| is_start(byte));
        let end = match self.wide {
            0 => self.max,
            _ => starts.nth(self.max).map_or(self.out.len(), |(at, _)| at),
        };
        into.extend_from_slice(&self.out[..end]);
        into.extend_from_slice(b"...");
        IS_CUT
    }

    unsafe fn by_python(&mut self, value: *mut Object, into: &mut Rendered) -> Result<(), Fail> {
        into.clear();
        // SAFETY: the value is live; Python's answer is `(repr, detail or None, truncated)`.
        unsafe {
            let answer =
                Held(PyObject_CallFunctionObjArgs(self.helpers.whole, value, null_mut::<Object>()));
            if answer.0.is_null() {
                return Err(Fail);
            }
            encoded(PyTuple_GetItem(answer.0, 0), &mut into.repr)?;
            let detail = PyTuple_GetItem(answer.0, 1);
            if detail != &raw mut _Py_NoneStruct {
                into.flags |= HAS_DETAIL;
                encoded(detail, &mut into.detail)?;
            }
            if PyTuple_GetItem(answer.0, 2) == &raw mut _Py_TrueStruct {
                into.flags |= IS_CUT;
            }
        }
        Ok(())
    }

    /// Whether more than is visible was rendered.
    pub(crate) fn is_full(&self) -> bool {
        self.out.len() - self.wide > self.max
    }

    pub(crate) fn put(&mut self, text: &[u8]) {
        self.out.extend_from_slice(text);
    }

    /// The same for text that need not be ASCII.
    pub(crate) fn put_wide(&mut self, text: &[u8]) {
        self.wide += text.iter().filter(|&byte| byte & 0xc0 == 0x80).count();
        self.out.extend_from_slice(text);
    }

    pub(crate) unsafe fn show(&mut self, value: *mut Object) -> Result<(), Stop> {
        // SAFETY: callers hold the value; exact types are checked before each step that needs them.
        unsafe {
            let kind = kind_of(value);
            if kind == &raw mut PyLong_Type {
                self.notes.hold(value);
                match text::integer(value, self.layout, &mut self.out) {
                    Some(()) => Ok(()),
                    None => self.constant(value),
                }
            } else if kind == &raw mut PyUnicode_Type {
                self.notes.hold(value);
                if PyUnicode_GetLength(value).max(0) as usize > self.max {
                    self.notes.held_large();
                }
                match text::string(value, self.layout, &mut self.out, self.max) {
                    Some(()) => Ok(()),
                    None => self.constant(value),
                }
            } else if value == &raw mut _Py_NoneStruct {
                self.notes.hold(value);
                self.put(b"None");
                Ok(())
            } else if kind == &raw mut PyBool_Type {
                self.notes.hold(value);
                let is_true = value == &raw mut _Py_TrueStruct;
                self.put(if is_true { b"True" } else { b"False" });
                Ok(())
            } else if kind == &raw mut PyFloat_Type {
                self.notes.hold(value);
                text::float(PyFloat_AsDouble(value), &mut self.out);
                Ok(())
            } else if kind == &raw mut PyList_Type {
                self.sequence(value, Tag::List, [b"[", b"]", b"[...]"])
            } else if kind == &raw mut PyTuple_Type {
                let close: &[u8] = if PyTuple_Size(value) == 1 { b",)" } else { b")" };
                self.sequence(value, Tag::Tuple, [b"(", close, b"(...)"])
            } else if kind == &raw mut PyDict_Type {
                self.mapping(value, b"{...}")
            } else if kind == &raw mut PySet_Type {
                self.set(value, Tag::Set, b"set()", [b"{", b"}", b"set(...)"])
            } else if kind == &raw mut PyFrozenSet_Type {
                let marks: [&[u8]; 3] = [b"frozenset({", b"})", b"frozenset(...)"];
                self.set(value, Tag::FrozenSet, b"frozenset()", marks)
            } else if is_constant(kind) && (kind != &raw mut PyRange_Type || is_exact_range(value)) {
                self.notes.hold(value);
                self.constant(value)
            } else {
                self.object(value, kind)
            }
        }
    }

    /// The text of a builtin that never changes, as Python finds it.
    unsafe fn constant(&mut self, value: *mut Object) -> Result<(), Stop> {
        self.notes.held_large();
        // SAFETY: callers hold the value.
        unsafe { self.by_helper(self.helpers.constant, value) }
    }

    /// The text that a Python function gives.
    pub(crate) unsafe fn by_helper(&mut self, helper: *mut Object, value: *mut Object) -> Result<(), Stop> {
        // SAFETY: the helper and the value are live; the answer is owned.
        unsafe {
            let answer = Held(PyObject_CallFunctionObjArgs(helper, value, null_mut::<Object>()));
            if answer.0.is_null() {
                return Err(Stop::Failed);
            }
            let is_degraded = kind_of(answer.0) == &raw mut PyTuple_Type;
            self.is_degraded |= is_degraded;
            let text = if is_degraded { PyTuple_GetItem(answer.0, 0) } else { answer.0 };
            // Lone surrogates are not UTF-8; Python spells them out.
            let text = text_of(text).ok_or(Stop::Refused)?;
            self.put_wide(text);
        }
        Ok(())
    }

    /// Whether to go into a container: not twice into one, and not too deep.
    pub(crate) unsafe fn enter(&mut self, value: *mut Object, recursive: &[u8]) -> Result<bool, Stop> {
        let is_too_deep = self.open.len() >= DEEPEST && self.is_safe();
        if is_too_deep || self.open.contains(&value) {
            self.notes.give_up();
            self.put_wide(recursive);
            return Ok(false);
        }
        if self.open.len() >= DEEPEST {
            // SAFETY: callers hold the value.
            unsafe { self.foreign(value)? };
            return Ok(false);
        }
        self.open.push(value);
        Ok(true)
    }

    pub(crate) unsafe fn sequence(&mut self, value: *mut Object, tag: Tag, marks: [&[u8]; 3]) -> Result<(), Stop> {
        // SAFETY: the value is a list or a tuple, held by the caller.
        unsafe {
            let size = self.size(value, tag);
            let count = self.notes.row(tag, size);
            if size == 0 {
                self.put(marks[0]);
                self.put(marks[1]);
                return Ok(());
            }
            let start = (self.out.len(), self.wide, self.notes.mark());
            if let Some(shown) = self.atoms(value, tag, marks)? {
                self.notes.fill(count, shown);
                return Ok(());
            }
            // There is more than atoms in it: once more, in the careful way.
            self.out.truncate(start.0);
            self.wide = start.1;
            self.notes.back_to(start.2);
            let first = self.kept.len();
            self.keep_items(value, tag);
            self.elements(value, first, marks, false)
        }
    }

    /// Shows a list or tuple as long as its elements are immutable builtins, which needs no care for what
    /// may happen meanwhile: gives their number, or `None` if there are others.
    unsafe fn atoms(
        &mut self,
        value: *mut Object,
        tag: Tag,
        [open, close, _]: [&[u8]; 3],
    ) -> Result<Option<usize>, Stop> {
        let mut shown = 0;
        // SAFETY: as for `sequence`; each item is read anew and held while Python is called.
        unsafe {
            self.put(open);
            while let Some(item) = self.item(value, tag, shown).filter(|_| !self.is_full()) {
                if shown > 0 {
                    self.put(b", ");
                }
                shown += 1;
                let kind = kind_of(item);
                if kind == &raw mut PyLong_Type {
                    self.notes.hold(item);
                    if text::integer(item, self.layout, &mut self.out).is_none() {
                        let item = Held::to(item);
                        self.constant(item.0)?;
                    }
                } else if is_atom(kind) {
                    let item = Held::to(item);
                    self.show(item.0)?;
                } else {
                    return Ok(None);
                }
            }
            // Below the deepest level Python's own `repr` shows all but numbers alone or strings alone.
            if self.open.len() >= DEEPEST && !self.is_uniform(value, tag) {
                return Ok(None);
            }
            self.put(close);
        }
        Ok(Some(shown))
    }

    /// Whether the visible elements are all numbers, or all strings and not too long.
    unsafe fn is_uniform(&self, value: *mut Object, tag: Tag) -> bool {
        // SAFETY: as for `sequence`; nothing runs meanwhile.
        unsafe {
            let items = (0..self.visible()).map_while(|at| self.item(value, tag, at));
            self.are_uniform(items)
        }
    }

    /// The same of the elements kept from `first` on.
    unsafe fn is_uniform_from(&self, first: usize) -> bool {
        // SAFETY: they are held.
        unsafe { self.are_uniform(self.kept[first..].iter().map(|item| item.0)) }
    }

    unsafe fn are_uniform(&self, items: impl Iterator<Item = *mut Object>) -> bool {
        let (mut numbers, mut strings, mut chars) = (true, true, 0usize);
        for item in items {
            // SAFETY: callers pass live objects.
            unsafe {
                let kind = kind_of(item);
                if kind == &raw mut PyUnicode_Type {
                    numbers = false;
                    chars += PyUnicode_GetLength(item) as usize;
                } else {
                    strings = false;
                    numbers &= is_atom(kind) && kind != &raw mut PyBytes_Type;
                }
            }
        }
        numbers || strings && chars <= self.max
    }

    unsafe fn size(&self, value: *mut Object, tag: Tag) -> usize {
        // SAFETY: the value is a list or a tuple.
        let size = unsafe {
            if tag == Tag::List { PyList_Size(value) } else { PyTuple_Size(value) }
        };
        size.max(0) as usize
    }

    unsafe fn item(&self, value: *mut Object, tag: Tag, at: usize) -> Option<*mut Object> {
        // SAFETY: the value is a list or a tuple; the index is checked.
        unsafe {
            if self.layout.is_some() {
                return layout::items_of(value, tag == Tag::List).get(at).copied();
            }
            (at < self.size(value, tag)).then(|| match tag {
                Tag::List => PyList_GetItem(value, at as isize),
                _ => PyTuple_GetItem(value, at as isize),
            })
        }
    }

    unsafe fn keep_items(&mut self, value: *mut Object, tag: Tag) {
        let visible = self.visible();
        // SAFETY: as for `item`; nothing runs meanwhile.
        unsafe {
            for at in 0..visible {
                let Some(item) = self.item(value, tag, at) else { break };
                self.kept.push(Held::to(item));
            }
        }
    }

    /// The elements kept from `first` on, pairs of key and value or single ones.
    pub(crate) unsafe fn elements(
        &mut self,
        value: *mut Object,
        first: usize,
        [open, close, recursive]: [&[u8]; 3],
        pairs: bool,
    ) -> Result<(), Stop> {
        // SAFETY: the value is held by the caller, the elements by `kept`.
        unsafe {
            // At the deepest level Python's own `repr` still shows numbers alone or strings alone.
            let is_flat = !pairs && self.open.len() >= DEEPEST && self.is_uniform_from(first);
            if is_flat {
                self.open.push(value);
            } else if !self.enter(value, recursive)? {
                self.kept.truncate(first);
                return Ok(());
            }
            self.put(open);
            let step = if pairs { 2 } else { 1 };
            let last = self.kept.len();
            for at in (first..last).step_by(step) {
                if self.is_full() {
                    break;
                }
                if at > first {
                    self.put(b", ");
                }
                self.show(self.kept[at].0)?;
                if pairs {
                    self.put(b": ");
                    self.show(self.kept[at + 1].0)?;
                }
            }
            self.put(close);
            self.open.pop();
            self.kept.truncate(first);
            Ok(())
        }
    }

    pub(crate) unsafe fn mapping(&mut self, dict: *mut Object, recursive: &[u8]) -> Result<(), Stop> {
        let visible = self.visible();
        let first = self.kept.len();
        let (mut at, mut key, mut value) = (0, null_mut(), null_mut());
        // SAFETY: a dict held by the caller; nothing runs between two steps.
        unsafe {
            let size = PyDict_Size(dict).max(0) as usize;
            self.notes.sized(Tag::Dict, size);
            if size == 0 {
                self.put(b"{}");
                return Ok(());
            }
            while self.kept.len() - first < 2 * visible
                && PyDict_Next(dict, &mut at, &mut key, &mut value) != 0
            {
                self.kept.push(Held::to(key));
                self.kept.push(Held::to(value));
            }
            self.elements(dict, first, [b"{", b"}", recursive], true)
        }
    }

    unsafe fn set(
        &mut self,
        set: *mut Object,
        tag: Tag,
        empty: &[u8],
        marks: [&[u8]; 3],
    ) -> Result<(), Stop> {
        let first = self.kept.len();
        // SAFETY: a set held by the caller; iterating over it runs no code of the program.
        unsafe {
            let size = PySet_Size(set).max(0) as usize;
            self.notes.sized(tag, size);
            if size == 0 {
                self.put(empty);
                return Ok(());
            }
            self.keep_iterated(set)?;
            self.elements(set, first, marks, false)
        }
    }

    /// Keeps the visible elements of what is iterated over by C code.
    pub(crate) unsafe fn keep_iterated(&mut self, value: *mut Object) -> Result<(), Stop> {
        // SAFETY: the value is held by the caller; the iterator and what it gives are owned.
        unsafe {
            let items = Held(PyObject_GetIter(value));
            if items.0.is_null() {
                return Err(Stop::Failed);
            }
            for _ in 0..self.visible() {
                let item = PyIter_Next(items.0);
                if item.is_null() {
                    break;
                }
                self.kept.push(Held(item));
            }
        }
        Ok(())
    }

    /// The most elements that can be seen, of which each but the first takes two characters at least.
    pub(crate) fn visible(&self) -> usize {
        self.max / 2 + 2
    }

}

/// Numbers and strings: shown without running anything, and never changed.
pub unsafe fn is_atom(kind: *mut Object) -> bool {
    kind == &raw mut PyLong_Type
        || kind == &raw mut PyUnicode_Type
        || kind == &raw mut PyFloat_Type
        || kind == &raw mut PyBool_Type
        || kind == &raw mut PyBytes_Type
        // SAFETY: `None` is a live object.
        || kind == unsafe { kind_of(&raw mut _Py_NoneStruct) }
}

/// Further builtins that never change.
pub unsafe fn is_constant(kind: *mut Object) -> bool {
    kind == &raw mut PyBytes_Type
        || kind == &raw mut PyRange_Type
        || kind == &raw mut PyComplex_Type
        // SAFETY: `...` is a live object.
        || kind == unsafe { kind_of(&raw mut _Py_EllipsisObject) }
}

/// Whether a range is one of plain ints: before 3.9 its ends may be of a subclass.
unsafe fn is_exact_range(range: *mut Object) -> bool {
    // SAFETY: callers hold the range, whose attributes are read by C code.
    [c"start", c"stop", c"step"].iter().all(|name| unsafe {
        let part = Held(PyObject_GetAttrString(range, name.as_ptr()));
        !part.0.is_null() && kind_of(part.0) == &raw mut PyLong_Type
    })
}

/// Appends a str's UTF-8, lone surrogates spelled out.
unsafe fn encoded(text: *mut Object, out: &mut Vec<u8>) -> Result<(), Fail> {
    // SAFETY: the text is a live str; the bytes are owned while they are copied.
    unsafe {
        let bytes = Held(PyUnicode_AsEncodedString(
            text,
            c"utf-8".as_ptr(),
            c"backslashreplace".as_ptr(),
        ));
        let data = if bytes.0.is_null() { None } else { crate::bytes_of(bytes.0) };
        out.extend(data.ok_or(Fail)?);
    }
    Ok(())
}
