//! The native collector: a Python extension that does the event loop of `python/recorder.py`.
//!
//! Built by `build.rs` as a shared library of its own, without dependencies, carried inside the crate
//! and loaded into whatever CPython runs the program. It uses exported functions of the C API only, no
//! memory layouts beyond the object header, and looks up by name what not every version has. It writes
//! the same bytes as the Python collector, to which it hands every value that is not made of plain
//! builtins, and which the tests compare it with.

#![allow(non_snake_case, reason = "names of the C API")]

mod ffi;
mod log;
mod record;
mod render;

use std::cell::UnsafeCell;
use std::ffi::{c_char, c_int};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering};

use ffi::*;
use record::{Fail, Kind, Recorder};

/// The one recorder of the process, used by one thread only.
struct Slot(UnsafeCell<Option<Box<Recorder>>>);

// SAFETY: every access holds the interpreter lock and comes from the thread noted in `THREAD`.
unsafe impl Sync for Slot {}

static RECORDER: Slot = Slot(UnsafeCell::new(None));

/// Identity of the thread that is recorded; 0 while nothing is.
static THREAD: AtomicUsize = AtomicUsize::new(0);

/// The recorder, if this thread is the recorded one.
///
/// Calls into Python may come back here only for `write`, which touches the log and not the recorder.
fn recorder() -> Option<&'static mut Recorder> {
    // SAFETY: the lock is held, as in every function that Python calls.
    if THREAD.load(Ordering::Relaxed) != unsafe { PyThreadState_Get() } as usize {
        return None;
    }
    // SAFETY: only this thread gets here, and events do not nest: Python delivers none while a trace
    // function or monitoring callback runs.
    unsafe { (*RECORDER.0.get()).as_deref_mut() }
}

/// Runs a step; its failure is reported to Python, which ends the process.
fn guarded(step: impl FnOnce(&mut Recorder) -> Result<(), Fail>) -> bool {
    let Some(recorder) = recorder() else { return true };
    match step(recorder) {
        Ok(()) => true,
        Err(Fail) => {
            recorder.report_failure();
            false
        }
    }
}

unsafe extern "C" fn on_event(_: *mut Object, frame: *mut Object, what: c_int, arg: *mut Object) -> c_int {
    let Some(recorder) = recorder() else { return 0 };
    // SAFETY: Python passes a live frame and, for each kind of event, the argument it documents.
    let fine = unsafe {
        let Some(info) = recorder.info_of_frame(frame) else { return 0 };
        match what {
            TRACE_CALL => {
                if recorder.too_deep() {
                    return -1;
                }
                guarded(|r| r.enter(frame, info, None))
            }
            TRACE_EXCEPTION => {
                let error = PyTuple_GetItem(arg, 1);
                guarded(|r| r.exception(frame, info, error))
            }
            TRACE_LINE => guarded(|r| r.line(frame, info, PyFrame_GetLineNumber(frame))),
            TRACE_RETURN => guarded(|r| {
                let kind = r.leave_kind(frame, info, arg);
                r.leave(frame, info, kind, arg)
            }),
            _ => true,
        }
    };
    if fine { 0 } else { -1 }
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

/// `set_trace()`: starts recording by the trace function of this thread.
unsafe extern "C" fn set_trace(_: *mut Object, _: *const *mut Object, _: isize) -> *mut Object {
    // SAFETY: the registered object is a callable that Python may store and call, as `sys.settrace`
    // would have it, so that programs which save and restore the trace function keep us.
    unsafe {
        let Some(recorder) = recorder() else { return none() };
        PyEval_SetTrace(Some(on_event), recorder.trampoline());
        none()
    }
}

/// `trace(frame, event, arg)`: what `sys.gettrace()` returns. Called as a Python trace function, it
/// puts the native one back and handles the event at hand.
unsafe extern "C" fn trace(module: *mut Object, args: *const *mut Object, count: isize) -> *mut Object {
    // SAFETY: the arguments are those of a trace function; the event's name is compared by its text.
    unsafe {
        let Some(recorder) = recorder() else { return none() };
        let itself = recorder.trampoline();
        PyEval_SetTrace(Some(on_event), itself);
        if count == 3 {
            let (frame, arg) = (*args, *args.add(2));
            let what = match text_of(*args.add(1)) {
                Some(b"call") => TRACE_CALL,
                Some(b"exception") => TRACE_EXCEPTION,
                Some(b"line") => TRACE_LINE,
                Some(b"return") => TRACE_RETURN,
                _ => -1,
            };
            if on_event(module, frame, what, arg) != 0 {
                return null_mut();
            }
        }
        Py_IncRef(itself);
        itself
    }
}

/// The frame a monitoring callback speaks of, and what is known of its code.
unsafe fn monitored(args: *const *mut Object) -> Option<(*mut Object, usize)> {
    // SAFETY: the first argument of every monitoring callback is a code object.
    unsafe {
        let recorder = recorder()?;
        let info = recorder.info_of_code(*args)?;
        Some((PyEval_GetFrame(), info))
    }
}

/// Ends a callback: `None`, or an error when the step failed.
unsafe fn done(fine: bool) -> *mut Object {
    // SAFETY: a failed step leaves an exception set, unless Python has ended the process.
    unsafe { if fine { none() } else { null_mut() } }
}

unsafe extern "C" fn py_start(_: *mut Object, args: *const *mut Object, _: isize) -> *mut Object {
    // SAFETY: called by the interpreter with `(code, offset)`.
    unsafe {
        let Some((frame, info)) = monitored(args) else { return none() };
        if recorder().is_some_and(|r| r.too_deep()) {
            return null_mut();
        }
        done(guarded(|r| r.enter(frame, info, Some(false))))
    }
}

unsafe extern "C" fn py_resume(_: *mut Object, args: *const *mut Object, _: isize) -> *mut Object {
    // SAFETY: called by the interpreter with `(code, offset)` or `(code, offset, exception)`.
    unsafe {
        let Some((frame, info)) = monitored(args) else { return none() };
        done(guarded(|r| r.enter(frame, info, Some(true))))
    }
}

unsafe extern "C" fn py_line(_: *mut Object, args: *const *mut Object, _: isize) -> *mut Object {
    // SAFETY: called by the interpreter with `(code, line)`.
    unsafe {
        let Some((frame, info)) = monitored(args) else { return none() };
        let line = small_int(*args.add(1));
        done(guarded(|r| r.line(frame, info, line)))
    }
}

/// A loop written on one line has a line event for each round.
unsafe extern "C" fn py_jump(_: *mut Object, args: *const *mut Object, _: isize) -> *mut Object {
    // SAFETY: called by the interpreter with `(code, offset, target)`.
    unsafe {
        if let Some((frame, info)) = monitored(args) {
            let (code, offset, target) = (*args, small_int(*args.add(1)), small_int(*args.add(2)));
            if target <= offset {
                let line = PyCode_Addr2Line(code, target);
                if line >= 0 && line == PyCode_Addr2Line(code, offset) {
                    return done(guarded(|r| r.line(frame, info, line)));
                }
            }
        }
        let Some(recorder) = recorder() else { return none() };
        let disable = recorder.disable();
        Py_IncRef(disable);
        disable
    }
}

unsafe fn leave(args: *const *mut Object, kind: Kind) -> *mut Object {
    // SAFETY: called by the interpreter with `(code, offset, value or exception)`.
    unsafe {
        let Some((frame, info)) = monitored(args) else { return none() };
        let value = *args.add(2);
        done(guarded(|r| r.leave(frame, info, kind, value)))
    }
}

unsafe extern "C" fn py_return(_: *mut Object, args: *const *mut Object, _: isize) -> *mut Object {
    // SAFETY: as for `leave`.
    unsafe { leave(args, Kind::Return) }
}

unsafe extern "C" fn py_yield(_: *mut Object, args: *const *mut Object, _: isize) -> *mut Object {
    // SAFETY: as for `leave`.
    unsafe { leave(args, Kind::Yield) }
}

unsafe extern "C" fn py_unwind(_: *mut Object, args: *const *mut Object, _: isize) -> *mut Object {
    // SAFETY: as for `leave`.
    unsafe { leave(args, Kind::Unwind) }
}

unsafe extern "C" fn py_raise(_: *mut Object, args: *const *mut Object, _: isize) -> *mut Object {
    // SAFETY: called by the interpreter with `(code, offset, exception)`.
    unsafe {
        let Some((frame, info)) = monitored(args) else { return none() };
        let error = *args.add(2);
        done(guarded(|r| r.exception(frame, info, error)))
    }
}

/// `configure(dict)`: begins a recording on this thread.
unsafe extern "C" fn configure(_: *mut Object, args: *const *mut Object, _: isize) -> *mut Object {
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

/// `add_code(code, names or None, is_module, definition, ops, (flags, first line))`
unsafe extern "C" fn add_code(_: *mut Object, args: *const *mut Object, _: isize) -> *mut Object {
    // SAFETY: the collector passes these six objects.
    unsafe {
        let Some(recorder) = recorder() else { return none() };
        match recorder.add_code(std::slice::from_raw_parts(args, 6)) {
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

/// `silence()`: nothing more is recorded.
unsafe extern "C" fn silence(_: *mut Object, _: *const *mut Object, _: isize) -> *mut Object {
    THREAD.store(0, Ordering::Relaxed);
    // SAFETY: `none` has no preconditions beyond the lock.
    unsafe { none() }
}

/// `events()`: how many were recorded.
unsafe extern "C" fn events(_: *mut Object, _: *const *mut Object, _: isize) -> *mut Object {
    // SAFETY: a plain read under the lock.
    unsafe {
        let count = (*RECORDER.0.get()).as_ref().map_or(0, |r| r.events());
        PyLong_FromUnsignedLongLong(count)
    }
}

/// `set_depth_limit(n)`: how many activations the program may have on the stack.
unsafe extern "C" fn set_depth_limit(_: *mut Object, args: *const *mut Object, _: isize) -> *mut Object {
    // SAFETY: the collector passes one int.
    unsafe {
        if let Some(recorder) = recorder() {
            recorder.set_depth_limit(small_int(*args));
        }
        none()
    }
}

struct Methods([MethodDef; 18]);

// SAFETY: the table is written by nobody.
unsafe impl Sync for Methods {}

const fn method(name: &'static std::ffi::CStr, run: Fast) -> MethodDef {
    MethodDef { name: name.as_ptr(), run: Some(run), flags: METH_FASTCALL, doc: std::ptr::null() }
}

static METHODS: Methods = Methods([
    method(c"configure", configure),
    method(c"add_code", add_code),
    method(c"write", write),
    method(c"silence", silence),
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
