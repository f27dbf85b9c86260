//! The append-only log in shared memory, as `Log` of `python/recorder.py` writes it.

use std::cell::UnsafeCell;
use std::ptr::null_mut;

use crate::ffi::{
    BUFFER_WRITABLE, Buffer, Object, Py_DecRef, PyObject_CallFunctionObjArgs, PyObject_GetBuffer,
};
use crate::record::Fail;

struct Log {
    head: *mut u8,
    at: *mut u8,
    room: usize,
    total: u64,
    next_window: *mut Object,
    window_size: usize,
    /// Set in a process that the program has forked: the log is its parent's.
    is_silent: bool,
}

struct Slot(UnsafeCell<Log>);

// SAFETY: every access holds the interpreter lock.
unsafe impl Sync for Slot {}

static LOG: Slot = Slot(UnsafeCell::new(Log {
    head: null_mut(),
    at: null_mut(),
    room: 0,
    total: 0,
    next_window: null_mut(),
    window_size: 0,
    is_silent: false,
}));

/// Goes on writing into a first window of the given size that holds `written` bytes; `next_window()` maps each further one.
pub unsafe fn start(
    first: *mut Object,
    size: usize,
    written: usize,
    next_window: *mut Object,
    window_size: usize,
) -> Result<(), Fail> {
    // SAFETY: callers pass a mapping of that size and a callable, and keep both alive.
    unsafe {
        let head = address(first)?;
        *LOG.0.get() = Log {
            head,
            at: head.add(8 + written),
            room: size - 8 - written,
            total: written as u64,
            next_window,
            window_size,
            is_silent: false,
        };
    }
    Ok(())
}

/// Where a writable mapping begins. The view is never released, so the mapping stays.
unsafe fn address(mapping: *mut Object) -> Result<*mut u8, Fail> {
    let mut view = Buffer::empty();
    // SAFETY: the view is large enough for every version's `Py_buffer`.
    unsafe {
        if PyObject_GetBuffer(mapping, &mut view, BUFFER_WRITABLE) != 0 {
            return Err(Fail);
        }
    }
    Ok(view.data)
}

/// Bytes written so far.
pub fn total() -> u64 {
    // SAFETY: a plain read under the lock.
    unsafe { (*LOG.0.get()).total }
}

/// Lets every later record vanish.
pub fn silence() {
    // SAFETY: a plain write under the lock.
    unsafe { (*LOG.0.get()).is_silent = true };
}

/// Appends a record; what the first 8 bytes of the file say always covers whole records.
pub fn write(record: &[u8]) -> Result<(), Fail> {
    let log = LOG.0.get();
    let mut rest = record;
    // SAFETY: `at` and `room` describe the unwritten end of a live mapping. Python is called between
    // accesses, never during one.
    unsafe {
        if (*log).is_silent {
            return Ok(());
        }
        while rest.len() > (*log).room {
            let (part, tail) = rest.split_at((*log).room);
            std::ptr::copy_nonoverlapping(part.as_ptr(), (*log).at, part.len());
            rest = tail;
            (*log).room = 0;
            let mapping =
                PyObject_CallFunctionObjArgs((*log).next_window, null_mut::<Object>());
            if mapping.is_null() {
                return Err(Fail);
            }
            let at = address(mapping)?;
            Py_DecRef(mapping);
            (*log).at = at;
            (*log).room = (*log).window_size;
        }
        std::ptr::copy_nonoverlapping(rest.as_ptr(), (*log).at, rest.len());
        (*log).at = (*log).at.add(rest.len());
        (*log).room -= rest.len();
        (*log).total += record.len() as u64;
        std::ptr::write_unaligned((*log).head.cast(), (*log).total.to_le());
    }
    Ok(())
}
