//! Variables of module and class bodies: they are in a namespace, not in slots.

use std::ptr::null_mut;

use crate::activation::{Activation, Info};
use crate::encode::name_record;
use crate::ffi::*;
use crate::held::Held;
use crate::layout::Layout;
use crate::log::Log;
use crate::record::{Fail, Write};
use crate::text_of;

/// An owned reference to the namespace of a frame, NULL with an exception if it cannot be had.
pub unsafe fn of_frame(
    frame: *mut Object,
    is_module: bool,
    frames: &FrameApi,
    layout: Option<&Layout>,
) -> Held {
    // SAFETY: the caller passes a live frame of a module or class body.
    unsafe {
        match layout {
            Some(layout) if is_module => Held::to(layout.globals(frame)),
            Some(layout) => Held::to(layout.space(frame)),
            None if is_module => Held(frames.globals(frame)),
            None => Held(frames.locals(frame)),
        }
    }
}

/// Writes what changed in the namespace of an activation.
pub unsafe fn changes(act: &mut Activation, info: &mut Info, write: &mut Write) -> Result<(), Fail> {
    // SAFETY: the namespace is held by the activation.
    unsafe {
        let pairs = pairs_of(act.space.0)?;
        let same_keys = pairs.len() == act.rows.len()
            && pairs.iter().zip(&act.rows).all(|((key, _), (known, _))| key.0 == known.0);
        if !same_keys {
            let rows = pairs.iter().map(|(key, _)| row(key.0, info, write.log)).collect::<Result<Vec<_>, _>>()?;
            unbind_missing(act, &rows, write)?;
            act.rows = rows;
            act.grow(info.bound_names.len());
        }
        let numbers: Vec<_> = act.rows.iter().map(|(_, variable)| *variable).collect();
        for ((key, value), variable) in pairs.iter().zip(numbers) {
            let Some(variable) = variable else { continue };
            if value.0 as usize == act.quick[variable] {
                continue;
            }
            let is_hidden = info.is_module && is_hidden(value.0, key.0);
            write.variable(act, variable, if is_hidden { null_mut() } else { value.0 })?;
        }
    }
    Ok(())
}

/// A key with the number of the variable that it names, if it names one that is shown.
unsafe fn row(key: *mut Object, info: &mut Info, log: &Log) -> Result<(Held, Option<usize>), Fail> {
    // SAFETY: the key is live.
    unsafe {
        if kind_of(key) != &raw mut PyUnicode_Type {
            // An object of the program is not held; its key is looked at anew each time.
            return Ok((Held::default(), None));
        }
        let held = Held::to(key);
        let Some(name) = text_of(key).filter(|name| !is_dunder(name)) else {
            return Ok((held, None));
        };
        if let Some(&number) = info.bound_names.get(name) {
            return Ok((held, Some(number)));
        }
        let number = info.bound_names.len();
        info.bound_names.insert(name.to_vec(), number);
        log.write(&name_record(info.number, name))?;
        Ok((held, Some(number)))
    }
}

fn is_dunder(name: &[u8]) -> bool {
    name.starts_with(b"__") && name.ends_with(b"__")
}

/// Variables whose key is gone.
unsafe fn unbind_missing(
    act: &mut Activation,
    rows: &[(Held, Option<usize>)],
    write: &mut Write,
) -> Result<(), Fail> {
    for variable in 0..act.quick.len() {
        let is_there = rows.iter().any(|(_, number)| *number == Some(variable));
        if !is_there && act.quick[variable] != 0 {
            // SAFETY: NULL stands for an unbound variable.
            unsafe { write.variable(act, variable, null_mut())? };
        }
    }
    Ok(())
}

/// Owned keys and values of a namespace, in its order.
unsafe fn pairs_of(space: *mut Object) -> Result<Vec<(Held, Held)>, Fail> {
    // SAFETY: the namespace is live; nothing runs between two steps over a dict.
    unsafe {
        if PyType_IsSubtype(kind_of(space), &raw mut PyDict_Type) != 0 {
            let (mut at, mut key, mut value) = (0, null_mut(), null_mut());
            let mut pairs = Vec::with_capacity(PyDict_Size(space).max(0) as usize);
            while PyDict_Next(space, &mut at, &mut key, &mut value) != 0 {
                pairs.push((Held::to(key), Held::to(value)));
            }
            return Ok(pairs);
        }
        let list = Held(PyMapping_Items(space));
        if list.0.is_null() {
            return Err(Fail);
        }
        let pair = |at| {
            let pair = PyList_GetItem(list.0, at);
            (Held::to(PyTuple_GetItem(pair, 0)), Held::to(PyTuple_GetItem(pair, 1)))
        };
        Ok((0..PyList_Size(list.0)).map(pair).collect())
    }
}

/// What module frames do not list: modules, classes, and functions under their own name.
unsafe fn is_hidden(value: *mut Object, name: *mut Object) -> bool {
    // SAFETY: the objects are live; the attribute of an exact function is read by C code.
    unsafe {
        let kind = kind_of(value);
        if kind == &raw mut PyFunction_Type {
            let qualname = Held(PyObject_GetAttrString(value, c"__qualname__".as_ptr()));
            if qualname.0.is_null() {
                PyErr_Clear();
                return false;
            }
            let text = text_of(qualname.0);
            return text == text_of(name) || text == Some(b"<lambda>");
        }
        let bases = [
            &raw mut PyModule_Type,
            &raw mut PyFunction_Type,
            &raw mut PyCFunction_Type,
            &raw mut PyType_Type,
        ];
        bases.into_iter().any(|base| PyType_IsSubtype(kind, base) != 0)
    }
}
