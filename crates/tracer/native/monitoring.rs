//! Events by `sys.monitoring`, from 3.12 on: the callbacks that `python/events.py` registers.
//!
//! They come for all threads; those that are not recorded are told apart before anything else.

use std::ptr::null_mut;

use crate::encode::Kind;
use crate::ffi::*;
use crate::threads::{Taken, recorder};
use crate::{none, small_int};

/// The recorder, the frame that a callback speaks of, and what is known of its code.
unsafe fn monitored(args: *const *mut Object) -> Option<(Taken, *mut Object, usize)> {
    // SAFETY: the first argument of every monitoring callback is a code object.
    unsafe {
        let mut recorder = recorder(|| *args)?;
        let info = recorder.info_of_code(*args)?;
        Some((recorder, PyEval_GetFrame(), info))
    }
}

/// Ends a callback: `None`, or an error when the step failed.
unsafe fn done(fine: bool) -> *mut Object {
    // SAFETY: a failed step leaves an exception set, unless Python has ended the process.
    unsafe { if fine { none() } else { null_mut() } }
}

pub unsafe extern "C" fn py_start(_: *mut Object, args: *const *mut Object, _: isize) -> *mut Object {
    // SAFETY: called by the interpreter with `(code, offset)`.
    unsafe {
        let Some((mut recorder, frame, info)) = monitored(args) else { return none() };
        if recorder.too_deep() {
            return null_mut();
        }
        let outcome = recorder.enter(frame, info, Some(false));
        done(recorder.is_fine(outcome))
    }
}

pub unsafe extern "C" fn py_resume(_: *mut Object, args: *const *mut Object, _: isize) -> *mut Object {
    // SAFETY: called by the interpreter with `(code, offset)` or `(code, offset, exception)`.
    unsafe {
        let Some((mut recorder, frame, info)) = monitored(args) else { return none() };
        let outcome = recorder.enter(frame, info, Some(true));
        done(recorder.is_fine(outcome))
    }
}

pub unsafe extern "C" fn py_line(_: *mut Object, args: *const *mut Object, _: isize) -> *mut Object {
    // SAFETY: called by the interpreter with `(code, line)`.
    unsafe {
        let Some((mut recorder, frame, info)) = monitored(args) else { return none() };
        let outcome = recorder.line(frame, info, small_int(*args.add(1)));
        done(recorder.is_fine(outcome))
    }
}

/// A loop written on one line has a line event for each round.
pub unsafe extern "C" fn py_jump(_: *mut Object, args: *const *mut Object, _: isize) -> *mut Object {
    // SAFETY: called by the interpreter with `(code, offset, target)`.
    unsafe {
        if let Some((mut recorder, frame, info)) = monitored(args) {
            let (code, offset, target) = (*args, small_int(*args.add(1)), small_int(*args.add(2)));
            if target <= offset {
                let line = PyCode_Addr2Line(code, target);
                if line >= 0 && line == PyCode_Addr2Line(code, offset) {
                    let outcome = recorder.line(frame, info, line);
                    return done(recorder.is_fine(outcome));
                }
            }
        }
        let Some(disable) = recorder(null_mut).map(|r| r.disable()) else { return none() };
        Py_IncRef(disable);
        disable
    }
}

unsafe fn leave(args: *const *mut Object, kind: Kind) -> *mut Object {
    // SAFETY: called by the interpreter with `(code, offset, value or exception)`.
    unsafe {
        let Some((mut recorder, frame, info)) = monitored(args) else { return none() };
        let outcome = recorder.leave(frame, info, kind, *args.add(2));
        done(recorder.is_fine(outcome))
    }
}

pub unsafe extern "C" fn py_return(_: *mut Object, args: *const *mut Object, _: isize) -> *mut Object {
    // SAFETY: as for `leave`.
    unsafe { leave(args, Kind::Return) }
}

pub unsafe extern "C" fn py_yield(_: *mut Object, args: *const *mut Object, _: isize) -> *mut Object {
    // SAFETY: as for `leave`.
    unsafe { leave(args, Kind::Yield) }
}

pub unsafe extern "C" fn py_unwind(_: *mut Object, args: *const *mut Object, _: isize) -> *mut Object {
    // SAFETY: as for `leave`.
    unsafe { leave(args, Kind::Unwind) }
}

pub unsafe extern "C" fn py_raise(_: *mut Object, args: *const *mut Object, _: isize) -> *mut Object {
    // SAFETY: called by the interpreter with `(code, offset, exception)`.
    unsafe {
        let Some((mut recorder, frame, info)) = monitored(args) else { return none() };
        let outcome = recorder.exception(frame, info, *args.add(2));
        done(recorder.is_fine(outcome))
    }
}
