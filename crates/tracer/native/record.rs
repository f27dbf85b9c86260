//! Activations, their variables, and the records about them: `Recorder` of `python/recorder.py` again,
//! record for record.

use std::collections::HashMap;
use std::ffi::{CStr, c_int};
use std::hash::{BuildHasherDefault, Hasher};
use std::ptr::null_mut;

use crate::ffi::*;
use crate::log::{self, uint};
use crate::{bytes_of, render, small_int, text_of};

/// A Python exception is set, or Python has been told.
pub struct Fail;

/// Kinds of records, as `src/log.rs` of the crate lists them.
#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    Call = 0,
    Resume = 1,
    Line = 2,
    Return = 3,
    Yield = 4,
    Unwind = 5,
    Exception = 6,
}

const NAME_RECORD: u8 = 17;
const LOG_CAP: u64 = 256 << 20;
/// Longer strings are not held: that would keep Python from growing them in place.
const LONGEST_HELD: isize = 64;
/// `co_flags` of generators, coroutines and asynchronous generators.
const GENERATOR_LIKE: i32 = 0x20 | 0x80 | 0x200;

/// Hashes addresses: they differ in the middle bits.
#[derive(Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_usize(byte.into());
        }
    }
    fn write_usize(&mut self, number: usize) {
        let mixed = (self.0 ^ number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ mixed >> 32;
    }
}

type ByAddress<T> = HashMap<usize, T, BuildHasherDefault<AddressHasher>>;

/// What is known of a code object of the traced file. Python keeps the objects alive.
struct Info {
    /// The FUNCTION record, until it is written.
    definition: Option<Vec<u8>>,
    number: u64,
    /// Variables of a function, with their numbers in the log once they have one; `None` for bodies
    /// of modules and classes.
    names: Option<Vec<(*mut Object, Option<u64>)>>,
    is_module: bool,
    is_generator: bool,
    ops: &'static [u8],
    first_line: i32,
}

/// The last text of a variable.
#[derive(Default)]
struct Shown {
    /// The object itself where it cannot change and may be held: the same again needs no text.
    held: Held,
    /// A value as the log writes it; empty while the variable is unbound.
    text: Vec<u8>,
}

/// An owned reference, or none.
struct Held(*mut Object);

impl Default for Held {
    fn default() -> Self {
        Self(null_mut())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: the reference is owned, and recorders are used under the interpreter lock.
            unsafe { Py_DecRef(self.0) };
        }
    }
}

/// A variable of a module or class body.
struct Bound {
    name: Vec<u8>,
    shown: Shown,
    seen: bool,
}

struct Activation {
    number: u64,
    info: usize,
    line: i32,
    /// By slot, for functions.
    slots: Vec<Shown>,
    /// In binding order, for modules and classes, with their namespace.
    bound: Vec<Bound>,
    space: Held,
}

pub struct Recorder {
    frames: FrameApi,
    infos: Vec<Info>,
    by_code: ByAddress<usize>,
    activations: ByAddress<Activation>,
    names: HashMap<Vec<u8>, u64>,
    functions: u64,
    started: u64,
    events: u64,
    depth: i64,
    depth_limit: i64,
    max_events: u64,
    max_chars: usize,
    op_return: i32,
    op_yield: i32,
    op_yield_from: i32,
    op_resume: i32,
    render: *mut Object,
    on_full: *mut Object,
    on_failure: *mut Object,
    on_over: *mut Object,
    trampoline: *mut Object,
    disable: *mut Object,
    /// Up to 3.9 a frame under a Python trace function stays on the line of its last line event, while
    /// the C API tells the line of the instruction.
    stays_on_line: bool,
    over: bool,
}

impl Recorder {
    /// Reads its settings from a dictionary.
    pub unsafe fn new(settings: *mut Object) -> Result<Self, Fail> {
        // SAFETY: the collector passes a dictionary; each value found is kept alive for ever.
        unsafe {
            let object = |key: &CStr| {
                let value = PyDict_GetItemString(settings, key.as_ptr());
                if value.is_null() {
                    PyErr_SetString(PyExc_KeyError, key.as_ptr());
                    return Err(Fail);
                }
                Py_IncRef(value);
                Ok(value)
            };
            let number = |key: &CStr| {
                let mut overflow = 0;
                Ok(PyLong_AsLongLongAndOverflow(object(key)?, &mut overflow))
            };
            log::start(
                object(c"first_window")?,
                number(c"first_window_size")? as usize,
                object(c"next_window")?,
                number(c"window_size")? as usize,
            )?;
            Ok(Self {
                frames: FrameApi::new(),
                infos: Vec::new(),
                by_code: ByAddress::default(),
                activations: ByAddress::default(),
                names: HashMap::new(),
                functions: 0,
                started: 0,
                events: 0,
                depth: 0,
                depth_limit: number(c"depth_limit")?,
                max_events: number(c"max_events")? as u64,
                max_chars: number(c"max_chars")? as usize,
                op_return: number(c"op_return")? as i32,
                op_yield: number(c"op_yield")? as i32,
                op_yield_from: number(c"op_yield_from")? as i32,
                op_resume: number(c"op_resume")? as i32,
                render: object(c"render")?,
                on_full: object(c"on_full")?,
                on_failure: object(c"on_failure")?,
                on_over: object(c"on_over")?,
                trampoline: object(c"trampoline")?,
                disable: object(c"disable")?,
                stays_on_line: object(c"stays_on_line")? == &raw mut _Py_TrueStruct,
                over: false,
            })
        }
    }

    pub fn trampoline(&self) -> *mut Object {
        self.trampoline
    }

    pub fn disable(&self) -> *mut Object {
        self.disable
    }

    pub fn events(&self) -> u64 {
        self.events
    }

    pub fn set_depth_limit(&mut self, limit: i32) {
        self.depth_limit = limit.into();
    }

    /// `code, names or None, is_module, definition, ops, (flags, first line)`
    pub unsafe fn add_code(&mut self, args: &[*mut Object]) -> Result<(), Fail> {
        let &[code, names, is_module, definition, ops, numbers] = args else { return Err(Fail) };
        // SAFETY: the collector passes objects of these kinds and keeps them alive.
        unsafe {
            let is_function = kind_of(names) == &raw mut PyTuple_Type;
            let names = is_function.then(|| {
                let name = |at| (PyTuple_GetItem(names, at), None);
                (0..PyTuple_Size(names)).map(name).collect()
            });
            let flags = small_int(PyTuple_GetItem(numbers, 0));
            self.by_code.insert(code as usize, self.infos.len());
            self.infos.push(Info {
                definition: Some(bytes_of(definition).ok_or(Fail)?.to_vec()),
                number: 0,
                names,
                is_module: is_module == &raw mut _Py_TrueStruct,
                is_generator: flags & GENERATOR_LIKE != 0,
                ops: bytes_of(ops).ok_or(Fail)?,
                first_line: small_int(PyTuple_GetItem(numbers, 1)),
            });
        }
        Ok(())
    }

    pub unsafe fn info_of_frame(&self, frame: *mut Object) -> Option<usize> {
        // SAFETY: the caller passes a live frame.
        unsafe { self.info_of_code(self.frames.code(frame)) }
    }

    pub unsafe fn info_of_code(&self, code: *mut Object) -> Option<usize> {
        if self.over { None } else { self.by_code.get(&(code as usize)).copied() }
    }

    /// Whether the program must not go deeper; then the exception is set.
    pub unsafe fn too_deep(&self) -> bool {
        let deep = self.depth >= self.depth_limit;
        if deep {
            let message = c"maximum recursion depth exceeded";
            // SAFETY: the exception type is a live static object.
            unsafe { PyErr_SetString(PyExc_RecursionError, message.as_ptr()) };
        }
        deep
    }

    /// A call event; without `resumed` it is told by where the frame stands.
    pub fn enter(&mut self, frame: *mut Object, info: usize, resumed: Option<bool>) -> Result<(), Fail> {
        // SAFETY: the frame is live.
        let resumed = resumed.unwrap_or_else(|| unsafe { self.is_resumed(frame, info) });
        let known = self.activations.get(&(frame as usize)).is_some_and(|act| act.info == info);
        let mut kind = Kind::Resume;
        if !resumed || !known {
            kind = Kind::Call;
            let act = self.fresh(frame, info)?;
            self.activations.insert(frame as usize, act);
        }
        self.depth += 1;
        let stays = self.stays_on_line && kind == Kind::Resume;
        // SAFETY: the frame is live.
        let line = if stays { 0 } else { unsafe { PyFrame_GetLineNumber(frame) } };
        self.state(kind, frame, line)
    }

    fn fresh(&mut self, frame: *mut Object, index: usize) -> Result<Activation, Fail> {
        let info = &mut self.infos[index];
        let mut space = Held::default();
        if info.names.is_none() {
            // SAFETY: the frame is live; the reference is owned.
            space.0 = unsafe {
                if info.is_module { self.frames.globals(frame) } else { self.frames.locals(frame) }
            };
            if space.0.is_null() {
                return Err(Fail);
            }
        }
        if let Some(definition) = info.definition.take() {
            info.number = self.functions;
            self.functions += 1;
            log::write(&definition)?;
        }
        let slots = info.names.as_ref().map_or(0, Vec::len);
        let number = self.started;
        self.started += 1;
        Ok(Activation {
            number,
            info: index,
            line: info.first_line,
            slots: std::iter::repeat_with(Shown::default).take(slots).collect(),
            bound: Vec::new(),
            space,
        })
    }

    unsafe fn is_resumed(&self, frame: *mut Object, info: usize) -> bool {
        let info = &self.infos[info];
        if !info.is_generator {
            return false;
        }
        // SAFETY: the caller passes a live frame.
        let Ok(at) = usize::try_from(unsafe { self.frames.lasti(frame) }) else { return false };
        if self.op_resume < 0 {
            return true;
        }
        let op = |at: usize| info.ops.get(at).map_or(-1, |&op| i32::from(op));
        op(at) == self.op_resume && op(at + 1) & 3 != 0 || op(at) == self.op_yield
    }

    /// A return event without a value is an unwinding; the instruction tells a yield from a return.
    pub fn leave_kind(&self, frame: *mut Object, info: usize, value: *mut Object) -> Kind {
        let info = &self.infos[info];
        if value.is_null() {
            return Kind::Unwind;
        }
        if !info.is_generator {
            return Kind::Return;
        }
        // SAFETY: the frame is live.
        let at = usize::try_from(unsafe { self.frames.lasti(frame) }).unwrap_or(usize::MAX / 2);
        let op = |at: usize| info.ops.get(at).map_or(-1, |&op| i32::from(op));
        let suspended = op(at) == self.op_yield || op(at + 2) == self.op_yield_from;
        if op(at) != self.op_return && op(at) >= 0 && suspended { Kind::Yield } else { Kind::Return }
    }

    pub fn line(&mut self, frame: *mut Object, info: usize, line: c_int) -> Result<(), Fail> {
        if self.runs(frame, info) { self.state(Kind::Line, frame, line) } else { Ok(()) }
    }

    pub fn exception(&mut self, frame: *mut Object, info: usize, error: *mut Object) -> Result<(), Fail> {
        if self.runs(frame, info) { self.plain(Kind::Exception, frame, error, &[]) } else { Ok(()) }
    }

    pub fn leave(&mut self, frame: *mut Object, info: usize, kind: Kind, value: *mut Object) -> Result<(), Fail> {
        if !self.runs(frame, info) {
            return Ok(());
        }
        let changes = self.changes(frame)?;
        self.plain(kind, frame, value, &changes)?;
        self.depth -= 1;
        if kind != Kind::Yield {
            let act = self.activations.remove(&(frame as usize));
            if act.is_some_and(|act| act.number == 0) {
                self.over = true;
                // SAFETY: a callable of the collector, with no arguments.
                unsafe { called(PyObject_CallFunctionObjArgs(self.on_over, null_mut::<Object>()))? };
            }
        }
        Ok(())
    }

    fn runs(&self, frame: *mut Object, info: usize) -> bool {
        self.activations.get(&(frame as usize)).is_some_and(|act| act.info == info)
    }

    /// CALL, RESUME and LINE.
    fn state(&mut self, kind: Kind, frame: *mut Object, line: c_int) -> Result<(), Fail> {
        self.count()?;
        if let Some(act) = self.activations.get_mut(&(frame as usize)).filter(|_| line > 0) {
            act.line = line;
        }
        let changes = self.changes(frame)?;
        let Some(act) = self.activations.get(&(frame as usize)) else { return Ok(()) };
        let mut record = vec![kind as u8];
        uint(&mut record, act.number);
        if kind == Kind::Call {
            uint(&mut record, self.infos[act.info].number);
        }
        uint(&mut record, act.line.max(0) as u64);
        record.extend(changes);
        log::write(&record)
    }

    /// How many variables of a frame changed, and for each its name's number and its new value.
    fn changes(&mut self, frame: *mut Object) -> Result<Vec<u8>, Fail> {
        let mut changes = Changes { count: 0, bytes: Vec::new() };
        // Taken out while values are rendered: that may call Python.
        let Some(mut act) = self.activations.remove(&(frame as usize)) else {
            return Ok(vec![0]);
        };
        // SAFETY: the frame is live.
        let outcome = unsafe {
            if act.space.0.is_null() {
                self.function_changes(frame, &mut act, &mut changes)
            } else {
                self.namespace_changes(&mut act, &mut changes)
            }
        };
        self.activations.insert(frame as usize, act);
        outcome?;
        let mut bytes = Vec::new();
        uint(&mut bytes, changes.count);
        bytes.extend(changes.bytes);
        Ok(bytes)
    }

    unsafe fn function_changes(
        &mut self,
        frame: *mut Object,
        act: &mut Activation,
        changes: &mut Changes,
    ) -> Result<(), Fail> {
        // SAFETY: the frame is live; `space` is owned until the end, and each value while it is used.
        unsafe {
            if act.slots.is_empty() {
                return Ok(());
            }
            let space = Held(self.frames.locals(frame));
            if space.0.is_null() {
                return Err(Fail);
            }
            let is_dict = kind_of(space.0) == &raw mut PyDict_Type;
            for slot in 0..act.slots.len() {
                let Some(names) = &self.infos[act.info].names else { return Ok(()) };
                let (name, number) = names[slot];
                let value = Held(look_up(space.0, name, is_dict));
                if value.0.is_null() && !PyErr_Occurred().is_null() {
                    PyErr_Clear();
                }
                let shown = &mut act.slots[slot];
                let changed = self.update(shown, value.0)?;
                if !changed {
                    continue;
                }
                let number = match number {
                    Some(number) => number,
                    None => {
                        let number = self.name(text_of(name).unwrap_or_default())?;
                        if let Some(names) = &mut self.infos[act.info].names {
                            names[slot].1 = Some(number);
                        }
                        number
                    }
                };
                changes.add(number, &shown.text);
            }
        }
        Ok(())
    }

    unsafe fn namespace_changes(
        &mut self,
        act: &mut Activation,
        changes: &mut Changes,
    ) -> Result<(), Fail> {
        let is_module = self.infos[act.info].is_module;
        // SAFETY: the namespace is held by the activation; the items are owned by the list.
        unsafe {
            let items = items_of(act.space.0)?;
            for bound in &mut act.bound {
                bound.seen = false;
            }
            let mut found = Vec::new();
            for (name, value) in &items {
                if kind_of(name.0) != &raw mut PyUnicode_Type {
                    continue;
                }
                let Some(text) = text_of(name.0) else { continue };
                if text.starts_with(b"__") && text.ends_with(b"__") {
                    continue;
                }
                if is_module && is_hidden(kind_of(value.0)) {
                    continue;
                }
                let known = act.bound.iter().position(|bound| bound.name == text);
                if let Some(at) = known {
                    act.bound[at].seen = true;
                }
                found.push((known, text, value.0));
            }
            for bound in act.bound.iter().filter(|bound| !bound.seen) {
                changes.add(self.name(&bound.name)?, &[]);
            }
            for (known, text, value) in found {
                let at = known.unwrap_or_else(|| {
                    let bound =
                        Bound { name: text.to_vec(), shown: Shown::default(), seen: true };
                    act.bound.push(bound);
                    act.bound.len() - 1
                });
                let shown = &mut act.bound[at].shown;
                if self.update(shown, value)? {
                    changes.add(self.name(text)?, &shown.text);
                }
            }
            act.bound.retain(|bound| bound.seen);
        }
        Ok(())
    }

    /// Whether the variable now reads differently; a NULL value means unbound.
    unsafe fn update(&mut self, shown: &mut Shown, value: *mut Object) -> Result<bool, Fail> {
        if value.is_null() {
            let was_bound = !shown.text.is_empty();
            *shown = Shown::default();
            return Ok(was_bound);
        }
        if shown.held.0 == value {
            return Ok(false);
        }
        // SAFETY: the value is live.
        unsafe {
            let mut text = Vec::new();
            self.value(value, &mut text)?;
            shown.held = Held(null_mut());
            if may_be_held(value) {
                Py_IncRef(value);
                shown.held = Held(value);
            }
            let changed = shown.text != text;
            shown.text = text;
            Ok(changed)
        }
    }

    /// Appends a value as the log writes it: flags, repr, and detail where there is one.
    unsafe fn value(&self, value: *mut Object, out: &mut Vec<u8>) -> Result<(), Fail> {
        let mut text = Vec::new();
        // SAFETY: the value is live; Python's answer is `(repr, detail or None, truncated)`.
        unsafe {
            if render::plain(value, &mut text, self.max_chars).is_some() {
                out.push(0);
                uint(out, text.len() as u64);
                out.extend(text);
                return Ok(());
            }
            let answer =
                Held(PyObject_CallFunctionObjArgs(self.render, value, null_mut::<Object>()));
            if answer.0.is_null() {
                return Err(Fail);
            }
            let detail = PyTuple_GetItem(answer.0, 1);
            let has_detail = detail != &raw mut _Py_NoneStruct;
            let is_cut = PyTuple_GetItem(answer.0, 2) == &raw mut _Py_TrueStruct;
            out.push(u8::from(has_detail) | u8::from(is_cut) << 1);
            encoded(PyTuple_GetItem(answer.0, 0), out)?;
            if has_detail {
                encoded(detail, out)?;
            }
        }
        Ok(())
    }

    /// RETURN, YIELD and UNWIND with what the last line changed, and EXCEPTION without.
    fn plain(
        &mut self,
        kind: Kind,
        frame: *mut Object,
        value: *mut Object,
        changes: &[u8],
    ) -> Result<(), Fail> {
        self.count()?;
        let Some(act) = self.activations.get(&(frame as usize)) else { return Ok(()) };
        let mut record = vec![kind as u8];
        uint(&mut record, act.number);
        // SAFETY: the frame is live, and so is the value if the kind has one.
        unsafe {
            let line = if self.stays_on_line { 0 } else { PyFrame_GetLineNumber(frame) };
            uint(&mut record, if line > 0 { line } else { act.line.max(0) } as u64);
            record.extend(changes);
            if kind != Kind::Unwind {
                self.value(value, &mut record)?;
            }
        }
        log::write(&record)
    }

    fn name(&mut self, name: &[u8]) -> Result<u64, Fail> {
        if let Some(&number) = self.names.get(name) {
            return Ok(number);
        }
        let number = self.names.len() as u64;
        self.names.insert(name.to_vec(), number);
        let mut record = vec![NAME_RECORD];
        uint(&mut record, name.len() as u64);
        record.extend(name);
        log::write(&record)?;
        Ok(number)
    }

    fn count(&mut self) -> Result<(), Fail> {
        if self.events >= self.max_events || log::total() > LOG_CAP {
            // SAFETY: a callable of the collector that ends the process.
            unsafe {
                let events = PyLong_FromUnsignedLongLong(self.events);
                called(PyObject_CallFunctionObjArgs(self.on_full, events, null_mut::<Object>()))?;
            }
        }
        self.events += 1;
        Ok(())
    }

    /// Hands the exception that is set to Python, which ends the process.
    pub fn report_failure(&self) {
        let (mut kind, mut value, mut trace) = (null_mut(), null_mut(), null_mut());
        // SAFETY: three places for owned references; the callable is the collector's.
        unsafe {
            PyErr_Fetch(&mut kind, &mut value, &mut trace);
            PyErr_NormalizeException(&mut kind, &mut value, &mut trace);
            if value.is_null() {
                value = &raw mut _Py_NoneStruct;
            }
            PyObject_CallFunctionObjArgs(self.on_failure, value, null_mut::<Object>());
        }
    }
}

struct Changes {
    count: u64,
    bytes: Vec<u8>,
}

impl Changes {
    /// A variable's new text, empty if it is unbound now.
    fn add(&mut self, name: u64, text: &[u8]) {
        self.count += 1;
        uint(&mut self.bytes, name << 1 | u64::from(!text.is_empty()));
        self.bytes.extend(text);
    }
}

/// Drops the result of a call made for its effect.
unsafe fn called(result: *mut Object) -> Result<(), Fail> {
    if result.is_null() {
        return Err(Fail);
    }
    // SAFETY: the result is owned.
    unsafe { Py_DecRef(result) };
    Ok(())
}

/// An owned reference to a variable's value; NULL, perhaps with an exception, if it is unbound.
unsafe fn look_up(space: *mut Object, name: *mut Object, is_dict: bool) -> *mut Object {
    // SAFETY: callers pass live objects.
    unsafe {
        if !is_dict {
            return PyObject_GetItem(space, name);
        }
        let value = PyDict_GetItemWithError(space, name);
        if !value.is_null() {
            Py_IncRef(value);
        }
        value
    }
}

/// Owned names and values of a namespace.
unsafe fn items_of(space: *mut Object) -> Result<Vec<(Held, Held)>, Fail> {
    let owned = |object: *mut Object| {
        // SAFETY: callers pass live objects.
        unsafe { Py_IncRef(object) };
        Held(object)
    };
    // SAFETY: the namespace is live; nothing runs between two steps over a dict.
    unsafe {
        if kind_of(space) == &raw mut PyDict_Type {
            let (mut at, mut key, mut value) = (0, null_mut(), null_mut());
            let mut items = Vec::with_capacity(PyDict_Size(space).max(0) as usize);
            while PyDict_Next(space, &mut at, &mut key, &mut value) != 0 {
                items.push((owned(key), owned(value)));
            }
            return Ok(items);
        }
        let list = Held(PyMapping_Items(space));
        if list.0.is_null() {
            return Err(Fail);
        }
        let item = |at| {
            let pair = PyList_GetItem(list.0, at);
            (owned(PyTuple_GetItem(pair, 0)), owned(PyTuple_GetItem(pair, 1)))
        };
        Ok((0..PyList_Size(list.0)).map(item).collect())
    }
}

/// What module frames do not list: modules, functions and classes.
unsafe fn is_hidden(kind: *mut Object) -> bool {
    let bases = [
        &raw mut PyModule_Type,
        &raw mut PyFunction_Type,
        &raw mut PyCFunction_Type,
        &raw mut PyType_Type,
    ];
    // SAFETY: types are compared with types.
    bases.into_iter().any(|base| unsafe { PyType_IsSubtype(kind, base) != 0 })
}

/// Builtin immutables: their life is nobody's concern.
unsafe fn may_be_held(value: *mut Object) -> bool {
    // SAFETY: the value is live, and a str where its length is asked.
    unsafe {
        let kind = kind_of(value);
        kind == &raw mut PyLong_Type
            || kind == &raw mut PyUnicode_Type && PyUnicode_GetLength(value) <= LONGEST_HELD
            || value == &raw mut _Py_NoneStruct
            || kind == &raw mut PyBool_Type
            || kind == &raw mut PyFloat_Type
            || kind == &raw mut PyBytes_Type
    }
}

/// Appends a str's length and UTF-8, lone surrogates spelled out.
unsafe fn encoded(text: *mut Object, out: &mut Vec<u8>) -> Result<(), Fail> {
    // SAFETY: the text is a live str; the bytes are owned while they are copied.
    unsafe {
        let bytes = Held(PyUnicode_AsEncodedString(
            text,
            c"utf-8".as_ptr(),
            c"backslashreplace".as_ptr(),
        ));
        let data = if bytes.0.is_null() { None } else { bytes_of(bytes.0) };
        let data = data.ok_or(Fail)?;
        uint(out, data.len() as u64);
        out.extend(data);
    }
    Ok(())
}
