//! Runs as event files of TensorBoard.
//!
//! Promises: what TensorBoard reads, and nothing more of its formats: records framed as TFRecord
//! (length, checksum, bytes, checksum), each an `Event` message in the encoding of protocol buffers
//! with wall time, step and scalar values. Values become 32-bit floats there.
//!
//! The log tells durations and no times of day. Wall times are therefore reckoned back from the time
//! at which the log was last written to, as if the run had never paused.

use std::path::Path;
use std::time::UNIX_EPOCH;

use super::scalars::for_each_scalars;
use crate::Error;

/// Name of the event file. Readers look for `tfevents` in it, with a time that sorts files.
const EVENT_FILE: &str = "events.out.tfevents.0000000000.cwm";
/// What the first record of a file says.
const FILE_VERSION: &str = "brain.Event:2";

/// Writes the run in the folder or log `run` as an event file into the folder `dir`, which is
/// created if needed. An event file that an earlier call wrote there is replaced.
///
/// # Errors
/// When the run cannot be read or the file cannot be written.
pub fn write_tensorboard(run: &Path, dir: &Path) -> Result<(), Error> {
    let mut total = 0.0;
    let modified = for_each_scalars(run, &mut |scalars| total += scalars.seconds)?;
    let modified = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut time = modified.as_secs_f64() - total;

    let mut file = Vec::new();
    write_record(&mut file, &version_event(time));
    for_each_scalars(run, &mut |scalars| {
        time += scalars.seconds;
        write_record(&mut file, &event(time, scalars.step, &scalars.values));
    })?;
    std::fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
    let path = dir.join(EVENT_FILE);
    std::fs::write(&path, file).map_err(Error::io("write", &path))
}

/// A record: its length and its bytes, each with a checksum.
fn write_record(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = (bytes.len() as u64).to_le_bytes();
    out.extend(length);
    out.extend(masked_crc(&length).to_le_bytes());
    out.extend(bytes);
    out.extend(masked_crc(bytes).to_le_bytes());
}

/// The checksum of a record: rotated and shifted, because records may hold checksums themselves.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32 by Castagnoli's polynomial, bits reversed.
fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = crc_table();
    let next = |crc: u32, byte: &u8| TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize] ^ (crc >> 8);
    !bytes.iter().fold(u32::MAX, next)
}

const fn crc_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            let low = crc & 1;
            crc >>= 1;
            if low == 1 {
                crc ^= 0x82f6_3b78;
            }
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

/// `Event { wall_time: 1, file_version: 3 }`.
fn version_event(time: f64) -> Vec<u8> {
    let mut out = Vec::new();
    write_double(&mut out, 1, time);
    write_bytes(&mut out, 3, FILE_VERSION.as_bytes());
    out
}

/// `Event { wall_time: 1, step: 2, summary: 5 { value: 1 { tag: 1, simple_value: 2 } … } }`.
fn event(time: f64, step: u64, values: &[(String, f64)]) -> Vec<u8> {
    let mut summary = Vec::new();
    for (tag, value) in values {
        let mut message = Vec::new();
        write_bytes(&mut message, 1, tag.as_bytes());
        message.push(key(2, Wire::Fixed32));
        message.extend((*value as f32).to_le_bytes());
        write_bytes(&mut summary, 1, &message);
    }
    let mut out = Vec::new();
    write_double(&mut out, 1, time);
    out.push(key(2, Wire::Varint));
    write_varint(&mut out, step);
    write_bytes(&mut out, 5, &summary);
    out
}

/// How the value of a field is written.
enum Wire {
    Varint = 0,
    Fixed64 = 1,
    Bytes = 2,
    Fixed32 = 5,
}

/// Number and type of a field; one byte holds the numbers up to 15.
fn key(field: u8, wire: Wire) -> u8 {
    field << 3 | wire as u8
}

fn write_double(out: &mut Vec<u8>, field: u8, value: f64) {
    out.push(key(field, Wire::Fixed64));
    out.extend(value.to_le_bytes());
}

fn write_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(key(field, Wire::Bytes));
    write_varint(out, bytes.len() as u64);
    out.extend(bytes);
}

/// Seven bits a byte, lowest first.
fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_checksum_is_castagnolis() {
        // The check value of the catalogue of CRCs, and RFC 3720, B.4: 32 bytes of zero.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn a_file_is_what_the_formats_say() {
        let mut out = Vec::new();
        write_record(&mut out, &version_event(1.5));
        write_record(&mut out, &event(2.0, 300, &[("a".into(), 0.5)]));
        // By hand: 09 double, 1a string of 13; 09 double, 10 varint 300 = ac 02, 2a summary of 10,
        // 0a value of 8, 0a tag of 1, 15 float. Checksums by a bitwise program.
        let expected = concat!(
            "1800000000000000",
            "a37f4b22",
            "09000000000000f83f",
            "1a0d627261696e2e4576656e743a32",
            "2a28646c",
            "1800000000000000",
            "a37f4b22",
            "090000000000000040",
            "10ac02",
            "2a0a0a080a016115",
            "0000003f",
            "d150deb2",
        );
        assert_eq!(hex(&out), expected);
    }
}
