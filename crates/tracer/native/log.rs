//! The append-only logs in shared memory, as `Log` of `python/recorder.py` writes them: one for each thread
//! that is recorded.

use std::cell::UnsafeCell;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::ffi::{
    BUFFER_WRITABLE, Buffer, Object, Py_DecRef, PyObject_CallFunctionObjArgs, PyObject_GetBuffer,
};
use crate::record::Fail;

/// What the windows of a log begin with, the first of the main thread's aside: whose it is and its size.
const WINDOW_HEAD: usize = 8;

/// Set in a process that the program has forked: the logs are its parent's.
static IS_SILENT: AtomicBool = AtomicBool::new(false);

/// One log. It stays until the process ends, so that Python may add to it while a record is being made.
pub struct Log(UnsafeCell<Inner>);

struct Inner {
    head: *mut u8,
    at: *mut u8,
    room: usize,
    total: u64,
    next_window: *mut Object,
    window_size: usize,
}

// SAFETY: every access holds the interpreter lock.
unsafe impl Sync for Log {}

/// Where a log that Python has begun goes on.
pub struct Begun {
    pub first_window: *mut Object,
    pub first_window_size: usize,
    /// Where in that window the number of bytes is.
    pub head: usize,
    pub written: usize,
    /// Maps each further window.
    pub next_window: *mut Object,
    pub window_size: usize,
}

impl Log {
    /// Goes on with a log.
    pub unsafe fn go_on(begun: Begun) -> Result<&'static Self, Fail> {
        // SAFETY: callers pass a mapping of that size and a callable, and keep both alive.
        let start = unsafe { address(begun.first_window)? };
        let used = begun.head + 8 + begun.written;
        // SAFETY: what is used is a part of the window.
        let (head, at) = unsafe { (start.add(begun.head), start.add(used)) };
        Ok(Box::leak(Box::new(Self(UnsafeCell::new(Inner {
            head,
            at,
            room: begun.first_window_size - used,
            total: begun.written as u64,
            next_window: begun.next_window,
            window_size: begun.window_size,
        })))))
    }

    /// Bytes written so far.
    pub fn total(&self) -> u64 {
        // SAFETY: a plain read under the lock.
        unsafe { (*self.0.get()).total }
    }

    /// Appends a record; what the number of bytes says always covers whole records.
    #[inline(always)]
    pub fn write(&self, record: &[u8]) -> Result<(), Fail> {
        if IS_SILENT.load(Ordering::Relaxed) {
            return Ok(());
        }
        let log = self.0.get();
        // SAFETY: `at` and `room` describe the unwritten end of a live mapping.
        unsafe {
            let rest = if record.len() <= (*log).room { record } else { self.fill_windows(record)? };
            std::ptr::copy_nonoverlapping(rest.as_ptr(), (*log).at, rest.len());
            (*log).at = (*log).at.add(rest.len());
            (*log).room -= rest.len();
            (*log).total += record.len() as u64;
            std::ptr::write_unaligned((*log).head.cast(), (*log).total.to_le());
        }
        Ok(())
    }

    /// Writes as much as goes before the last window that a record needs; gives the rest.
    #[cold]
    fn fill_windows<'a>(&self, record: &'a [u8]) -> Result<&'a [u8], Fail> {
        let log = self.0.get();
        let mut rest = record;
        // SAFETY: as above. Python is called between accesses, never during one.
        unsafe {
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
                (*log).at = at.add(WINDOW_HEAD);
                (*log).room = (*log).window_size - WINDOW_HEAD;
            }
        }
        Ok(rest)
    }
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

/// Lets every later record vanish.
pub fn silence() {
    IS_SILENT.store(true, Ordering::Relaxed);
}
