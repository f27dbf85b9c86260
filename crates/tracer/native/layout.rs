//! Reading frames and objects where they lie in memory.
//!
//! A [`Layout`] comes from `python/layout.py`, which has a table of it for each version and proves
//! every entry on objects made for the purpose before the first event. Without one, everything is
//! read through the public C API, several times slower.

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicI32, Ordering};

use crate::ffi::*;

/// Where things are, in bytes from the beginning of an object.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// In a frame object: the pointer to the interpreter's own frame; 0 where the two are one.
    pub inner: usize,
    pub code: usize,
    pub globals: usize,
    /// The namespace of a module or class body.
    pub space: usize,
    pub slots: usize,
    /// In a frame object: whether it wants line events.
    pub lines: usize,
    pub qualname: usize,
    /// In an ASCII string: its text.
    pub text: usize,
    pub ints: Ints,
}

/// How an int tells its size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ints {
    /// The number of digits, negative for negative numbers (up to 3.11).
    Signed,
    /// The number of digits above three bits, of which the lowest two are the sign (3.12 and later).
    Tagged,
}

/// In a type object: the `repr` slot.
const TYPE_REPR: usize = 88;
/// In a list, tuple, set and dict: how many items there are.
const SIZE: usize = 16;
const LIST_ITEMS: usize = 24;
const TUPLE_ITEMS: usize = 24;
const SET_USED: usize = 24;
const SET_MASK: usize = 32;
const SET_TABLE: usize = 40;
const SET_ENTRY: usize = 16;
const CELL_CONTENT: usize = 16;
/// In an int: its digits of 30 bits, four bytes each.
const DIGITS: usize = 24;
/// In a string: what kind it is. Both bits are set if its text follows in one piece and is ASCII.
const TEXT_STATE: usize = 32;
const ASCII: usize = 0x60;

/// The word at an offset of an object.
#[inline(always)]
unsafe fn word(object: *mut Object, offset: usize) -> *mut Object {
    // SAFETY: callers pass a live object of a type that was proved to have a word there.
    unsafe { *object.byte_add(offset).cast::<*mut Object>() }
}

impl Layout {
    /// The part of a frame that holds code and variables.
    unsafe fn inner(&self, frame: *mut Object) -> *mut Object {
        // SAFETY: the frame is live.
        unsafe { if self.inner == 0 { frame } else { word(frame, self.inner) } }
    }

    pub unsafe fn code(&self, frame: *mut Object) -> *mut Object {
        // SAFETY: the frame is live, so is its code.
        unsafe { word(self.inner(frame), self.code) }
    }

    pub unsafe fn globals(&self, frame: *mut Object) -> *mut Object {
        // SAFETY: the frame is live, so are its globals.
        unsafe { word(self.inner(frame), self.globals) }
    }

    /// The namespace of a module or class body, NULL in functions.
    pub unsafe fn space(&self, frame: *mut Object) -> *mut Object {
        // SAFETY: the frame is live, so is its namespace.
        unsafe { word(self.inner(frame), self.space) }
    }

    /// The first slot of the variables.
    pub unsafe fn slots(&self, frame: *mut Object) -> *const *mut Object {
        // SAFETY: the frame is live.
        unsafe { self.inner(frame).byte_add(self.slots).cast() }
    }

    /// Asks for no line events of this frame.
    pub unsafe fn skip_lines(&self, frame: *mut Object) {
        // SAFETY: the frame is live; the byte is the flag that `f_trace_lines` sets.
        unsafe { *frame.byte_add(self.lines).cast::<u8>() = 0 };
    }

    /// The value of an int of at most two digits.
    #[inline]
    pub unsafe fn short_int(&self, int: *mut Object) -> Option<i64> {
        // SAFETY: the object is a live int, with as many digits as it says.
        unsafe {
            let size = word(int, SIZE) as isize;
            let digit = |at: usize| i64::from(*int.byte_add(DIGITS + 4 * at).cast::<u32>());
            let (count, is_negative) = match self.ints {
                Ints::Signed => (size.unsigned_abs(), size < 0),
                Ints::Tagged => (size as usize >> 3, size & 2 != 0),
            };
            let number = match count {
                0 => 0,
                1 => digit(0),
                2 => digit(0) | digit(1) << 30,
                _ => return None,
            };
            Some(if is_negative { -number } else { number })
        }
    }

    /// The value of an int of at most one digit that is not negative.
    #[inline(always)]
    pub unsafe fn digit(&self, int: *mut Object) -> Option<u32> {
        let (one, zero) = match self.ints {
            Ints::Signed => (1, 0),
            Ints::Tagged => (1 << 3, 1),
        };
        // SAFETY: the object is a live int.
        unsafe {
            match word(int, SIZE) as usize {
                size if size == one => Some(*int.byte_add(DIGITS).cast::<u32>()),
                size if size == zero => Some(0),
                _ => None,
            }
        }
    }

    /// The text of a string, if it is ASCII.
    #[inline]
    pub unsafe fn ascii<'a>(&self, string: *mut Object) -> Option<&'a [u8]> {
        // SAFETY: the object is a live str, whose text never changes.
        unsafe {
            if word(string, TEXT_STATE) as usize & ASCII != ASCII {
                return None;
            }
            let size = word(string, SIZE) as usize;
            Some(std::slice::from_raw_parts(string.byte_add(self.text).cast(), size))
        }
    }

    pub unsafe fn qualname(&self, function: *mut Object) -> *mut Object {
        // SAFETY: a live function always has a qualname.
        unsafe { word(function, self.qualname) }
    }
}

/// What a cell holds, NULL if nothing; the object itself if it is no cell, as the variable of an inlined
/// comprehension is not.
pub unsafe fn through_cell(object: *mut Object) -> *mut Object {
    // SAFETY: the object is live or NULL; only cells are read through.
    unsafe {
        if !object.is_null() && kind_of(object) == &raw mut PyCell_Type {
            word(object, CELL_CONTENT)
        } else {
            object
        }
    }
}

pub unsafe fn repr_slot(kind: *mut Object) -> *mut Object {
    // SAFETY: the argument is a type object.
    unsafe { word(kind, TYPE_REPR) }
}

/// The items of a list or tuple as they lie in memory.
pub unsafe fn items_of<'a>(sequence: *mut Object, is_list: bool) -> &'a [*mut Object] {
    // SAFETY: the object is a live list or tuple, and nothing changes it while the slice is used.
    unsafe {
        let size = word(sequence, SIZE) as usize;
        if size == 0 {
            return &[];
        }
        let items = if is_list {
            word(sequence, LIST_ITEMS).cast::<*mut Object>()
        } else {
            sequence.byte_add(TUPLE_ITEMS).cast()
        };
        std::slice::from_raw_parts(items, size)
    }
}

pub unsafe fn dict_size(dict: *mut Object) -> usize {
    // SAFETY: the object is a live dict.
    unsafe { word(dict, SIZE) as usize }
}

pub unsafe fn set_size(set: *mut Object) -> usize {
    // SAFETY: the object is a live set or frozenset.
    unsafe { word(set, SET_USED) as usize }
}

/// The next element of a set from a position in its table on, with the position after it.
pub unsafe fn set_next(set: *mut Object, mut at: usize) -> Option<(*mut Object, usize)> {
    // SAFETY: the object is a live set or frozenset; its table has mask + 1 entries.
    unsafe {
        let mask = word(set, SET_MASK) as usize;
        let table = word(set, SET_TABLE);
        while at <= mask {
            let entry = table.byte_add(at * SET_ENTRY);
            let (key, hash) = (word(entry, 0), word(entry, 8) as isize);
            at += 1;
            // A removed element leaves a dummy with a hash of -1, which no object has.
            if !key.is_null() && hash != -1 {
                return Some((key, at));
            }
        }
        None
    }
}

unsafe extern "C" {
    fn pipe(ends: *mut c_int) -> c_int;
    fn write(fd: c_int, data: *const c_void, size: usize) -> isize;
    fn read(fd: c_int, data: *mut c_void, size: usize) -> isize;
    fn close(fd: c_int) -> c_int;
}

static PEEK_READ: AtomicI32 = AtomicI32::new(-1);
static PEEK_WRITE: AtomicI32 = AtomicI32::new(-1);

/// The word at any address, or `None` where no memory is: the kernel reads it, through a pipe, and so
/// finds out without a fault.
pub fn peek(address: usize) -> Option<usize> {
    // SAFETY: the calls fail with an error on an address that cannot be read; the word is ours.
    unsafe {
        if PEEK_READ.load(Ordering::Relaxed) < 0 {
            let mut ends = [0; 2];
            if pipe(ends.as_mut_ptr()) != 0 {
                return None;
            }
            PEEK_READ.store(ends[0], Ordering::Relaxed);
            PEEK_WRITE.store(ends[1], Ordering::Relaxed);
        }
        if write(PEEK_WRITE.load(Ordering::Relaxed), address as *const c_void, 8) != 8 {
            return None;
        }
        let mut found = 0usize;
        let size = read(PEEK_READ.load(Ordering::Relaxed), (&raw mut found).cast(), 8);
        (size == 8).then_some(found)
    }
}

/// Gives back what `peek` needed.
pub fn end_peeking() {
    for end in [&PEEK_READ, &PEEK_WRITE] {
        let fd = end.swap(-1, Ordering::Relaxed);
        if fd >= 0 {
            // SAFETY: a descriptor of ours that nothing else knows.
            unsafe { close(fd) };
        }
    }
}
