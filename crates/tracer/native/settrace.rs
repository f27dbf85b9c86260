//! Events by a trace function, up to 3.11.

use std::ffi::c_int;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::ffi::*;
use crate::threads::{code_of, is_recorded, recorder};
use crate::{none, text_of};

/// The callable that stands for us as a trace function: `trace` below.
static TRAMPOLINE: AtomicPtr<Object> = AtomicPtr::new(null_mut());

/// Says which object `trace` is. It lives for ever.
pub fn stand_by(trampoline: *mut Object) {
    TRAMPOLINE.store(trampoline, Ordering::Relaxed);
}

unsafe extern "C" fn on_event(_: *mut Object, frame: *mut Object, what: c_int, arg: *mut Object) -> c_int {
    // SAFETY: Python passes a live frame and, for each kind of event, the argument it documents.
    unsafe {
        let Some(mut recorder) = recorder(|| code_of(frame)) else { return 0 };
        let Some(info) = recorder.info_of_frame(frame) else {
            recorder.skip_lines(frame);
            return 0;
        };
        let outcome = match what {
            TRACE_CALL => {
                if recorder.too_deep() {
                    return -1;
                }
                recorder.enter(frame, info, None)
            }
            TRACE_EXCEPTION => recorder.exception(frame, info, PyTuple_GetItem(arg, 1)),
            TRACE_LINE => recorder.line(frame, info, PyFrame_GetLineNumber(frame)),
            TRACE_RETURN => {
                let kind = recorder.leave_kind(frame, info, arg);
                recorder.leave(frame, info, kind, arg)
            }
            _ => Ok(()),
        };
        if recorder.is_fine(outcome) { 0 } else { -1 }
    }
}

/// `set_trace()`: starts recording by the trace function of this thread.
pub unsafe extern "C" fn set_trace(_: *mut Object, _: *const *mut Object, _: isize) -> *mut Object {
    // SAFETY: the registered object is a callable that Python may store and call, as `sys.settrace`
    // would have it, so that programs which save and restore the trace function keep us.
    unsafe {
        if is_recorded() {
            PyEval_SetTrace(Some(on_event), TRAMPOLINE.load(Ordering::Relaxed));
        }
        none()
    }
}

/// `trace(frame, event, arg)`: what `sys.gettrace()` returns. Called as a Python trace function, it
/// puts the native one back and handles the event at hand.
pub unsafe extern "C" fn trace(module: *mut Object, args: *const *mut Object, count: isize) -> *mut Object {
    // SAFETY: the arguments are those of a trace function; the event's name is compared by its text.
    unsafe {
        if !is_recorded() {
            return none();
        }
        let itself = TRAMPOLINE.load(Ordering::Relaxed);
        PyEval_SetTrace(Some(on_event), itself);
        if count == 3 && is_frame(*args) {
            let (frame, arg) = (*args, *args.add(2));
            let what = match text_of(*args.add(1)) {
                Some(b"call") => TRACE_CALL,
                Some(b"exception") if kind_of(arg) == &raw mut PyTuple_Type => TRACE_EXCEPTION,
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

/// A program may call its trace function with anything.
unsafe fn is_frame(object: *mut Object) -> bool {
    // SAFETY: the object is live; types are compared with types.
    unsafe { kind_of(object) == &raw mut PyFrame_Type }
}
