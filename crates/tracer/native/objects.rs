//! Objects that are no builtin values: instances, functions, methods, generators.

use std::ptr::null_mut;

use crate::collections::view_name;
use crate::ffi::*;
use crate::held::Held;
use crate::layout::{self, Layout};
use crate::render::{Renderer, Stop};
use crate::snapshot::Tag;
use crate::text_of;
use crate::types::{Shown, generator_name};

impl Renderer {
    pub(crate) unsafe fn object(&mut self, value: *mut Object, kind: *mut Object) -> Result<(), Stop> {
        // SAFETY: callers hold the value.
        unsafe {
            let Some(layout) = self.layout else {
                // Whether it has details is for Python to find out.
                return Err(Stop::Refused);
            };
            if kind == &raw mut PyFunction_Type {
                return self.function(value, layout);
            }
            if let Some(name) = generator_name(kind) {
                return self.generator(value, name);
            }
            if kind == &raw mut PyMethod_Type {
                return self.method(value, layout);
            }
            if let Some(open) = view_name(kind) {
                return self.view(value, open);
            }
            let number = match self.types.known(kind) {
                Some(number) => number,
                None => self.types.learn(value, self.helpers.describe)?.ok_or(Stop::Refused)?,
            };
            let info = self.types.get(number);
            match info.shown {
                Shown::ByType => {}
                Shown::Deque => return self.deque(value),
                Shown::DefaultDict => return self.default_dict(value),
                Shown::Counter => return self.counter(value),
                Shown::OrderedDict => return self.ordered_dict(value, true),
                Shown::OrderedPairs => return self.ordered_dict(value, false),
                Shown::Varied | Shown::AsClass => return self.foreign(value),
                Shown::AsList => {
                    self.notes.sized(Tag::Base, number as usize);
                    return self.sequence(value, Tag::List, [b"[", b"]", b"..."]);
                }
                Shown::AsDict => {
                    self.notes.sized(Tag::Base, number as usize);
                    return self.mapping(value, b"...");
                }
            }
            let is_own = info.is_own;
            self.has_own |= is_own;
            if is_own && self.detailed {
                return self.instance(value, number);
            }
            self.notes.sized(Tag::Plain, number as usize);
            let info = self.types.get(number);
            self.wide += info.text.iter().filter(|&byte| byte & 0xc0 == 0x80).count();
            self.out.extend_from_slice(&info.text);
            Ok(())
        }
    }

    /// Whether no code of the program is to run.
    pub(crate) fn is_safe(&self) -> bool {
        self.helpers.foreign == &raw mut _Py_NoneStruct
    }

    /// An object whose text may depend on anything.
    pub(crate) unsafe fn foreign(&mut self, value: *mut Object) -> Result<(), Stop> {
        self.notes.give_up();
        // SAFETY: callers hold the value.
        unsafe {
            let kind = kind_of(value);
            let known = self.types.known(kind).map(|number| self.types.get(number).shown);
            let lasts = kind == &raw mut PyType_Type
                || known == Some(Shown::AsClass)
                || kind == &raw mut PyCFunction_Type
                || kind == &raw mut PyModule_Type && self.is_safe();
            if lasts {
                if let Some(text) = self.lasting.text(value, self.helpers.whole) {
                    self.wide += text.iter().filter(|&byte| byte & 0xc0 == 0x80).count();
                    self.out.extend_from_slice(text);
                    return Ok(());
                }
            }
        }
        if self.is_safe() {
            // Python knows how to show it without that.
            return Err(Stop::Refused);
        }
        // SAFETY: callers hold the value.
        unsafe { self.by_helper(self.helpers.foreign, value) }
    }

    /// `Name(attribute=value, …)`
    unsafe fn instance(&mut self, value: *mut Object, number: u32) -> Result<(), Stop> {
        let visible = self.visible();
        // SAFETY: the value is held by the caller, its dict here.
        unsafe {
            let dict = Held(PyObject_GenericGetDict(value, null_mut()));
            if dict.0.is_null() {
                PyErr_Clear();
            }
            let is_dict = !dict.0.is_null() && kind_of(dict.0) == &raw mut PyDict_Type;
            let size = if is_dict { layout::dict_size(dict.0) } else { 0 };
            self.notes.sized(Tag::Own, number as usize);
            self.notes.number(size);
            let is_slotted = self.types.get(number).is_slotted;
            if is_slotted {
                self.notes.give_up();
            }
            let mut name = self.types.get(number).name.clone();
            name.extend(b"(...)");
            if !self.enter(value, &name)? {
                return Ok(());
            }
            self.put_wide(&name[..name.len() - 4]);
            let first = self.kept.len();
            if is_dict {
                let (mut at, mut key, mut item) = (0, null_mut(), null_mut());
                while self.kept.len() - first < 2 * visible
                    && PyDict_Next(dict.0, &mut at, &mut key, &mut item) != 0
                {
                    if kind_of(key) != &raw mut PyUnicode_Type {
                        return Err(Stop::Refused);
                    }
                    self.kept.push(Held::to(key));
                    self.kept.push(Held::to(item));
                }
            }
            if is_slotted {
                self.keep_slots(value)?;
            }
            for at in (first..self.kept.len()).step_by(2) {
                if self.is_full() {
                    break;
                }
                self.part(self.kept[at].0, at == first)?;
                self.show(self.kept[at + 1].0)?;
            }
            self.put(b")");
            self.open.pop();
            self.kept.truncate(first);
            Ok(())
        }
    }

    /// Keeps name and value of each of an instance's slots, as Python finds them.
    unsafe fn keep_slots(&mut self, value: *mut Object) -> Result<(), Stop> {
        // SAFETY: the value is held by the caller; the answer is a tuple of names and values in turn.
        unsafe {
            let nothing = null_mut::<Object>();
            let slots = Held(PyObject_CallFunctionObjArgs(self.helpers.slots, value, nothing));
            if slots.0.is_null() {
                return Err(Stop::Failed);
            }
            let items = (0..PyTuple_Size(slots.0)).map(|at| PyTuple_GetItem(slots.0, at));
            self.kept.extend(items.map(|item| Held::to(item)));
        }
        Ok(())
    }

    /// The name of an attribute or captured variable.
    unsafe fn part(&mut self, name: *mut Object, is_first: bool) -> Result<(), Stop> {
        if !is_first {
            self.put(b", ");
        }
        self.notes.hold(name);
        // SAFETY: callers hold the name, an exact str.
        let name = unsafe { text_of(name).ok_or(Stop::Refused)? };
        self.put_wide(name);
        self.put(b"=");
        Ok(())
    }

    unsafe fn function(&mut self, function: *mut Object, layout: &Layout) -> Result<(), Stop> {
        // SAFETY: a function held by the caller; its parts are live while it is.
        unsafe {
            let is_own = is_own_closure(function);
            self.has_own |= is_own;
            if is_own && self.detailed {
                return self.closure(function, PyFunction_GetClosure(function));
            }
            let qualname = layout.qualname(function);
            exact_string(qualname)?;
            self.notes.sized(Tag::Function, usize::from(is_own));
            self.notes.hold(qualname);
            self.named(b"<function ", qualname)
        }
    }

    /// A function of the program with the variables it has captured.
    unsafe fn closure(&mut self, function: *mut Object, closure: *mut Object) -> Result<(), Stop> {
        // SAFETY: the function is held by the caller, so are its closure and code; cells are tuples' items.
        unsafe {
            let code = PyFunction_GetCode(function);
            let name = Held(PyObject_GetAttrString(function, c"__name__".as_ptr()));
            let names = Held(PyObject_GetAttrString(code, c"co_freevars".as_ptr()));
            if name.0.is_null() || names.0.is_null() {
                PyErr_Clear();
                return Err(Stop::Refused);
            }
            exact_string(name.0)?;
            self.notes.closure(code);
            self.notes.hold(name.0);
            let mut start = text_of(name.0).ok_or(Stop::Refused)?.to_vec();
            start.extend(b"(...)");
            if !self.enter(function, &start)? {
                return Ok(());
            }
            self.put_wide(&start[..start.len() - 4]);
            let mut is_first = true;
            for at in 0..PyTuple_Size(closure) {
                if self.is_full() {
                    break;
                }
                let content = Held::to(layout::through_cell(PyTuple_GetItem(closure, at)));
                if content.0.is_null() {
                    self.notes.tag(Tag::Unbound);
                    continue;
                }
                self.part(PyTuple_GetItem(names.0, at), is_first)?;
                self.show(content.0)?;
                is_first = false;
            }
            self.put(b")");
            self.open.pop();
            Ok(())
        }
    }

    /// `<bound method NAME of SELF>`
    unsafe fn method(&mut self, method: *mut Object, layout: &Layout) -> Result<(), Stop> {
        // SAFETY: a method held by the caller; its parts are live while it is.
        unsafe {
            let (function, owner) = (PyMethod_Function(method), PyMethod_Self(method));
            if kind_of(function) != &raw mut PyFunction_Type {
                return self.foreign(method);
            }
            self.notes.give_up();
            let kept = (self.detailed, self.has_own);
            self.detailed = false;
            if self.enter(method, b"...")? {
                self.start(b"<bound method ", layout.qualname(function))?;
                self.put(b" of ");
                self.show(owner)?;
                self.put(b">");
                self.open.pop();
            }
            (self.detailed, self.has_own) = kept;
            Ok(())
        }
    }

    unsafe fn generator(&mut self, value: *mut Object, start: &[u8]) -> Result<(), Stop> {
        // SAFETY: a generator held by the caller; the attribute is read by C code.
        unsafe {
            let qualname = Held(PyObject_GetAttrString(value, c"__qualname__".as_ptr()));
            if qualname.0.is_null() {
                PyErr_Clear();
                return Err(Stop::Refused);
            }
            self.notes.give_up();
            self.named(start, qualname.0)
        }
    }

    /// `<function NAME>`
    unsafe fn named(&mut self, start: &[u8], name: *mut Object) -> Result<(), Stop> {
        // SAFETY: callers hold the name.
        unsafe { self.start(start, name)? };
        self.put(b">");
        Ok(())
    }

    /// `<function NAME`, unless the name itself may look like an address or a string.
    unsafe fn start(&mut self, start: &[u8], name: *mut Object) -> Result<(), Stop> {
        // SAFETY: callers hold the name.
        unsafe { exact_string(name)? };
        // SAFETY: as above.
        let name = unsafe { text_of(name).ok_or(Stop::Refused)? };
        if name.iter().any(|byte| matches!(byte, b'\'' | b'"' | b' ')) {
            return Err(Stop::Refused);
        }
        self.put(start);
        self.put_wide(name);
        Ok(())
    }
}

/// Whether a function of the program has captured variables.
pub unsafe fn is_own_closure(function: *mut Object) -> bool {
    // SAFETY: callers pass a live function; its parts are live while it is.
    unsafe {
        let module = PyFunction_GetModule(function);
        !PyFunction_GetClosure(function).is_null()
            && !module.is_null()
            && kind_of(module) == &raw mut PyUnicode_Type
            && text_of(module) == Some(b"__main__")
    }
}

/// Refuses what is no plain str: an object of a subclass must not be held.
unsafe fn exact_string(name: *mut Object) -> Result<(), Stop> {
    // SAFETY: callers pass a live object.
    let is_exact = unsafe { kind_of(name) } == &raw mut PyUnicode_Type;
    if is_exact { Ok(()) } else { Err(Stop::Refused) }
}
