//! The native collector: a Python extension that does the event loop of `python/recorder.py`.
//!
//! Built by `build.rs` as a shared library of its own, without dependencies, carried inside the crate
//! and loaded into whatever CPython runs the program. Of the C API it uses exported functions only, and
//! looks up by name what not every version has. Frames and the commonest containers it reads where they
//! lie in memory, if `python/layout.py` has proved that they lie there (`layout.rs`).
//!
//! It records what the Python collector records, to which it hands every value that may run code of the
//! program, and which the tests compare it with. An event goes from `settrace.rs` or `monitoring.rs` to
//! `record.rs`, which compares every variable with its shadow (`shadow.rs`): the same object, or a
//! container that reads the same (`walk.rs`), costs next to nothing; anything else is rendered
//! (`quiet.rs`, `render.rs`) and, if its text is new, written (`encode.rs`, `log.rs`).

#![allow(non_snake_case, reason = "names of the C API")]

mod activation;
mod address;
mod collections;
mod encode;
mod ffi;
mod held;
mod intern;
mod lasting;
mod layout;
mod log;
mod monitoring;
mod namespace;
mod objects;
mod quiet;
mod recent;
mod record;
mod render;
mod settrace;
mod shadow;
mod snapshot;
mod splice;
mod text;
mod threads;
mod types;
mod walk;

use std::cell::UnsafeCell;
use std::ffi::c_char;
use std::ptr::null_mut;
use std::sync::atomic::Ordering;

use ffi::*;
use monitoring::{py_jump, py_line, py_raise, py_resume, py_return, py_start, py_unwind, py_yield};
use record::{DEPTH_LIMIT, Fail};
use settrace::{set_trace, trace};

type Fast = unsafe extern "C" fn(*mut Object, *const *mut Object, isize) -> *mut Object;

unsafe fn none() -> *mut Object {
    // SAFETY: `None` lives for ever.
    unsafe {
        let none = &raw mut _Py_NoneStruct;
        Py_IncRef(none);
        none
    }
}

/// What Python gets of a step: `None`, or NULL with an exception.
unsafe fn answer(outcome: Result<(), Fail>) -> *mut Object {
    // SAFETY: `none` has no preconditions beyond the lock.
    unsafe { if outcome.is_ok() { none() } else { null_mut() } }
}

/// `configure(dict)`: begins a recording on this thread.
unsafe extern "C" fn configure(_: *mut Object, args: *const *mut Object, _: isize) -> *mut Object {
    // SAFETY: the collector passes one dictionary.
    unsafe { answer(threads::configure(*args)) }
}

/// `record_all(begin)`: further threads are recorded too; `begin()` gives the settings of one.
unsafe extern "C" fn record_all(_: *mut Object, args: *const *mut Object, _: isize) -> *mut Object {
    // SAFETY: the collector passes a callable, which lives for ever from now on.
    unsafe {
        Py_IncRef(*args);
        threads::record_all(*args);
        none()
    }
}

/// `add_code(code, names or None, is_module, definition, ops, (flags, first line), places)`
unsafe extern "C" fn add_code(_: *mut Object, args: *const *mut Object, _: isize) -> *mut Object {
    // SAFETY: the collector passes these seven objects.
    unsafe {
        activation::add_code(std::slice::from_raw_parts(args, 7));
        none()
    }
}

/// `write(record)`: what Python itself adds to the main thread's log.
unsafe extern "C" fn write(_: *mut Object, args: *const *mut Object, _: isize) -> *mut Object {
    // SAFETY: the collector passes one bytes object.
    unsafe { answer(threads::write(*args)) }
}

/// `renew(max_events, has_entry)`: another run begins on this thread.
unsafe extern "C" fn renew(_: *mut Object, args: *const *mut Object, _: isize) -> *mut Object {
    // SAFETY: the collector passes an int and a bool.
    unsafe {
        let mut overflow = 0;
        let max_events = PyLong_AsLongLongAndOverflow(*args, &mut overflow) as u64;
        threads::renew(max_events, *args.add(1) == &raw mut _Py_TrueStruct);
        none()
    }
}

/// `silence()`: nothing more is recorded of this thread.
unsafe extern "C" fn silence(_: *mut Object, _: *const *mut Object, _: isize) -> *mut Object {
    threads::silence();
    // SAFETY: `none` has no preconditions beyond the lock.
    unsafe { none() }
}

/// `disown()`: the logs are another process's from now on.
unsafe extern "C" fn disown(_: *mut Object, _: *const *mut Object, _: isize) -> *mut Object {
    threads::disown();
    // SAFETY: `none` has no preconditions beyond the lock.
    unsafe { none() }
}

/// `events()`: how many were recorded of this thread.
unsafe extern "C" fn events(_: *mut Object, _: *const *mut Object, _: isize) -> *mut Object {
    // SAFETY: a new int.
    unsafe { PyLong_FromUnsignedLongLong(threads::events()) }
}

/// `set_depth_limit(n)`: how many activations the program may have on the stack.
unsafe extern "C" fn set_depth_limit(_: *mut Object, args: *const *mut Object, _: isize) -> *mut Object {
    // SAFETY: the collector passes one int.
    unsafe {
        DEPTH_LIMIT.store(small_int(*args).into(), Ordering::Relaxed);
        none()
    }
}

/// `peek(address)`: the word there, or `None` where no memory is.
unsafe extern "C" fn peek(_: *mut Object, args: *const *mut Object, _: isize) -> *mut Object {
    // SAFETY: the collector passes one int.
    unsafe {
        let mut overflow = 0;
        let address = PyLong_AsLongLongAndOverflow(*args, &mut overflow) as usize;
        match layout::peek(address).filter(|_| overflow == 0) {
            Some(word) => PyLong_FromUnsignedLongLong(word as u64),
            None => none(),
        }
    }
}

/// `count_by(way)`: how references are counted.
unsafe extern "C" fn count_by(_: *mut Object, args: *const *mut Object, _: isize) -> *mut Object {
    // SAFETY: the collector passes one small int.
    unsafe {
        held::count_by(small_int(*args) as u8);
        none()
    }
}

/// `end_peeking()`: gives back what `peek` needed.
unsafe extern "C" fn end_peeking(_: *mut Object, _: *const *mut Object, _: isize) -> *mut Object {
    layout::end_peeking();
    // SAFETY: `none` has no preconditions beyond the lock.
    unsafe { none() }
}

struct Methods([MethodDef; 24]);

// SAFETY: the table is written by nobody.
unsafe impl Sync for Methods {}

const fn method(name: &'static std::ffi::CStr, run: Fast) -> MethodDef {
    MethodDef { name: name.as_ptr(), run: Some(run), flags: METH_FASTCALL, doc: std::ptr::null() }
}

static METHODS: Methods = Methods([
    method(c"configure", configure),
    method(c"record_all", record_all),
    method(c"add_code", add_code),
    method(c"write", write),
    method(c"renew", renew),
    method(c"silence", silence),
    method(c"disown", disown),
    method(c"peek", peek),
    method(c"count_by", count_by),
    method(c"end_peeking", end_peeking),
    method(c"events", events),
    method(c"set_depth_limit", set_depth_limit),
    method(c"set_trace", set_trace),
    method(c"trace", trace),
    method(c"py_start", py_start),
    method(c"py_resume", py_resume),
    method(c"py_line", py_line),
    method(c"py_jump", py_jump),
    method(c"py_return", py_return),
    method(c"py_yield", py_yield),
    method(c"py_unwind", py_unwind),
    method(c"py_raise", py_raise),
    method(c"py_throw", py_resume),
    MethodDef::END,
]);

struct Definition(UnsafeCell<ModuleDef>);

// SAFETY: written by the interpreter only, under its lock.
unsafe impl Sync for Definition {}

static MODULE: Definition = Definition(UnsafeCell::new(ModuleDef::new(c"cwm_native")));

/// The entry that the interpreter looks for.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn PyInit_cwm_native() -> *mut Object {
    // SAFETY: called once under the lock; both tables are static.
    unsafe {
        (*MODULE.0.get()).methods = METHODS.0.as_ptr().cast_mut();
        PyModule_Create2(MODULE.0.get(), API_VERSION)
    }
}

/// The bytes of a `bytes` object.
unsafe fn bytes_of<'a>(object: *mut Object) -> Option<&'a [u8]> {
    let (mut data, mut size) = (null_mut::<c_char>(), 0isize);
    // SAFETY: the call checks the type; the bytes live as long as the object, which callers hold.
    unsafe {
        if PyBytes_AsStringAndSize(object, &mut data, &mut size) != 0 {
            return None;
        }
        Some(std::slice::from_raw_parts(data.cast(), size as usize))
    }
}

/// The UTF-8 text of a `str`, if it has one.
unsafe fn text_of<'a>(object: *mut Object) -> Option<&'a [u8]> {
    let mut size = 0isize;
    // SAFETY: the call checks the type; the text is cached in the object, which callers hold.
    unsafe {
        let data = PyUnicode_AsUTF8AndSize(object, &mut size);
        if data.is_null() {
            PyErr_Clear();
            return None;
        }
        Some(std::slice::from_raw_parts(data.cast(), size as usize))
    }
}

/// An int that is known to be small.
unsafe fn small_int(object: *mut Object) -> i32 {
    let mut overflow = 0;
    // SAFETY: the call checks the type.
    unsafe { PyLong_AsLongLongAndOverflow(object, &mut overflow) as i32 }
}
