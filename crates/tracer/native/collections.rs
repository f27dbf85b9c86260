//! Views of dictionaries, and the containers of the standard library that programs use most.

use std::ptr::null_mut;

use crate::ffi::*;
use crate::held::Held;
use crate::render::{Renderer, Stop, is_atom};
use crate::text;

/// The names of the attributes that are asked for.
const MAXLEN: &std::ffi::CStr = c"maxlen";
const FACTORY: &std::ffi::CStr = c"default_factory";
const ITEMS: &std::ffi::CStr = c"items";

impl Renderer {
    /// `dict_keys([…])` and the like.
    pub(crate) unsafe fn view(&mut self, view: *mut Object, open: &[u8]) -> Result<(), Stop> {
        // SAFETY: a view held by the caller; to iterate over it runs no code of the program.
        unsafe { self.iterated(view, [open, b"])", b"..."]) }
    }

    /// `deque([…])`
    pub(crate) unsafe fn deque(&mut self, deque: *mut Object) -> Result<(), Stop> {
        // SAFETY: a deque held by the caller; the attribute is read by C code.
        unsafe {
            let most = attribute(deque, MAXLEN)?;
            let mut close = b"])".to_vec();
            if most.0 != &raw mut _Py_NoneStruct {
                close = b"], maxlen=".to_vec();
                text::integer(most.0, None, &mut close).ok_or(Stop::Refused)?;
                close.push(b')');
            }
            self.iterated(deque, [b"deque([", &close, b"[...]"])
        }
    }

    /// `defaultdict(<class 'int'>, {…})`
    pub(crate) unsafe fn default_dict(&mut self, dict: *mut Object) -> Result<(), Stop> {
        self.notes.give_up();
        // SAFETY: a defaultdict held by the caller; the attribute is read by C code.
        unsafe {
            let factory = attribute(dict, FACTORY)?;
            self.put(b"defaultdict(");
            self.show(factory.0)?;
            self.put(b", ");
            self.mapping(dict, b"{...}")?;
            self.put(b")");
        }
        Ok(())
    }

    /// `Counter({…})`, the most frequent first.
    pub(crate) unsafe fn counter(&mut self, dict: *mut Object) -> Result<(), Stop> {
        self.notes.give_up();
        let (mut at, mut key, mut value) = (0, null_mut(), null_mut());
        let mut entries = Vec::new();
        // SAFETY: a Counter, so a dict, held by the caller; nothing runs between two steps.
        unsafe {
            while PyDict_Next(dict, &mut at, &mut key, &mut value) != 0 {
                let is_int = kind_of(value) == &raw mut PyLong_Type;
                let layout = self.layout.filter(|_| is_int);
                let count = layout.and_then(|layout| layout.short_int(value)).ok_or(Stop::Refused)?;
                entries.push((count, key, value));
            }
            if entries.is_empty() {
                self.put(b"Counter()");
                return Ok(());
            }
            entries.sort_by_key(|&(count, ..)| std::cmp::Reverse(count));
            let first = self.kept.len();
            for &(_, key, value) in entries.iter().take(self.visible()) {
                self.kept.extend([Held::to(key), Held::to(value)]);
            }
            self.elements(dict, first, [b"Counter({", b"})", b"{...}"], true)
        }
    }

    /// `OrderedDict({…})`, or else `OrderedDict([(…), …])`, in its own order, which is not that of the dict.
    pub(crate) unsafe fn ordered_dict(&mut self, dict: *mut Object, is_mapping: bool) -> Result<(), Stop> {
        self.notes.give_up();
        let (mut at, mut key, mut value) = (0, null_mut(), null_mut());
        // SAFETY: an OrderedDict, so a dict, held by the caller; what is taken from it is owned.
        unsafe {
            while PyDict_Next(dict, &mut at, &mut key, &mut value) != 0 {
                if !is_atom(kind_of(key)) {
                    // To iterate asks keys for their hashes, which may be code of the program.
                    return Err(Stop::Refused);
                }
            }
            // The type's own: an instance may have an attribute of this name.
            let items = attribute(kind_of(dict).cast(), ITEMS)?;
            let items = Held(PyObject_CallFunctionObjArgs(items.0, dict, null_mut::<Object>()));
            if items.0.is_null() {
                return Err(Stop::Failed);
            }
            let first = self.kept.len();
            self.keep_iterated(items.0)?;
            if !PyErr_Occurred().is_null() {
                // It was changed behind its back.
                PyErr_Clear();
                self.kept.truncate(first);
                return Err(Stop::Refused);
            }
            if self.kept.len() == first {
                self.put(b"OrderedDict()");
                return Ok(());
            }
            if !is_mapping {
                return self.elements(dict, first, [b"OrderedDict([", b"])", b"..."], false);
            }
            for pair in self.kept.split_off(first) {
                let part = |at| Held::to(PyTuple_GetItem(pair.0, at));
                self.kept.extend([part(0), part(1)]);
            }
            self.elements(dict, first, [b"OrderedDict({", b"})", b"..."], true)
        }
    }

    /// What an object of C code gives when it is iterated over.
    unsafe fn iterated(&mut self, value: *mut Object, marks: [&[u8]; 3]) -> Result<(), Stop> {
        self.notes.give_up();
        let first = self.kept.len();
        // SAFETY: the value is held by the caller; its iterator is owned, and so is what that gives.
        unsafe {
            self.keep_iterated(value)?;
            if self.kept.len() == first {
                self.put(marks[0]);
                self.put(marks[1]);
                return Ok(());
            }
            self.elements(value, first, marks, false)
        }
    }
}

unsafe fn attribute(object: *mut Object, name: &std::ffi::CStr) -> Result<Held, Stop> {
    // SAFETY: callers hold the object; the reference is owned.
    let found = Held(unsafe { PyObject_GetAttrString(object, name.as_ptr()) });
    if found.0.is_null() { Err(Stop::Failed) } else { Ok(found) }
}

/// How the text of a dictionary's view begins, if these are its instances.
pub fn view_name(kind: *mut Object) -> Option<&'static [u8]> {
    if kind == &raw mut PyDictKeys_Type {
        Some(b"dict_keys([")
    } else if kind == &raw mut PyDictValues_Type {
        Some(b"dict_values([")
    } else if kind == &raw mut PyDictItems_Type {
        Some(b"dict_items([")
    } else {
        None
    }
}
