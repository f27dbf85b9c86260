//! Blocks worked out by hand: each value below was computed from the description of its format,
//! not by the code. Comparisons with whole files of a peer are in `tests/gguf.rs`.

use half::f16;

use super::{Dtype, Part, decode_row, encode_row};

fn half(value: f32) -> [u8; 2] {
    f16::from_f32(value).to_le_bytes()
}

fn decode<const N: usize>(dtype: Dtype, data: &[u8], scales: &[u8]) -> [f32; N] {
    let mut out = [f32::NAN; N];
    assert_eq!(dtype.row_bytes(N), Some(data.len()));
    decode_row(dtype, data, scales, &mut out);
    out
}

fn encode(dtype: Dtype, part: Part, row: &[f32]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_row(dtype, part, row, &mut out);
    out
}

#[test]
fn floats() {
    assert_eq!(decode(Dtype::F32, &1.5_f32.to_le_bytes(), &[]), [1.5]);
    assert_eq!(decode(Dtype::F16, &[0x00, 0xc1], &[]), [-2.5]);
    assert_eq!(decode(Dtype::Bf16, &[0x20, 0xc0], &[]), [-2.5]);
    // 1 + 2^-9 lies between two values of bf16 and is one of f16.
    let near_one = [1.0 + f32::powi(2.0, -9)];
    assert_eq!(encode(Dtype::Bf16, Part::Data, &near_one), [0x80, 0x3f]);
    assert_eq!(encode(Dtype::F16, Part::Data, &near_one), [0x02, 0x3c]);
}

#[test]
fn q8_0() {
    let mut block = half(0.5).to_vec();
    block.extend((0..32_i8).map(|at| (at - 16).cast_unsigned()));
    let values: [f32; 32] = decode(Dtype::Q8_0, &block, &[]);
    assert_eq!((values[0], values[16], values[31]), (-8.0, 0.0, 7.5));

    // The largest magnitude is 127 steps of 0.25.
    let mut row = [0.0; 32];
    (row[0], row[1], row[31]) = (-31.75, 0.125, 1.0);
    let block = encode(Dtype::Q8_0, Part::Data, &row);
    assert_eq!(block[..2], half(0.25));
    // Half a step is rounded away from zero.
    assert_eq!((block[2].cast_signed(), block[3], block[33]), (-127, 1, 4));
}

#[test]
fn q4_0() {
    let mut block = half(2.0).to_vec();
    // Values 0 and 16 share a byte.
    block.extend([0xf0; 16]);
    let values: [f32; 32] = decode(Dtype::Q4_0, &block, &[]);
    assert_eq!((values[0], values[15]), (-16.0, -16.0));
    assert_eq!((values[16], values[31]), (14.0, 14.0));

    // The value of largest magnitude gets code 0, whatever its sign.
    let mut row = [0.0; 32];
    (row[0], row[16]) = (4.0, -3.5);
    let block = encode(Dtype::Q4_0, Part::Data, &row);
    assert_eq!(block[..2], half(-0.5));
    assert_eq!((block[2], block[3]), (0xf0, 0x88));
    assert_eq!(
        encode(Dtype::Q4_0, Part::Data, &[0.0; 32])[..3],
        [0, 0x80, 0x88]
    );
}

#[test]
fn q4_1() {
    let mut block = [half(0.5), half(-3.0)].concat();
    block.extend([0x2f; 16]);
    let values: [f32; 32] = decode(Dtype::Q4_1, &block, &[]);
    assert_eq!((values[0], values[31]), (4.5, -2.0));
}

#[test]
fn q4_k() {
    let mut block = [half(1.0), half(0.5)].concat();
    let mut packed = [0_u8; 12];
    // Group 1: scale 3 in the low six bits of byte 1, least value 5 in those of byte 5.
    (packed[1], packed[5]) = (3, 5);
    // Group 6: scale 0b11_0110 has its low half in byte 10 and its high bits in byte 2; least
    // value 0b10_0001 its low half there too and its high bits in byte 6.
    (packed[10], packed[2], packed[6]) = (0x16, 0b1100_0000, 0b1000_0000);
    block.extend(packed);
    let mut codes = [0_u8; 128];
    // Group 1 is the high half of bytes 0 to 31, group 6 the low half of bytes 96 to 127.
    (codes[0], codes[96]) = (0xa0, 0x07);
    block.extend(codes);
    let values: [f32; 256] = decode(Dtype::Q4K, &block, &[]);
    assert_eq!((values[32], values[33]), (3.0 * 10.0 - 2.5, -2.5));
    assert_eq!((values[192], values[193]), (54.0 * 7.0 - 16.5, -16.5));
    assert_eq!((values[0], values[255]), (0.0, 0.0));
}

#[test]
fn q6_k() {
    let (mut low, mut high, mut scales) = ([0_u8; 128], [0_u8; 64], [0_u8; 16]);
    // Value 0: low half of byte 0, bits 0 and 1 of byte 0. Code 0b10_0101.
    low[0] = 0x05;
    high[0] = 0b10;
    // Value 100, third quarter's row 4 of the first half: high half of byte 36, bits 6 and 7 of
    // byte 4. Code 0b11_1111.
    low[36] = 0xf0;
    high[4] = 0b1100_0000;
    // Value 160, column 0 of quarter 1 of the second half: low half of byte 96, bits 2 and 3 of
    // byte 32. Code 0b01_0001.
    low[96] = 0x01;
    high[32] = 0b0100;
    (scales[0], scales[6], scales[10]) = (2, 0xff, 3);
    let mut block = [low.as_slice(), &high, &scales].concat();
    block.extend(half(0.5));
    let values: [f32; 256] = decode(Dtype::Q6K, &block, &[]);
    assert_eq!(values[0], 0.5 * 2.0 * (37.0 - 32.0));
    assert_eq!(values[100], -0.5 * (63.0 - 32.0));
    assert_eq!(values[160], 0.5 * 3.0 * (17.0 - 32.0));
    assert_eq!(values[1], 0.5 * 2.0 * -32.0);
}

/// A row of 40: a whole group and a short one.
#[test]
fn our_int4() {
    let mut row = [0.0; 40];
    (row[0], row[17], row[33]) = (-16.0, 6.0, 1.0);
    let data = encode(Dtype::Int4Group32, Part::Data, &row);
    let scales = encode(Dtype::Int4Group32, Part::Scales, &row);
    assert_eq!(scales, [half(2.0), half(-0.125)].concat());
    assert_eq!((data.len(), data[0], data[1]), (32, 0x80, 0xb8));
    // What is not there is zero weights.
    assert_eq!((data[17], data[31]), (0x80, 0x88));
    assert_eq!(decode(Dtype::Int4Group32, &data, &scales), row);

    // With one scale for both runs the smaller value becomes a whole step.
    let data = encode(Dtype::Int4Group128, Part::Data, &row);
    let scales = encode(Dtype::Int4Group128, Part::Scales, &row);
    assert_eq!(scales, half(2.0));
    row[33] = 2.0;
    assert_eq!(decode(Dtype::Int4Group128, &data, &scales), row);
}

/// A row of 40: a whole group and a short one.
#[test]
fn our_int8() {
    let mut row = [0.0; 40];
    (row[0], row[1], row[39]) = (-127.0, 3.0, 254.0);
    let data = encode(Dtype::Int8Group32, Part::Data, &row);
    let scales = encode(Dtype::Int8Group32, Part::Scales, &row);
    assert_eq!(
        scales,
        [1.0_f32.to_le_bytes(), 2.0_f32.to_le_bytes()].concat()
    );
    assert_eq!(
        (data.len(), data[0].cast_signed(), data[39]),
        (40, -127, 127)
    );
    assert_eq!(decode(Dtype::Int8Group32, &data, &scales), row);
}
