//! Values from bytes and bytes from values, a row at a time, for every [`Dtype`].
//!
//! The layouts of GGUF's blocks are those of ggml's reference (`dequantize_row_*`, `quantize_row_*_ref`),
//! and so is the order of the operations: the same bytes give the same f32.

use cwm_kernels::{INT8_GROUP, dequantize_int8, quantize_int8};
use half::{bf16, f16};

use super::Dtype;
use super::dtype::NIBBLE_RUN;

#[cfg(test)]
mod tests;

/// Decodes one row of `out.len()` columns. `data` and `scales` hold exactly that row.
pub(super) fn decode_row(dtype: Dtype, data: &[u8], scales: &[u8], out: &mut [f32]) {
    match dtype {
        Dtype::F32 => each(out, data, f32::from_le_bytes),
        Dtype::F16 => each(out, data, half_from),
        Dtype::Bf16 => each(out, data, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        Dtype::Int8Group32 => int8_row(data, scales, out),
        Dtype::Int4Group32 => int4_row(32, data, scales, out),
        Dtype::Int4Group128 => int4_row(128, data, scales, out),
        Dtype::Q8_0 => blocks(out, data, q8_0),
        Dtype::Q4_0 => blocks(out, data, q4_0),
        Dtype::Q4_1 => blocks(out, data, q4_1),
        Dtype::Q4K => blocks(out, data, q4_k),
        Dtype::Q6K => blocks(out, data, q6_k),
    }
}

fn each<const N: usize>(out: &mut [f32], data: &[u8], value: impl Fn([u8; N]) -> f32) {
    let (elements, _) = data.as_chunks::<N>();
    for (out, bytes) in out.iter_mut().zip(elements) {
        *out = value(*bytes);
    }
}

fn half_from(bytes: [u8; 2]) -> f32 {
    f16::from_le_bytes(bytes).to_f32()
}

fn blocks<const VALUES: usize, const BYTES: usize>(
    out: &mut [f32],
    data: &[u8],
    decode: impl Fn(&[u8; BYTES], &mut [f32; VALUES]),
) {
    let (out, _) = out.as_chunks_mut::<VALUES>();
    let (data, _) = data.as_chunks::<BYTES>();
    for (out, block) in out.iter_mut().zip(data) {
        decode(block, out);
    }
}

fn int8_row(data: &[u8], scales: &[u8], out: &mut [f32]) {
    let groups = out.chunks_mut(INT8_GROUP).zip(data.chunks(INT8_GROUP));
    let (scales, _) = scales.as_chunks();
    for ((out, codes), scale) in groups.zip(scales) {
        let codes: [i8; INT8_GROUP] =
            std::array::from_fn(|at| codes.get(at).map_or(0, |code| code.cast_signed()));
        let width = out.len();
        dequantize_int8(out, &codes[..width], &[f32::from_le_bytes(*scale)], width);
    }
}

fn int4_row(group: usize, data: &[u8], scales: &[u8], out: &mut [f32]) {
    let (scales, _) = scales.as_chunks();
    let (runs, _) = data.as_chunks::<{ NIBBLE_RUN / 2 }>();
    for (index, (out, run)) in out.chunks_mut(NIBBLE_RUN).zip(runs).enumerate() {
        let scale = half_from(scales[index * NIBBLE_RUN / group]);
        for (at, out) in out.iter_mut().enumerate() {
            *out = f32::from(nibble(run, at) as i8 - 8) * scale;
        }
    }
}

/// Code `at` of 32 in 16 bytes: low halves first, then high halves.
fn nibble(run: &[u8], at: usize) -> u8 {
    match at.checked_sub(16) {
        None => run[at] & 15,
        Some(at) => run[at] >> 4,
    }
}

fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let scale = half_from([block[0], block[1]]);
    for (out, code) in out.iter_mut().zip(&block[2..]) {
        *out = f32::from(code.cast_signed()) * scale;
    }
}

fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let scale = half_from([block[0], block[1]]);
    for (at, out) in out.iter_mut().enumerate() {
        *out = f32::from(nibble(&block[2..], at) as i8 - 8) * scale;
    }
}

fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let [scale, least] = [[block[0], block[1]], [block[2], block[3]]].map(half_from);
    for (at, out) in out.iter_mut().enumerate() {
        *out = f32::from(nibble(&block[4..], at)) * scale + least;
    }
}

/// Scale and least value of group `group` of 8, six bits each in twelve bytes: the first four of
/// either kind lie in the low bits of bytes 0 to 7, whose high bits complete the others.
fn q4_k_group(packed: &[u8], group: usize) -> (u8, u8) {
    if group < 4 {
        return (packed[group] & 63, packed[group + 4] & 63);
    }
    let low = packed[group + 4];
    (
        (low & 15) | (packed[group - 4] >> 6) << 4,
        (low >> 4) | (packed[group] >> 6) << 4,
    )
}

fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let [scale, least] = [[block[0], block[1]], [block[2], block[3]]].map(half_from);
    let (packed, codes) = block[4..].split_at(12);
    // 32 bytes hold two groups: the first in the low halves, the second in the high ones.
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let (factor, offset) = q4_k_group(packed, group);
        let (factor, offset) = (scale * f32::from(factor), least * f32::from(offset));
        let codes = &codes[group / 2 * 32..][..32];
        let shift = group % 2 * 4;
        for (out, code) in out.iter_mut().zip(codes) {
            *out = factor * f32::from((code >> shift) & 15) - offset;
        }
    }
}

fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let scale = half_from([block[208], block[209]]);
    let (low, high, scales) = (&block[..128], &block[128..192], &block[192..208]);
    for (at, out) in out.iter_mut().enumerate() {
        // Halves of 128 values are packed alike; in one, value `32 * quarter + column` has its
        // low four bits in byte `column` or `column + 32`, its upper two in byte `column`.
        let (part, quarter, column) = (at / 128, at % 128 / 32, at % 32);
        let four = low[part * 64 + quarter % 2 * 32 + column] >> (quarter / 2 * 4) & 15;
        let two = high[part * 32 + column] >> (quarter * 2) & 3;
        let code = (four | two << 4) as i8 - 32;
        let factor = scale * f32::from(scales[at / 16].cast_signed());
        *out = factor * f32::from(code);
    }
}

/// What is written of a tensor in one place of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The values, or the codes of a form that has its scales elsewhere.
    Data,
    /// These scales.
    Scales,
}

/// Appends one row to `out`, whose values must be finite and within [`Dtype::largest`]. The width
/// must be one that the type has rows of, and the type one of those that are written.
pub(super) fn encode_row(dtype: Dtype, part: Part, row: &[f32], out: &mut Vec<u8>) {
    match (dtype, part) {
        (Dtype::F32, _) => out.extend(row.iter().flat_map(|v| v.to_le_bytes())),
        (Dtype::F16, _) => {
            out.extend(row.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()));
        }
        (Dtype::Bf16, _) => {
            out.extend(row.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()));
        }
        (Dtype::Int8Group32, part) => int8_bytes(part, row, out),
        (Dtype::Int4Group32, part) => int4_bytes(32, part, row, out),
        (Dtype::Int4Group128, part) => int4_bytes(128, part, row, out),
        (Dtype::Q8_0, _) => row.chunks(32).for_each(|block| q8_0_bytes(block, out)),
        (Dtype::Q4_0, _) => row.chunks(32).for_each(|block| {
            let scale = four_bit_scale(block);
            out.extend(f16::from_f32(scale).to_le_bytes());
            nibble_bytes(scale, block, out);
        }),
        (Dtype::Q4_1 | Dtype::Q4K | Dtype::Q6K, _) => {
            unreachable!("callers refuse forms that are read only")
        }
    }
}

fn int8_bytes(part: Part, row: &[f32], out: &mut Vec<u8>) {
    let (mut codes, mut scales) = ([0; INT8_GROUP], [0.0]);
    for group in row.chunks(INT8_GROUP) {
        let codes = &mut codes[..group.len()];
        quantize_int8(codes, &mut scales, group, group.len());
        match part {
            Part::Data => out.extend(codes.iter().map(|code| code.cast_unsigned())),
            Part::Scales => out.extend(scales[0].to_le_bytes()),
        }
    }
}

fn int4_bytes(group: usize, part: Part, row: &[f32], out: &mut Vec<u8>) {
    for group in row.chunks(group) {
        let scale = four_bit_scale(group);
        match part {
            Part::Scales => out.extend(f16::from_f32(scale).to_le_bytes()),
            Part::Data => {
                let runs = group.chunks(NIBBLE_RUN);
                runs.for_each(|run| nibble_bytes(scale, run, out));
            }
        }
    }
}

/// ggml's rule: the value of largest magnitude gets code 0, the one code without a counterpart of
/// the other sign, and so is stored best. Codes are found with the scale before it is rounded.
fn four_bit_scale(group: &[f32]) -> f32 {
    let larger = |most: f32, &value: &f32| {
        if value.abs() > most.abs() {
            value
        } else {
            most
        }
    };
    group.iter().fold(0.0, larger) / -8.0
}

/// Up to 32 values as 16 bytes of codes; values that are lacking are zero.
fn nibble_bytes(scale: f32, run: &[f32], out: &mut Vec<u8>) {
    let inverse = inverse(scale);
    let code = |at: usize| {
        let value = run.get(at).copied().unwrap_or(0.0);
        (value * inverse + 8.5).clamp(0.0, 15.0) as u8
    };
    out.extend((0..16).map(|at| code(at) | code(at + 16) << 4));
}

fn q8_0_bytes(block: &[f32], out: &mut Vec<u8>) {
    let largest = block
        .iter()
        .fold(0.0_f32, |most, value| most.max(value.abs()));
    let scale = largest / 127.0;
    let inverse = inverse(scale);
    out.extend(f16::from_f32(scale).to_le_bytes());
    let code = |&value: &f32| (value * inverse).round().clamp(-127.0, 127.0) as i8;
    out.extend(block.iter().map(|value| code(value).cast_unsigned()));
}

/// Of a scale; a group of zeros has none and codes of zero.
fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}
