//! References to Python objects that Rust owns.

use std::ptr::null_mut;

use crate::ffi::{Object, Py_DecRef, Py_IncRef};

/// An owned reference, or none.
pub struct Held(pub *mut Object);

impl Held {
    /// A new reference to a live object, or to nothing for NULL.
    pub unsafe fn to(object: *mut Object) -> Self {
        if !object.is_null() {
            // SAFETY: the object is live.
            unsafe { Py_IncRef(object) };
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
            unsafe { Py_DecRef(self.0) };
        }
    }
}
