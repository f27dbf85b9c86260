//! Helpers of the kernel tests: reproducible numbers and comparisons that say where they failed.

#![allow(dead_code, reason = "each test binary uses a part")]

use cwm_kernels::{AttentionShape, Level, Span, cpu};

/// A small generator (SplitMix64), so that a failing case is its seed.
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`, which is not 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// Values in -1..1.
    pub(crate) fn values(&mut self, len: usize) -> Vec<f32> {
        (0..len)
            .map(|_| (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0)
            .collect()
    }

    /// A span of row `i` of one of the kinds in use: causal, document, window, with a prefix or
    /// without.
    pub(crate) fn span(&mut self, i: usize) -> Span {
        let start = match self.below(4) {
            0 => 0,
            1 => i,
            2 => i.saturating_sub(self.below(40)),
            _ => self.below(i + 1),
        };
        let (a, b) = (self.below(start + 1), self.below(start + 1));
        let (prefix_start, prefix_end) = (a.min(b) as u32, a.max(b) as u32);
        Span {
            prefix_start,
            prefix_end,
            start: start as u32,
        }
    }
}

/// Inputs of an attention call.
#[derive(Debug)]
pub(crate) struct AttentionCase {
    pub(crate) q: Vec<f32>,
    pub(crate) k: Vec<f32>,
    pub(crate) v: Vec<f32>,
    pub(crate) dout: Vec<f32>,
    pub(crate) spans: Vec<Span>,
    pub(crate) shape: AttentionShape,
}

impl AttentionCase {
    pub(crate) fn new(seed: u64, t: usize, shape: AttentionShape) -> Self {
        let mut random = Random(seed);
        let spans = (0..t).map(|i| random.span(i)).collect();
        let mut rows = |width| random.values(t * width);
        let (q, dout) = (rows(shape.q_width()), rows(shape.q_width()));
        Self {
            q,
            dout,
            k: rows(shape.kv_width()),
            v: rows(shape.kv_width()),
            spans,
            shape,
        }
    }
}

/// Asserts that every element agrees to `tolerance`, absolute below 1 and relative above.
#[track_caller]
pub(crate) fn assert_close(what: &str, got: &[f32], want: &[f32], tolerance: f32) {
    assert_eq!(got.len(), want.len(), "{what}: lengths");
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let error = (got - want).abs();
        assert!(
            error <= tolerance * want.abs().max(1.0),
            "{what}[{i}]: got {got}, want {want} (error {error:e}, tolerance {tolerance:e})"
        );
    }
}

/// Asserts that the bits agree.
#[track_caller]
pub(crate) fn assert_same_bits(what: &str, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len(), "{what}: lengths");
    let differs = got
        .iter()
        .zip(want)
        .position(|(a, b)| a.to_bits() != b.to_bits());
    assert!(differs.is_none(), "{what}: first difference at {differs:?}");
}

/// A buffer full of NaN: an output that must be overwritten without being read.
pub(crate) fn poison(len: usize) -> Vec<f32> {
    vec![f32::NAN; len]
}

/// Whether this processor's path rounds the inputs of some products to bf16.
pub(crate) fn rounds_to_bf16() -> bool {
    cpu().level >= Level::Avx512Bf16
}

/// To 8 bits of mantissa, nearest even, as the products in bf16 round their inputs. Finite values.
pub(crate) fn bf16(x: &[f32]) -> Vec<f32> {
    let round = |x: &f32| {
        let bits = x.to_bits();
        f32::from_bits((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000)
    };
    x.iter().map(round).collect()
}
