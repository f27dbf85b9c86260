//! The table of a zip archive whose files are stored as they are, which is how PyTorch saves.

use std::ops::Range;

const END: [u8; 4] = [b'P', b'K', 5, 6];
const ENTRY: [u8; 4] = [b'P', b'K', 1, 2];
const FILE: [u8; 4] = [b'P', b'K', 3, 4];
/// Bytes of an end record without its comment, which has at most 65,535.
const END_BYTES: usize = 22;
/// Stands for a size that lies in a record of the 64-bit form.
const WIDE: usize = 0xffff_ffff;

/// Names and bytes of the files in an archive.
pub(super) fn files(archive: &[u8]) -> Result<Vec<(String, Range<usize>)>, String> {
    let last = archive
        .len()
        .checked_sub(END_BYTES)
        .ok_or("it is no zip archive")?;
    let first = last.saturating_sub(usize::from(u16::MAX));
    let end = (first..=last)
        .rev()
        .find(|at| archive[*at..].starts_with(&END));
    let end = end.ok_or("it is no zip archive")?;
    let (count, mut at) = (
        number::<2>(archive, end + 10)?,
        number::<4>(archive, end + 16)?,
    );
    let mut files = Vec::new();
    for _ in 0..count {
        let (name, range, next) = entry(archive, at)?;
        files.push((name, range));
        at = next;
    }
    Ok(files)
}

/// The entry of the table at `at`, and where the next one begins.
fn entry(archive: &[u8], at: usize) -> Result<(String, Range<usize>, usize), String> {
    expect(archive, at, ENTRY)?;
    let [name, extra, comment] = [28, 30, 32].map(|field| number::<2>(archive, at + field));
    let (name, extra, comment) = (name?, extra?, comment?);
    let text = String::from_utf8_lossy(bytes(archive, at + 46, name)?).into_owned();
    let (method, size) = (
        number::<2>(archive, at + 10)?,
        number::<4>(archive, at + 20)?,
    );
    let file = number::<4>(archive, at + 42)?;
    if method != 0 {
        return Err(format!("`{text}` in it is compressed"));
    }
    if size == WIDE || file == WIDE {
        return Err(format!("`{text}` in it is larger than 4 GB"));
    }
    expect(archive, file, FILE)?;
    let begin = file + 30 + number::<2>(archive, file + 26)? + number::<2>(archive, file + 28)?;
    bytes(archive, begin, size)?;
    Ok((text, begin..begin + size, at + 46 + name + extra + comment))
}

/// `len` bytes at `at`. Both come from fields of at most 32 bits, so that sums fit.
fn bytes(archive: &[u8], at: usize, len: usize) -> Result<&[u8], String> {
    let found = archive.get(at..at + len);
    found.ok_or_else(|| "it is cut short".to_owned())
}

fn number<const N: usize>(archive: &[u8], at: usize) -> Result<usize, String> {
    let found = bytes(archive, at, N)?;
    Ok(found
        .iter()
        .rev()
        .fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
}

fn expect(archive: &[u8], at: usize, mark: [u8; 4]) -> Result<(), String> {
    match bytes(archive, at, 4)? == mark {
        true => Ok(()),
        false => Err("its table is damaged".to_owned()),
    }
}
