//! References to Python objects that Rust owns.

use std::ptr::null_mut;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::ffi::{Object, Py_DecRef, Py_IncRef};

/// How references are counted: 0, by the interpreter's functions only; 1, a word (up to 3.11); 2, half
/// a word, negative for objects that live for ever (3.12 and later).
static COUNTING: AtomicU8 = AtomicU8::new(0);

/// Says how references are counted, as `python/layout.py` has proved.
pub fn count_by(way: u8) {
    COUNTING.store(way, Ordering::Relaxed);
}

/// Takes a reference to a live object.
#[inline]
pub unsafe fn take(object: *mut Object) {
    // SAFETY: the object is live, and its count is its first word or half word.
    unsafe {
        match COUNTING.load(Ordering::Relaxed) {
            1 => *object.cast::<isize>() += 1,
            2 => {
                let count = object.cast::<i32>();
                if *count >= 0 {
                    *count = (*count).wrapping_add(1);
                }
            }
            _ => Py_IncRef(object),
        }
    }
}

/// Takes a reference to each of a row of live objects.
pub unsafe fn take_all(objects: &[*mut Object]) {
    // SAFETY: as for `take`.
    unsafe {
        if COUNTING.load(Ordering::Relaxed) == 1 {
            objects.iter().for_each(|&object| *object.cast::<isize>() += 1);
        } else {
            objects.iter().for_each(|&object| take(object));
        }
    }
}

/// Gives back the references among these words: the even ones.
#[inline(always)]
pub unsafe fn give_back_all(words: &[usize]) {
    // SAFETY: as for `give_back`.
    unsafe {
        let is_plain = COUNTING.load(Ordering::Relaxed) == 1;
        for &word in words.iter().filter(|&&word| word & 1 == 0) {
            let count = word as *mut isize;
            if is_plain && *count > 1 {
                *count -= 1;
            } else {
                give_back(word as *mut Object);
            }
        }
    }
}

/// Gives a reference back. The last one may run code of the program.
#[inline]
pub unsafe fn give_back(object: *mut Object) {
    // SAFETY: the reference is owned; the interpreter itself ends the object with its last one.
    unsafe {
        match COUNTING.load(Ordering::Relaxed) {
            1 if *object.cast::<isize>() > 1 => *object.cast::<isize>() -= 1,
            2 if *object.cast::<i32>() < 0 => {}
            2 if *object.cast::<i32>() > 1 => *object.cast::<i32>() -= 1,
            _ => Py_DecRef(object),
        }
    }
}

/// An owned reference, or none.
pub struct Held(pub *mut Object);

impl Held {
    /// A new reference to a live object, or to nothing for NULL.
    pub unsafe fn to(object: *mut Object) -> Self {
        if !object.is_null() {
            // SAFETY: the object is live.
            unsafe { take(object) };
        }
        Self(object)
    }
}

impl Default for Held {
    fn default() -> Self {
        Self(null_mut())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: the reference is owned, and everything here runs under the interpreter lock.
            unsafe { give_back(self.0) };
        }
    }
}
