//! Attention against the reference: every kind of span, grouped heads, odd widths, lengths that
//! cross blocks, and outputs that start out poisoned.

mod common;

use common::{AttentionCase, assert_close, assert_same_bits, poison, rounds_to_bf16};
use cwm_kernels::{
    AttentionShape, Precision, Scratch, Span, attention, attention_backward, reference,
};
use proptest::prelude::*;

/// Working memory for either precision, newly made.
fn scratches() -> [Scratch; 2] {
    [Precision::F32, Precision::Bf16].map(Scratch::new)
}

/// How far attention may be from its definition: rounding of sums in f32, or, where products may
/// run in bf16 and heads are wide enough for it, of their inputs to 8 bits of mantissa (2^-9 of
/// each, twice in a row, with everything of the order of 1).
fn tolerance(shape: AttentionShape, precision: Precision) -> f32 {
    if precision == Precision::Bf16 && rounds_to_bf16() && shape.head_dim >= 32 {
        1e-2
    } else {
        1e-5
    }
}

struct Forward {
    out: Vec<f32>,
    lse: Vec<f32>,
}

fn forward(case: &AttentionCase, scratch: &mut Scratch) -> Forward {
    let mut result = Forward {
        out: poison(case.q.len()),
        lse: poison(case.spans.len() * case.shape.n_heads),
    };
    let AttentionCase {
        q,
        k,
        v,
        spans,
        shape,
        ..
    } = case;
    attention(
        &mut result.out,
        &mut result.lse,
        q,
        k,
        v,
        spans,
        *shape,
        scratch,
    );
    result
}

fn check(case: &AttentionCase, scratch: &mut Scratch) {
    let tolerance = tolerance(case.shape, scratch.precision());
    let AttentionCase {
        q,
        k,
        v,
        dout,
        spans,
        shape,
    } = case;
    let got = forward(case, scratch);
    let mut want = Forward {
        out: poison(q.len()),
        lse: poison(got.lse.len()),
    };
    reference::attention(
        &mut want.out,
        &mut want.lse,
        q,
        k,
        v,
        spans,
        *shape,
        scratch,
    );
    assert_close("out", &got.out, &want.out, tolerance);
    assert_close("lse", &got.lse, &want.lse, tolerance);

    let gradients = || [poison(q.len()), poison(k.len()), poison(v.len())];
    let (mut got, mut wanted) = (gradients(), gradients());
    let [dq, dk, dv] = &mut got;
    attention_backward(
        dq, dk, dv, dout, &want.out, &want.lse, q, k, v, spans, *shape, scratch,
    );
    let [dq, dk, dv] = &mut wanted;
    reference::attention_backward(
        dq, dk, dv, dout, &want.out, &want.lse, q, k, v, spans, *shape, scratch,
    );
    for ((what, got), want) in ["dq", "dk", "dv"].into_iter().zip(&got).zip(&wanted) {
        assert_close(what, got, want, 3.0 * tolerance);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn attention_and_its_gradients_match_the_reference(
        seed: u64,
        t in 0usize..140,
        n_kv_heads in 1usize..3,
        group in 1usize..4,
        head_dim in 1usize..40,
    ) {
        let shape = AttentionShape { n_heads: n_kv_heads * group, n_kv_heads, head_dim };
        let case = AttentionCase::new(seed, t, shape);
        scratches().iter_mut().for_each(|scratch| check(&case, scratch));
    }
}

#[test]
fn long_sequences_cross_chunks_and_leave_gaps() {
    scratches().into_iter().for_each(check_long_sequences);
}

fn check_long_sequences(mut scratch: Scratch) {
    let shape = AttentionShape {
        n_heads: 2,
        n_kv_heads: 1,
        head_dim: 32,
    };
    let t = 700;
    let mut case = AttentionCase::new(1, t, shape);
    check(&case, &mut scratch);
    // A window of 100 with the first 30 rows always in view: the keys between are skipped.
    for (i, span) in case.spans.iter_mut().enumerate() {
        let start = (i as u32).saturating_sub(99);
        *span = Span {
            prefix_start: 0,
            prefix_end: start.min(30),
            start,
        };
    }
    check(&case, &mut scratch);
    // Packed documents of 190 rows, each seeing the end of its predecessor.
    for (i, span) in case.spans.iter_mut().enumerate() {
        let start = i as u32 / 190 * 190;
        *span = Span {
            prefix_start: start.saturating_sub(70),
            prefix_end: start,
            start,
        };
    }
    check(&case, &mut scratch);
    // One scratch serves a smaller call after a larger one.
    check(&AttentionCase::new(2, 1, shape), &mut scratch);
}

#[test]
fn hidden_keys_have_no_influence() {
    for head_dim in [8, 32] {
        let shape = AttentionShape {
            n_heads: 2,
            n_kv_heads: 1,
            head_dim,
        };
        scratches()
            .iter_mut()
            .for_each(|scratch| check_hidden_keys(shape, scratch));
    }
}

fn check_hidden_keys(shape: AttentionShape, scratch: &mut Scratch) {
    let mut case = AttentionCase::new(3, 90, shape);
    case.spans.iter_mut().enumerate().for_each(|(i, span)| {
        *span = Span {
            prefix_start: 2,
            prefix_end: (i as u32).clamp(2, 5),
            start: i as u32,
        };
    });
    case.spans[..5]
        .iter_mut()
        .for_each(|span| (span.prefix_start, span.prefix_end) = (0, 0));
    let before = forward(&case, scratch);
    // Row 50 is seen by itself alone.
    case.k[50 * shape.kv_width()..51 * shape.kv_width()].fill(3.0);
    case.v[50 * shape.kv_width()..51 * shape.kv_width()].fill(1e6);
    let after = forward(&case, scratch);
    for i in (0..90).filter(|&i| i != 50) {
        let row = i * shape.q_width()..(i + 1) * shape.q_width();
        assert_same_bits("row", &after.out[row.clone()], &before.out[row]);
    }
}

#[test]
fn a_row_does_not_depend_on_the_rows_that_follow() {
    for head_dim in [24, 33] {
        let shape = AttentionShape {
            n_heads: 2,
            n_kv_heads: 1,
            head_dim,
        };
        scratches()
            .iter_mut()
            .for_each(|scratch| check_rows_that_follow(shape, scratch));
    }
}

fn check_rows_that_follow(shape: AttentionShape, scratch: &mut Scratch) {
    let whole = AttentionCase::new(4, 420, shape);
    let all = forward(&whole, scratch);
    for t in [1, 47, 48, 100, 300, 419] {
        let part = AttentionCase {
            q: whole.q[..t * shape.q_width()].to_vec(),
            k: whole.k[..t * shape.kv_width()].to_vec(),
            v: whole.v[..t * shape.kv_width()].to_vec(),
            dout: Vec::new(),
            spans: whole.spans[..t].to_vec(),
            shape,
        };
        let some = forward(&part, scratch);
        assert_same_bits("out", &some.out, &all.out[..some.out.len()]);
    }
}
