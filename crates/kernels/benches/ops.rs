//! Time of attention and of the elementwise operations on one thread, as JSON lines: median and
//! best of repeated runs, per element or per floating-point operation.
//!
//! `cargo bench -p cwm-kernels --bench ops`. Sizes are those of a training step of a small model:
//! 600 rows of width 384, a vocabulary of 1024.

mod timing;

use std::hint::black_box;

use cwm_kernels::*;
use timing::{seconds, values};

fn main() {
    let (t, d, f, v) = (600, 384, 1024, 1024);
    let (x, w, g) = (values(t * d), values(d), values(t * d));
    let (gate, up, wide) = (values(t * f), values(t * f), values(t * f));
    let mut out = vec![0.0; t * d];
    let mut wide_out = [vec![0.0; t * f], vec![0.0; t * f]];
    let (mut dx, mut dw) = (vec![0.0; t * d], vec![0.0; d]);

    per_element("rms_norm", t * d, || rms_norm(&mut out, &x, &w, 1e-5));
    per_element("rms_norm_backward", t * d, || {
        rms_norm_backward(&mut dx, &mut dw, &g, &x, &w, 1e-5);
    });
    let [a, b] = &mut wide_out;
    per_element("swiglu", t * f, || swiglu(a, &gate, &up));
    per_element("swiglu_backward", t * f, || {
        swiglu_backward(a, b, &wide, &gate, &up)
    });
    let table = RopeTable::new(&[0.5; 32], t);
    let positions: Vec<u32> = (0..t as u32).collect();
    per_element("rope", t * d, || {
        rope(&mut out, 6, 64, &positions, &table, Direction::Forward);
    });
    let (mut logits, weights) = (values(t * v), vec![1.0; t]);
    per_element("cross_entropy", t * v, || {
        black_box(cross_entropy(&mut logits, &positions, &weights, 1.0));
    });
    let settings = AdamW {
        lr: 1e-4,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.1,
    };
    let [mut p, mut m, mut s] = [values(1 << 20), vec![0.0; 1 << 20], vec![0.0; 1 << 20]];
    let grads = values(1 << 20);
    per_element("adamw", 1 << 20, || {
        adamw(&mut p, &mut m, &mut s, &grads, &settings, 3, 1.0)
    });
    for (what, window) in [("causal", t), ("window 128, prefix 64", 128)] {
        measure_attention(t, what, window);
    }
}

/// Causal attention of 6 query and 2 key/value heads of width 64 over a window. The rate counts
/// only the products of visible pairs.
fn measure_attention(t: usize, what: &str, window: usize) {
    let shape = AttentionShape {
        n_heads: 6,
        n_kv_heads: 2,
        head_dim: 64,
    };
    let spans: Vec<Span> = (0..t)
        .map(|i| {
            let start = (i + 1).saturating_sub(window);
            Span {
                prefix_start: 0,
                prefix_end: start.min(64) as u32,
                start: start as u32,
            }
        })
        .collect();
    let pairs: usize = (0..t)
        .flat_map(|i| spans[i].ranges(i))
        .map(|range| range.len())
        .sum();
    let product = (2 * pairs * shape.q_width()) as f64;
    let (q, dout) = (values(t * shape.q_width()), values(t * shape.q_width()));
    let (k, v) = (values(t * shape.kv_width()), values(t * shape.kv_width()));
    let (mut out, mut lse) = (vec![0.0; q.len()], vec![0.0; t * shape.n_heads]);
    let mut scratch = Scratch::new(Precision::Bf16);
    let [median, best] = seconds(1, || {
        attention(&mut out, &mut lse, &q, &k, &v, &spans, shape, &mut scratch);
    })
    .map(|s| 2.0 * product / s / 1e9);
    report(&format!("attention ({what})"), "gflops", median, best);
    let (mut dq, mut dk, mut dv) = (q.clone(), k.clone(), v.clone());
    let [median, best] = seconds(1, || {
        attention_backward(
            &mut dq,
            &mut dk,
            &mut dv,
            &dout,
            &out,
            &lse,
            &q,
            &k,
            &v,
            &spans,
            shape,
            &mut scratch,
        );
    })
    .map(|s| 5.0 * product / s / 1e9);
    report(
        &format!("attention_backward ({what})"),
        "gflops",
        median,
        best,
    );
}

fn per_element(what: &str, elements: usize, run: impl FnMut()) {
    let batch = 500_000usize.div_ceil(elements);
    let [median, best] = seconds(batch, run).map(|s| s * 1e9 / elements as f64);
    report(what, "ns_per_element", median, best);
}

fn report(what: &str, unit: &str, median: f64, best: f64) {
    println!(
        "{{\"op\": \"{what}\", \"unit\": \"{unit}\", \"median\": {median:.3}, \"best\": {best:.3}}}"
    );
}
