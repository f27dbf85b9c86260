//! The packed forms: from rows of f32 to panels, and back.
//!
//! A panel is a list of units along the depth, each for all [`PANEL`] outputs:
//!
//! | format | unit | bytes |
//! |---|---|---|
//! | f32 | 1 weight | 4 for each output |
//! | bf16 | 2 weights | the two, the earlier first, for each output |
//! | int8 | 32 weights | for each 4 of the depth: 4 codes plus 128 for each output; then f16 scales |
//! | int4 | 32 or 128 weights | for each 8 of the depth: 4 bytes for each output, whose low halves are the first four codes plus 8 and whose high halves are the next four; then f16 scales |

use super::{PANEL, WeightFormat};
use crate::simd::{Simd, from_bf16, from_f16, to_bf16, to_f16};

/// Version of the packed forms. It is raised whenever the table above changes, or how a weight is
/// rounded: packed bytes of another version are not for this crate.
pub const PACKED_VERSION: u32 = 1;

/// Packs `rows` `[PANEL, depth]`, `depth` being whole units. The unit is not named in here: in its
/// functions rounding is an instruction, and loops become vectors.
#[inline(always)]
pub(super) fn panel<S: Simd>(format: WeightFormat, panel: &mut [u8], rows: &[f32], depth: usize) {
    let unit = format.unit();
    for (index, bytes) in panel.chunks_exact_mut(format.unit_bytes()).enumerate() {
        for (lane, row) in rows.chunks_exact(depth).enumerate() {
            let weights = &row[index * unit..][..unit];
            match format {
                WeightFormat::F32 => {
                    bytes[lane * 4..][..4].copy_from_slice(&weights[0].to_le_bytes())
                }
                WeightFormat::Bf16 => {
                    for (to, w) in bytes[lane * 4..][..4].chunks_exact_mut(2).zip(weights) {
                        to.copy_from_slice(&to_bf16(*w).to_le_bytes());
                    }
                }
                WeightFormat::Int8 => int8(bytes, lane, weights),
                WeightFormat::Int4Group32 | WeightFormat::Int4Group128 => {
                    int4(bytes, lane, weights)
                }
            }
        }
    }
}

/// Row `lane` of a panel, as f32.
pub(super) fn unpack_row(format: WeightFormat, panel: &[u8], lane: usize, out: &mut [f32]) {
    let units = panel.chunks_exact(format.unit_bytes());
    for (out, bytes) in out.chunks_mut(format.unit()).zip(units) {
        let four = &bytes[lane * 4..][..4];
        match format {
            WeightFormat::F32 => out[0] = f32::from_le_bytes([four[0], four[1], four[2], four[3]]),
            WeightFormat::Bf16 => {
                for (out, pair) in out.iter_mut().zip(four.chunks_exact(2)) {
                    *out = from_bf16(u16::from_le_bytes([pair[0], pair[1]]));
                }
            }
            WeightFormat::Int8 => {
                let scale = scale(bytes, lane);
                for (at, out) in out.iter_mut().enumerate() {
                    let code = bytes[(at / 4 * PANEL + lane) * 4 + at % 4];
                    *out = (f32::from(code) - 128.0) * scale;
                }
            }
            WeightFormat::Int4Group32 | WeightFormat::Int4Group128 => {
                let scale = scale(bytes, lane);
                for (at, out) in out.iter_mut().enumerate() {
                    let byte = bytes[(at / 8 * PANEL + lane) * 4 + at % 4];
                    let code = if at % 8 < 4 { byte & 15 } else { byte >> 4 };
                    *out = (f32::from(code) - 8.0) * scale;
                }
            }
        }
    }
}

/// The scale of an output, from the end of a unit.
fn scale(bytes: &[u8], lane: usize) -> f32 {
    let at = bytes.len() - 2 * PANEL + 2 * lane;
    from_f16(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

/// Rounds a scale to f16 and stores it; returns what a weight is multiplied with to get its code.
fn store_scale(bytes: &mut [u8], lane: usize, scale: f32) -> f32 {
    let half = to_f16(scale);
    let at = bytes.len() - 2 * PANEL + 2 * lane;
    bytes[at..at + 2].copy_from_slice(&half.to_le_bytes());
    let scale = from_f16(half);
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// `scale = max|w| / 127`.
#[inline(always)]
fn int8(bytes: &mut [u8], lane: usize, weights: &[f32]) {
    let largest = weights.iter().fold(0f32, |max, w| max.max(w.abs()));
    let inverse = store_scale(bytes, lane, largest / 127.0);
    let (fours, _) = weights.as_chunks::<4>();
    for (step, four) in fours.iter().enumerate() {
        let codes = four.map(|w| (w * inverse).round_ties_even().clamp(-127.0, 127.0) + 128.0);
        bytes[(step * PANEL + lane) * 4..][..4].copy_from_slice(&codes.map(|code| code as u8));
    }
}

/// The weight furthest from zero becomes the code -8, so its sign is that of `-scale`.
#[inline(always)]
fn int4(bytes: &mut [u8], lane: usize, weights: &[f32]) {
    let furthest = weights
        .iter()
        .fold(0f32, |max, &w| if w.abs() > max.abs() { w } else { max });
    let inverse = store_scale(bytes, lane, furthest / -8.0);
    let (eights, _) = weights.as_chunks::<8>();
    for (step, eight) in eights.iter().enumerate() {
        let codes = eight.map(|w| (w * inverse).round_ties_even().clamp(-8.0, 7.0) + 8.0);
        let codes = codes.map(|code| code as u8);
        let pairs: [u8; 4] = std::array::from_fn(|at| codes[at] | codes[at + 4] << 4);
        bytes[(step * PANEL + lane) * 4..][..4].copy_from_slice(&pairs);
    }
}
