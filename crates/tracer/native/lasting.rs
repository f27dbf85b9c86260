//! Texts of objects whose text lasts as long as they do: classes, builtin functions, and modules where no
//! code of the program is to run.

use std::ptr::null_mut;

use crate::address::ByAddress;
use crate::ffi::*;
use crate::held::Held;
use crate::text_of;

/// Texts that have been asked for once. The objects are not kept alive.
#[derive(Default)]
pub struct Lasting(ByAddress<(Held, Vec<u8>)>);

impl Lasting {
    /// The text of an object that is known.
    unsafe fn get(&self, value: *mut Object) -> Option<&[u8]> {
        let (alive, text) = self.0.get(&(value as usize))?;
        // SAFETY: the weak reference is owned; what it refers to is only compared.
        let referent = unsafe { PyWeakref_GetObject(alive.0) };
        (referent == value).then_some(text)
    }

    /// The text, which is asked for if it is not known.
    pub unsafe fn text(&mut self, value: *mut Object, whole: *mut Object) -> Option<&[u8]> {
        // SAFETY: the value and the function are live.
        unsafe {
            if self.get(value).is_none() {
                self.learn(value, whole);
            }
            self.get(value)
        }
    }

    /// Asks `whole`, which gives `(repr, detail or None, truncated)`; false if the text does not last, or
    /// the object could not be told from a later one at its place.
    unsafe fn learn(&mut self, value: *mut Object, whole: *mut Object) -> bool {
        // SAFETY: the value and the function are live; every other reference is owned.
        unsafe {
            let alive = Held(PyWeakref_NewRef(value, null_mut()));
            let answer = match alive.0.is_null() {
                true => Held::default(),
                false => Held(PyObject_CallFunctionObjArgs(whole, value, null_mut::<Object>())),
            };
            if answer.0.is_null() {
                PyErr_Clear();
                return false;
            }
            let item = |at| PyTuple_GetItem(answer.0, at);
            let is_whole = item(1) == &raw mut _Py_NoneStruct && item(2) != &raw mut _Py_TrueStruct;
            let Some(text) = text_of(item(0)).filter(|_| is_whole) else { return false };
            self.0.insert(value as usize, (alive, text.to_vec()));
            true
        }
    }
}
