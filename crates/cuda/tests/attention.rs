//! Attention on the tensor cores' tiles, run by the emulator, beside its definition.

mod support;

use cwm_cuda::ops::{self, RowSums, Visible};
use cwm_cuda::{Gpu, Tiles};
use cwm_kernels::{AttentionShape, Scratch, Span, reference};
use half::bf16;
use support::{Random, alignment, close, open};

/// Documents of these lengths; the later half of each sees the first quarter of it and a window.
fn spans(lengths: &[usize]) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for &length in lengths {
        let first = spans.len() as u32;
        for row in 0..length as u32 {
            let quarter = length as u32 / 4;
            spans.push(match row * 2 > length as u32 {
                true => Span {
                    prefix_start: first,
                    prefix_end: first + quarter,
                    start: first + quarter.max(row.saturating_sub(70)),
                },
                false => Span::causal_from(first),
            });
        }
    }
    spans
}

/// What a row of queries, keys and values, and the gradient of what comes out, become: `out`, `lse`, `d_qkv`.
fn on_device(
    gpu: &Gpu,
    qkv: &[bf16],
    d_out: &[bf16],
    spans: &[Span],
    shape: AttentionShape,
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let rows = spans.len();
    let run = || {
        let visible = Visible::new(gpu, spans, &Tiles::new(spans))?;
        let qkv = gpu.upload(qkv)?;
        let d_out = gpu.upload(d_out)?;
        // Poisoned, so that what is not written shows.
        let poison = bf16::from_f32(1e30);
        let mut out = gpu.upload(&vec![poison; rows * shape.q_width()])?;
        let mut d_qkv = gpu.upload(&vec![poison; rows * ops::qkv_width(shape)])?;
        let mut sums = RowSums {
            lse: gpu.upload(&vec![1e30; rows * shape.n_heads])?,
            delta: gpu.upload(&vec![1e30; rows * shape.n_heads])?,
        };
        ops::attention(&mut out, &mut sums, &qkv, &visible, shape)?;
        ops::attention_backward(&mut d_qkv, &d_out, &out, &mut sums, &qkv, &visible, shape)?;
        let floats = |values: Vec<bf16>| values.into_iter().map(f32::from).collect();
        Ok::<_, cwm_cuda::Error>((
            floats(out.read(out.len())?),
            sums.lse.read(sums.lse.len())?,
            floats(d_qkv.read(d_qkv.len())?),
        ))
    };
    run().expect("the device works")
}

/// The definition's queries, keys and values out of rows of all three.
fn parts(qkv: &[f32], shape: AttentionShape) -> [Vec<f32>; 3] {
    let (q, kv) = (shape.q_width(), shape.kv_width());
    let part = |from: usize, width: usize| {
        let rows = qkv.chunks_exact(q + 2 * kv);
        rows.flat_map(|row| row[from..from + width].to_vec())
            .collect()
    };
    [part(0, q), part(q, kv), part(q + kv, kv)]
}

#[test]
fn attention_and_its_gradients_follow_the_definition() {
    let Some(gpu) = open() else { return };
    for (n_heads, n_kv_heads, head_dim, lengths) in [
        (2, 1, 16, &[1][..]),
        (4, 2, 32, &[100, 29, 64, 7]),
        (3, 3, 64, &[65]),
        (2, 1, 96, &[130, 1]),
        (2, 2, 128, &[64, 70]),
    ] {
        let shape = AttentionShape {
            n_heads,
            n_kv_heads,
            head_dim,
        };
        let spans = spans(lengths);
        let rows = spans.len();
        let mut random = Random::new(rows as u64);
        let qkv: Vec<bf16> = random.rounded(rows * ops::qkv_width(shape), 2.0);
        let d_out: Vec<bf16> = random.rounded(rows * shape.q_width(), 1.0);
        let (out, lse, d_qkv) = on_device(&gpu, &qkv, &d_out, &spans, shape);

        let floats = |values: &[bf16]| values.iter().map(|&x| f32::from(x)).collect::<Vec<_>>();
        let [q, k, v] = parts(&floats(&qkv), shape);
        let d_out = floats(&d_out);
        let mut scratch = Scratch::default();
        let mut wanted = vec![0.0; out.len()];
        let mut wanted_lse = vec![0.0; lse.len()];
        reference::attention(
            &mut wanted,
            &mut wanted_lse,
            &q,
            &k,
            &v,
            &spans,
            shape,
            &mut scratch,
        );
        let what = format!("{shape:?}, {lengths:?}");
        // Probabilities and what comes out are rounded to 8 bits, which errs by 2^-9 of each at most.
        close(&out, &wanted, 0.02, &format!("{what}: out"));
        close(&lse, &wanted_lse, 1e-4, &format!("{what}: log-sum-exp"));

        let [mut dq, mut dk, mut dv] = [q.clone(), k.clone(), v.clone()];
        reference::attention_backward(
            &mut dq,
            &mut dk,
            &mut dv,
            &d_out,
            &wanted,
            &wanted_lse,
            &q,
            &k,
            &v,
            &spans,
            shape,
            &mut scratch,
        );
        // A gradient is what is left of many rounded terms that cancel: single numbers err by more than the
        // whole does.
        let [found_q, found_k, found_v] = parts(&d_qkv, shape);
        for (found, wanted) in [(&found_q, &dq), (&found_k, &dk), (&found_v, &dv)] {
            let (cosine, ratio) = alignment(found, wanted);
            assert!(
                cosine > 0.9999 && (ratio - 1.0).abs() < 0.01,
                "{what}: {cosine} {ratio}"
            );
        }
        close(&found_q, &dq, 0.08, &format!("{what}: d_q"));
        close(&found_k, &dk, 0.08, &format!("{what}: d_k"));
        close(&found_v, &dv, 0.08, &format!("{what}: d_v"));
    }
}

#[test]
fn attention_has_the_same_bits_again() {
    let Some(gpu) = open() else { return };
    let shape = AttentionShape {
        n_heads: 2,
        n_kv_heads: 1,
        head_dim: 32,
    };
    let spans = spans(&[90, 50]);
    let mut random = Random::new(7);
    let qkv = random.rounded(spans.len() * ops::qkv_width(shape), 1.0);
    let d_out = random.rounded(spans.len() * shape.q_width(), 1.0);
    let first = on_device(&gpu, &qkv, &d_out, &spans, shape);
    assert_eq!(first, on_device(&gpu, &qkv, &d_out, &spans, shape));
}
