//! Values made of plain builtins as text, without running any Python code.
//!
//! Everything else, and everything too long to be shown whole, is refused: the Python renderer does
//! it. So this file only has to agree with `repr`.

use std::ffi::{CStr, c_char};
use std::ptr::null_mut;

use crate::ffi::*;

/// Deeper values are left to Python, and so are those that contain themselves.
const DEEPEST: usize = 40;

/// Appends the `repr` of a value to `out` if it is plain and takes at most `cap` characters.
pub unsafe fn plain(value: *mut Object, out: &mut Vec<u8>, cap: usize) -> Option<()> {
    let limit = out.len() + cap;
    // SAFETY: callers pass a live object.
    unsafe { show(value, out, limit, 0)? };
    (out.len() <= limit).then_some(())
}

unsafe fn show(value: *mut Object, out: &mut Vec<u8>, limit: usize, depth: usize) -> Option<()> {
    if out.len() > limit || depth > DEEPEST {
        return None;
    }
    // SAFETY: the exact type is checked before each call that needs it. No call here runs code of the
    // program, so containers keep their borrowed items alive.
    unsafe {
        let kind = kind_of(value);
        if kind == &raw mut PyLong_Type {
            integer(value, out)
        } else if kind == &raw mut PyUnicode_Type {
            text(value, out, limit)
        } else if value == &raw mut _Py_NoneStruct {
            out.extend(b"None");
            Some(())
        } else if kind == &raw mut PyBool_Type {
            let is_true = value == &raw mut _Py_TrueStruct;
            out.extend(if is_true { &b"True"[..] } else { b"False" });
            Some(())
        } else if kind == &raw mut PyFloat_Type {
            float(value, out)
        } else if kind == &raw mut PyList_Type {
            let item = |at| PyList_GetItem(value, at);
            sequence([b"[", b"]"], PyList_Size(value), item, out, limit, depth)
        } else if kind == &raw mut PyTuple_Type {
            let size = PyTuple_Size(value);
            let close: &[u8] = if size == 1 { b",)" } else { b")" };
            sequence([b"(", close], size, |at| PyTuple_GetItem(value, at), out, limit, depth)
        } else if kind == &raw mut PyDict_Type {
            mapping(value, out, limit, depth)
        } else if kind == &raw mut PySet_Type {
            set(value, [b"{", b"}"], b"set()", out, limit, depth)
        } else if kind == &raw mut PyFrozenSet_Type {
            set(value, [b"frozenset({", b"})"], b"frozenset()", out, limit, depth)
        } else {
            None
        }
    }
}

unsafe fn integer(value: *mut Object, out: &mut Vec<u8>) -> Option<()> {
    let mut overflow = 0;
    // SAFETY: the value is an int.
    let number = unsafe { PyLong_AsLongLongAndOverflow(value, &mut overflow) };
    if overflow != 0 {
        return None;
    }
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        out.push(b'-');
    }
    out.extend(&digits[at..]);
    Some(())
}

unsafe fn float(value: *mut Object, out: &mut Vec<u8>) -> Option<()> {
    // SAFETY: the value is a float; the text is ours to free.
    unsafe {
        let number = PyFloat_AsDouble(value);
        let text =
            PyOS_double_to_string(number, b'r' as c_char, 0, FLOAT_ADD_DOT_0, null_mut());
        if text.is_null() {
            PyErr_Clear();
            return None;
        }
        out.extend(CStr::from_ptr(text).to_bytes());
        PyMem_Free(text.cast());
    }
    Some(())
}

/// Only ASCII: what else is printable is Python's to say.
unsafe fn text(value: *mut Object, out: &mut Vec<u8>, limit: usize) -> Option<()> {
    // SAFETY: the value is a str.
    let text = unsafe {
        let length = usize::try_from(PyUnicode_GetLength(value)).ok()?;
        if out.len() + length > limit {
            return None;
        }
        crate::text_of(value).filter(|text| text.len() == length)?
    };
    let has = |wanted: u8| text.contains(&wanted);
    let quote = if has(b'\'') && !has(b'"') { b'"' } else { b'\'' };
    out.push(quote);
    for &byte in text {
        match byte {
            b'\\' => out.extend(b"\\\\"),
            b'\n' => out.extend(b"\\n"),
            b'\r' => out.extend(b"\\r"),
            b'\t' => out.extend(b"\\t"),
            _ if byte == quote => out.extend([b'\\', byte]),
            0..0x20 | 0x7f => {
                let hex = |half: u8| b"0123456789abcdef"[half as usize];
                out.extend([b'\\', b'x', hex(byte >> 4), hex(byte & 15)]);
            }
            _ => out.push(byte),
        }
    }
    out.push(quote);
    Some(())
}

unsafe fn sequence(
    [open, close]: [&[u8]; 2],
    size: isize,
    item: impl Fn(isize) -> *mut Object,
    out: &mut Vec<u8>,
    limit: usize,
    depth: usize,
) -> Option<()> {
    out.extend(open);
    for at in 0..size {
        if at > 0 {
            out.extend(b", ");
        }
        // SAFETY: the index is within the size, which nothing changes meanwhile.
        unsafe { show(item(at), out, limit, depth + 1)? };
    }
    out.extend(close);
    Some(())
}

unsafe fn mapping(dict: *mut Object, out: &mut Vec<u8>, limit: usize, depth: usize) -> Option<()> {
    out.push(b'{');
    let (mut at, mut key, mut value) = (0, null_mut(), null_mut());
    let mut first = true;
    // SAFETY: the value is a dict, which nothing changes meanwhile.
    unsafe {
        while PyDict_Next(dict, &mut at, &mut key, &mut value) != 0 {
            if !first {
                out.extend(b", ");
            }
            first = false;
            show(key, out, limit, depth + 1)?;
            out.extend(b": ");
            show(value, out, limit, depth + 1)?;
        }
    }
    out.push(b'}');
    Some(())
}

unsafe fn set(
    set: *mut Object,
    [open, close]: [&[u8]; 2],
    empty: &[u8],
    out: &mut Vec<u8>,
    limit: usize,
    depth: usize,
) -> Option<()> {
    // SAFETY: the value is a set, which nothing changes meanwhile; the iterator and its items are
    // owned here.
    unsafe {
        if PySet_Size(set) == 0 {
            out.extend(empty);
            return Some(());
        }
        let iterator = PyObject_GetIter(set);
        out.extend(open);
        let mut outcome = Some(());
        let mut first = true;
        while outcome.is_some() {
            let item = PyIter_Next(iterator);
            if item.is_null() {
                break;
            }
            if !first {
                out.extend(b", ");
            }
            first = false;
            outcome = show(item, out, limit, depth + 1);
            Py_DecRef(item);
        }
        Py_DecRef(iterator);
        out.extend(close);
        outcome
    }
}
