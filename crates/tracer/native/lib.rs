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
mod encode;
mod ffi;
mod held;
mod intern;
mod lasting;
mod layout;
mod log;
mod monitoring;
mod namespace;
mod quiet;
mod record;
mod render;
mod settrace;
mod shadow;
mod snapshot;
mod text;
mod types;
mod walk;

use std::cell::UnsafeCell;
use std::ffi::c_char;
use std::ops::{Deref, DerefMut};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ffi::*;
use monitoring::{py_jump, py_line, py_raise, py_resume, py_return, py_start, py_unwind, py_yield};
use record::{DEPTH_LIMIT, Fail, Recorder};
use settrace::{set_trace, trace};

/// The one recorder of the process, used by one thread only.
struct Slot(UnsafeCell<Option<Box<Recorder>>>);

// SAFETY: every access holds the interpreter lock and comes from the thread noted in `THREAD`.
unsafe impl Sync for Slot {}

static RECORDER: Slot = Slot(UnsafeCell::new(None));

/// Identity of the thread that is recorded; 0 while nothing is.
static THREAD: AtomicUsize = AtomicUsize::new(0);

/// Whether the recorder is at work. Rendering a value may run code of the program, which may call
/// back here: then there is no recorder to be had.
static BUSY: AtomicBool = AtomicBool::new(false);

/// The recorder, taken until the end of one event.
struct Taken(&'static mut Recorder);

impl Deref for Taken {
    type Target = Recorder;
    fn deref(&self) -> &Recorder {
        self.0
    }
}

impl DerefMut for Taken {
    fn deref_mut(&mut self) -> &mut Recorder {
        self.0
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        BUSY.store(false, Ordering::Relaxed);
    }
}

impl Taken {
    /// Ends an event; a failure is reported to Python, which ends the process, or else the recording.
    fn is_fine(&self, outcome: Result<(), Fail>) -> bool {
        if outcome.is_err() {
            self.report_failure();
        }
        // SAFETY: the lock is held, as in every function that Python calls.
        outcome.is_ok() || unsafe { PyErr_Occurred().is_null() }
    }
}

/// Whether this thread is the recorded one.
fn is_recorded() -> bool {
    // SAFETY: the lock is held, as in every function that Python calls.
    THREAD.load(Ordering::Relaxed) == unsafe { PyThreadState_Get() } as usize
}

/// The recorder, if this thread is the recorded one and the recorder is not at work.
fn recorder() -> Option<Taken> {
    if !is_recorded() || BUSY.load(Ordering::Relaxed) {
        return None;
    }
    // SAFETY: only this thread gets here, and `BUSY` keeps it from getting here twice.
    let recorder = unsafe { (*RECORDER.0.get()).as_deref_mut()? };
    BUSY.store(true, Ordering::Relaxed);
    Some(Taken(recorder))
}

type Fast = unsafe extern "C" fn(*mut Object, *const *mut Object, isize) -> *mut Object;

unsafe fn none() -> *mut Object {
    // SAFETY: `None` lives for ever.
    unsafe {
        let none = &raw mut _Py_NoneStruct;
        Py_IncRef(none);
        none
    }
}

/// `configure(dict)`: begins a recording on this thread.
unsafe extern "C" fn configure(_: *mut Object, args: *const *mut Object, _: isize) -> *mut Object {
    if BUSY.load(Ordering::Relaxed) {
        // Not the collector, then.
        // SAFETY: `none` has no preconditions beyond the lock.
        return unsafe { none() };
    }
    // SAFETY: the collector passes one dictionary with the keys that `Recorder::new` reads.
    unsafe {
        match Recorder::new(*args) {
            Ok(recorder) => {
                *RECORDER.0.get() = Some(Box::new(recorder));
                THREAD.store(PyThreadState_Get() as usize, Ordering::Relaxed);
                none()
            }
            Err(Fail) => null_mut(),
        }
    }
}

/// `add_code(code, names or None, is_module, definition, ops, (flags, first line), places)`
unsafe extern "C" fn add_code(_: *mut Object, args: *const *mut Object, _: isize) -> *mut Object {
    // SAFETY: the collector passes these seven objects.
    unsafe {
        let Some(mut recorder) = recorder() else { return none() };
        match recorder.add_code(std::slice::from_raw_parts(args, 7)) {
            Ok(()) => none(),
            Err(Fail) => null_mut(),
        }
    }
}

/// `write(record)`: what Python itself adds to the log.
unsafe extern "C" fn write(_: *mut Object, args: *const *mut Object, _: isize) -> *mut Object {
    // SAFETY: the collector passes one bytes object.
    unsafe {
        let Some(record) = bytes_of(*args) else { return null_mut() };
        match log::write(record) {
            Ok(()) => none(),
            Err(Fail) => null_mut(),
        }
    }
}

/// `renew(max_events, has_entry)`: another run begins on this thread.
unsafe extern "C" fn renew(_: *mut Object, args: *const *mut Object, _: isize) -> *mut Object {
    // SAFETY: the collector passes an int and a bool; the lock is held and nothing uses the recorder.
    unsafe {
        let is_free = !BUSY.load(Ordering::Relaxed);
        if let Some(recorder) = (*RECORDER.0.get()).as_deref_mut().filter(|_| is_free) {
            let mut overflow = 0;
            let max_events = PyLong_AsLongLongAndOverflow(*args, &mut overflow) as u64;
            recorder.renew(max_events, *args.add(1) == &raw mut _Py_TrueStruct);
            THREAD.store(PyThreadState_Get() as usize, Ordering::Relaxed);
        }
        none()
    }
}

/// `silence()`: nothing more is recorded.
unsafe extern "C" fn silence(_: *mut Object, _: *const *mut Object, _: isize) -> *mut Object {
    THREAD.store(0, Ordering::Relaxed);
    // SAFETY: `none` has no preconditions beyond the lock.
    unsafe { none() }
}

/// `disown()`: the log is another process's from now on.
unsafe extern "C" fn disown(_: *mut Object, _: *const *mut Object, _: isize) -> *mut Object {
    THREAD.store(0, Ordering::Relaxed);
    log::silence();
    // SAFETY: `none` has no preconditions beyond the lock.
    unsafe { none() }
}

/// `events()`: how many were recorded.
unsafe extern "C" fn events(_: *mut Object, _: *const *mut Object, _: isize) -> *mut Object {
    // SAFETY: a plain read under the lock, while nothing else uses the recorder.
    unsafe {
        let is_free = !BUSY.load(Ordering::Relaxed);
        let recorder = (*RECORDER.0.get()).as_ref().filter(|_| is_free);
        PyLong_FromUnsignedLongLong(recorder.map_or(0, |r| r.events()))
    }
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

struct Methods([MethodDef; 23]);

// SAFETY: the table is written by nobody.
unsafe impl Sync for Methods {}

const fn method(name: &'static std::ffi::CStr, run: Fast) -> MethodDef {
    MethodDef { name: name.as_ptr(), run: Some(run), flags: METH_FASTCALL, doc: std::ptr::null() }
}

static METHODS: Methods = Methods([
    method(c"configure", configure),
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
