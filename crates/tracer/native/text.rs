//! Numbers and strings as `repr` writes them.

use std::ffi::{CStr, c_char};
use std::fmt::Write;
use std::ptr::null_mut;

use crate::ffi::*;
use crate::layout::Layout;

const DIGITS: &[u8; 200] = b"0001020304050607080910111213141516171819\
2021222324252627282930313233343536373839\
4041424344454647484950515253545556575859\
6061626364656667686970717273747576777879\
8081828384858687888990919293949596979899";

/// An int of 64 bits; `None` if it is longer.
pub unsafe fn integer(value: *mut Object, layout: Option<&Layout>, out: &mut Vec<u8>) -> Option<()> {
    let mut overflow = 0;
    // SAFETY: the value is an int.
    let number = unsafe {
        layout
            .and_then(|layout| layout.short_int(value))
            .unwrap_or_else(|| PyLong_AsLongLongAndOverflow(value, &mut overflow))
    };
    if overflow != 0 {
        return None;
    }
    decimal(number, out);
    Some(())
}

/// The two digits of a number below 100.
#[inline(always)]
pub fn pair(number: usize) -> [u8; 2] {
    [DIGITS[number * 2], DIGITS[number * 2 + 1]]
}

/// A number in decimal digits.
#[inline(always)]
pub fn decimal(number: i64, out: &mut Vec<u8>) {
    if (0..10).contains(&number) {
        out.push(b'0' + number as u8);
    } else if (10..100).contains(&number) {
        out.extend_from_slice(&pair(number as usize));
    } else {
        long_decimal(number, out);
    }
}

#[inline(never)]
fn long_decimal(number: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(digits(number, &mut [0; MOST_DIGITS]));
}

/// What a number of 64 bits takes at most, with its sign.
pub const MOST_DIGITS: usize = 20;

/// The decimal digits of a number, written to the end of a buffer.
pub fn digits(number: i64, buffer: &mut [u8; MOST_DIGITS]) -> &[u8] {
    let mut rest = number.unsigned_abs();
    let mut at = buffer.len();
    while rest >= 100 {
        at -= 2;
        buffer[at..at + 2].copy_from_slice(&pair((rest % 100) as usize));
        rest /= 100;
    }
    if rest >= 10 {
        at -= 2;
        buffer[at..at + 2].copy_from_slice(&pair(rest as usize));
    } else {
        at -= 1;
        buffer[at] = b'0' + rest as u8;
    }
    if number < 0 {
        at -= 1;
        buffer[at] = b'-';
    }
    &buffer[at..]
}

/// Of two shortest texts that are equally near, Python takes the even one and Rust does not. With this
/// many digits or fewer there is no such pair: half a unit of the last is more than half the distance
/// between two floats.
const CERTAIN_DIGITS: usize = 15;

/// A buffer on the stack for the digits of a float.
struct Short {
    bytes: [u8; 40],
    size: usize,
}

impl Write for Short {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.size + text.len();
        let place = self.bytes.get_mut(self.size..end).ok_or(std::fmt::Error)?;
        place.copy_from_slice(text.as_bytes());
        self.size = end;
        Ok(())
    }
}

/// The shortest digits that read back as the same float, laid out as Python does: with an exponent
/// from 1e16 on and below 1e-4.
pub fn float(signed: f64, out: &mut Vec<u8>) {
    let start = out.len();
    let number = signed;
    if number.is_nan() {
        out.extend_from_slice(b"nan");
        return;
    }
    if number.is_sign_negative() {
        out.push(b'-');
    }
    let number = number.abs();
    if number.is_infinite() {
        out.extend_from_slice(b"inf");
        return;
    }
    let mut short = Short { bytes: [0; 40], size: 0 };
    // D.DDDDe-DDD never takes 40 bytes.
    let _ = write!(short, "{number:e}");
    let text = &short.bytes[..short.size];
    let split = text.iter().position(|&byte| byte == b'e').unwrap_or(text.len());
    let (mantissa, exponent) = text.split_at(split);
    let exponent = std::str::from_utf8(&exponent[1..]).ok().and_then(|e| e.parse().ok());
    let exponent: i32 = exponent.unwrap_or(0);
    let mut digits = [0u8; 40];
    let mut count = 0;
    for &byte in mantissa.iter().filter(|&&byte| byte != b'.') {
        digits[count] = byte;
        count += 1;
    }
    if count > CERTAIN_DIGITS {
        out.truncate(start);
        // SAFETY: the lock is held.
        return unsafe { float_by_python(signed, out) };
    }
    lay_out(&digits[..count], exponent + 1, out);
}

/// The same by the interpreter's own function.
unsafe fn float_by_python(number: f64, out: &mut Vec<u8>) {
    // SAFETY: the text is ours to free.
    unsafe {
        let text =
            PyOS_double_to_string(number, b'r' as c_char, 0, FLOAT_ADD_DOT_0, null_mut());
        if text.is_null() {
            // Out of memory: the next allocation of the program will tell it.
            PyErr_Clear();
            return;
        }
        out.extend_from_slice(CStr::from_ptr(text).to_bytes());
        PyMem_Free(text.cast());
    }
}

/// 0.DIGITS times ten to the power of `point`.
fn lay_out(digits: &[u8], point: i32, out: &mut Vec<u8>) {
    if point > 16 || point <= -4 {
        out.push(digits[0]);
        if digits.len() > 1 {
            out.push(b'.');
            out.extend_from_slice(&digits[1..]);
        }
        let exponent = point - 1;
        out.push(b'e');
        out.push(if exponent < 0 { b'-' } else { b'+' });
        let exponent = exponent.unsigned_abs();
        if exponent >= 100 {
            out.push(b'0' + (exponent / 100) as u8);
        }
        out.push(b'0' + (exponent / 10 % 10) as u8);
        out.push(b'0' + (exponent % 10) as u8);
    } else if point <= 0 {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', -point as usize));
        out.extend_from_slice(digits);
    } else {
        let point = point as usize;
        let whole = point.min(digits.len());
        out.extend_from_slice(&digits[..whole]);
        out.extend(std::iter::repeat_n(b'0', point - whole));
        out.push(b'.');
        out.extend_from_slice(if digits.len() > whole { &digits[whole..] } else { b"0" });
    }
}

/// The visible part of an ASCII string; what else is printable is Python's to say.
pub unsafe fn string(
    value: *mut Object,
    layout: Option<&Layout>,
    out: &mut Vec<u8>,
    max: usize,
) -> Option<()> {
    // SAFETY: the value is a str.
    let text = unsafe {
        match layout {
            Some(layout) => layout.ascii(value)?,
            None => {
                let length = usize::try_from(PyUnicode_GetLength(value)).ok()?;
                crate::text_of(value).filter(|text| text.len() == length)?
            }
        }
    };
    quoted(text, out, max);
    Some(())
}

/// The visible part of a text of ASCII between the quotes that the whole of it gets.
pub fn quoted(text: &[u8], out: &mut Vec<u8>, max: usize) {
    let visible = &text[..text.len().min(max + 1)];
    let is_plain = |&byte: &u8| (0x20..0x7f).contains(&byte) && byte != b'\'' && byte != b'\\';
    if visible.len() == text.len() && visible.iter().all(is_plain) {
        out.reserve(visible.len() + 2);
        out.push(b'\'');
        out.extend_from_slice(visible);
        out.push(b'\'');
        return;
    }
    let has = |wanted: u8| text.contains(&wanted);
    let quote = if has(b'\'') && !has(b'"') { b'"' } else { b'\'' };
    out.push(quote);
    visible.iter().for_each(|&byte| escaped(byte, quote, out));
    out.push(quote);
}

fn escaped(byte: u8, quote: u8, out: &mut Vec<u8>) {
    match byte {
        b'\\' => out.extend_from_slice(b"\\\\"),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        _ if byte == quote => out.extend_from_slice(&[b'\\', byte]),
        0..0x20 | 0x7f => {
            let hex = |half: u8| b"0123456789abcdef"[half as usize];
            out.extend_from_slice(&[b'\\', b'x', hex(byte >> 4), hex(byte & 15)]);
        }
        _ => out.push(byte),
    }
}
