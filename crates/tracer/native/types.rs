//! What is known of the types whose instances have no better `repr` than `<module.Name object>`.

use crate::address::ByAddress;
use crate::ffi::*;
use crate::held::Held;
use crate::layout::repr_slot;
use crate::record::Fail;
use crate::{small_int, text_of};

/// A type, described by the Python renderer when it was first seen. Its name is taken not to change.
pub struct TypeInfo {
    /// A weak reference: the type is not kept alive, and its address may come to mean another.
    alive: Held,
    /// Whether its `repr` was `object.__repr__` then: a class may get or lose another.
    is_plain: bool,
    /// Whether it is a class of the program, whose attributes are shown.
    pub is_own: bool,
    /// Whether it, or a base, has `__slots__`.
    pub is_slotted: bool,
    /// Its name.
    pub name: Vec<u8>,
    /// The `repr` of any instance, address removed.
    pub text: Vec<u8>,
    pub shown: Shown,
}

/// How instances of a type are shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shown {
    /// By the type's one text.
    ByType,
    /// As the list or dictionary that they are, too.
    AsList,
    AsDict,
    /// They are classes: each has a text that lasts.
    AsClass,
    Deque,
    DefaultDict,
    Counter,
    /// From 3.12 on, and before.
    OrderedDict,
    OrderedPairs,
    /// By a text of their own.
    Varied,
}

#[derive(Default)]
pub struct Types {
    by_address: ByAddress<u32>,
    list: Vec<TypeInfo>,
    /// `object.__repr__`, to compare slots with.
    default_repr: usize,
}

impl Types {
    /// Whether instances are shown by `object.__repr__`. Only with a layout.
    unsafe fn is_plain(&mut self, kind: *mut Object) -> bool {
        // SAFETY: types are compared with types.
        unsafe {
            if self.default_repr == 0 {
                self.default_repr = repr_slot(&raw mut PyBaseObject_Type) as usize;
            }
            repr_slot(kind) as usize == self.default_repr
        }
    }

    pub fn get(&self, number: u32) -> &TypeInfo {
        &self.list[number as usize]
    }

    /// The number of a type seen before, if what was said of it still holds. Numbers are never used again.
    #[inline(always)]
    pub unsafe fn known(&mut self, kind: *mut Object) -> Option<u32> {
        let number = *self.by_address.get(&(kind as usize))?;
        // SAFETY: the weak reference is owned; what it refers to is only compared.
        let referent = unsafe { PyWeakref_GetObject(self.get(number).alive.0) };
        // SAFETY: the type is live.
        let is_plain = unsafe { self.is_plain(kind) };
        (referent == kind && self.get(number).is_plain == is_plain).then_some(number)
    }

    /// Takes the description `(own, slotted, name, text, how shown)` of the type of `value`; `None` if it cannot be
    /// had.
    pub unsafe fn learn(
        &mut self,
        value: *mut Object,
        describe: *mut Object,
    ) -> Result<Option<u32>, Fail> {
        // SAFETY: the value is live, and so is its type meanwhile; the answer is a tuple of five.
        unsafe {
            let kind = kind_of(value);
            let alive = Held(PyWeakref_NewRef(kind, std::ptr::null_mut()));
            if alive.0.is_null() {
                PyErr_Clear();
                return Ok(None);
            }
            let nothing = std::ptr::null_mut::<Object>();
            let answer = Held(PyObject_CallFunctionObjArgs(describe, value, nothing));
            if answer.0.is_null() {
                return Err(Fail);
            }
            let item = |at| PyTuple_GetItem(answer.0, at);
            let Some(name) = text_of(item(2)) else { return Ok(None) };
            let shown = match small_int(item(4)) {
                0 => Shown::ByType,
                1 => Shown::AsList,
                2 => Shown::AsDict,
                3 => Shown::AsClass,
                5 => Shown::Deque,
                6 => Shown::DefaultDict,
                7 => Shown::Counter,
                8 => Shown::OrderedDict,
                9 => Shown::OrderedPairs,
                _ => Shown::Varied,
            };
            let Some(text) = text_of(item(3)) else { return Ok(None) };
            let number = self.list.len() as u32;
            let is_plain = self.is_plain(kind);
            self.list.push(TypeInfo {
                alive,
                is_plain,
                is_own: small_int(item(0)) != 0,
                is_slotted: small_int(item(1)) != 0,
                name: name.to_vec(),
                text: text.to_vec(),
                shown,
            });
            self.by_address.insert(kind as usize, number);
            Ok(Some(number))
        }
    }
}

/// How the text of a generator or coroutine begins, if these are its instances.
pub fn generator_name(kind: *mut Object) -> Option<&'static [u8]> {
    if kind == &raw mut PyGen_Type {
        Some(b"<generator object ")
    } else if kind == &raw mut PyCoro_Type {
        Some(b"<coroutine object ")
    } else if kind == &raw mut PyAsyncGen_Type {
        Some(b"<async_generator object ")
    } else {
        None
    }
}
