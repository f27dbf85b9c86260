//! What a layer computes, and its gradients.

use cwm_kernels::{
    AttentionShape, Direction, MatMut, MatRef, RopeTable, Scratch, Span, Store, reference,
};
use half::bf16;

use super::{Bench, Compared, Work, compare, halves, multiply, read, worst};
use crate::device::{Buffer, Gpu};
use crate::error::Error;
use crate::ops::{self, RowSums, Visible};
use crate::tiles::Tiles;

/// Rounding to bf16 is off by 2⁻⁹ of a number at most.
const ROUNDED: f64 = 1.0 / 256.0;
const EPS: f32 = 1e-5;

pub(super) fn run(bench: &mut Bench<'_>) -> Result<(), Error> {
    product(bench)?;
    norm(bench)?;
    rotation(bench)?;
    activation(bench)?;
    attention(bench)
}

fn product(bench: &mut Bench<'_>) -> Result<(), Error> {
    let [m, n, k] = [37, 72, 104];
    let (a, b) = (bench.numbers(m * k), bench.numbers(n * k));
    let on_device = |gpu: &Gpu| -> Result<Vec<f32>, Error> {
        let c = gpu.upload(&vec![bf16::NAN; m * n])?;
        let [a, b] = [gpu.upload(&halves(&a))?, gpu.upload(&halves(&b))?];
        multiply(&a, &b, &c, [m, n, k])?;
        read(&c)
    };
    let found = on_device(bench.gpu)?;
    let mut wanted = vec![0.0; m * n];
    let (left, right) = (MatRef::new(&a, m, k), MatRef::new(&b, n, k).t());
    reference::gemm(
        MatMut::new(&mut wanted, m, n),
        left,
        right,
        Store::Overwrite,
    );
    let [m, n, k] = [
        bench.pick(40, 65_536),
        bench.pick(48, 3_584),
        bench.pick(40, 640),
    ];
    let (a, b) = (bench.rounded(m * k)?, bench.rounded(n * k)?);
    let c = bench.gpu.zeros(m * n)?;
    let work = Work {
        bytes: 2 * (m * k + n * k + m * n),
        operations: 2 * m * n * k,
    };
    bench.note(
        "product",
        compare(&found, &wanted, ROUNDED),
        format!("{m} x {n} x {k}"),
        work,
        || multiply(&a, &b, &c, [m, n, k]),
    )
}

fn norm(bench: &mut Bench<'_>) -> Result<(), Error> {
    let (rows, width) = (37, 104);
    let (x, weight) = (bench.numbers(rows * width), bench.numbers(width));
    let (d_out, before) = (bench.numbers(rows * width), bench.numbers(rows * width));
    let gpu = bench.gpu;
    let mut out = gpu.upload(&vec![bf16::NAN; rows * width])?;
    let mut inverse = gpu.upload(&vec![f32::NAN; rows])?;
    let (device_x, params) = (gpu.upload(&x)?, gpu.upload(&weight)?);
    ops::rms_norm(
        &mut out,
        &mut inverse,
        &device_x,
        &params,
        0..width,
        rows,
        EPS,
    )?;
    let mut wanted = vec![0.0; rows * width];
    reference::rms_norm(&mut wanted, &x, &weight, EPS);
    let forward = compare(&read(&out)?, &wanted, ROUNDED);

    let (mut dx, mut dw) = (before.clone(), vec![0.0; width]);
    let mut device_dx = gpu.upload(&before)?;
    let mut grads = gpu.zeros(width)?;
    let mut partial = gpu.zeros(ops::norm_partial_len(gpu, width))?;
    let device_d = gpu.upload(&halves(&d_out))?;
    ops::rms_norm_backward(
        &mut device_dx,
        &mut grads,
        &device_d,
        &device_x,
        &inverse,
        &params,
        0..width,
        rows,
        &mut partial,
    )?;
    reference::rms_norm_backward(&mut dx, &mut dw, &d_out, &x, &weight, EPS);
    let found = (read(&device_dx)?, read(&grads)?);
    let backward = worst([compare(&found.0, &dx, 1e-4), compare(&found.1, &dw, 1e-4)]);

    let (rows, width) = (bench.pick(8, 65_536), bench.pick(40, 640));
    let (x, d_out) = (bench.floats(rows * width)?, bench.rounded(rows * width)?);
    let params = bench.floats(width)?;
    let mut out = bench.gpu.zeros(rows * width)?;
    let mut inverse = bench.gpu.zeros(rows)?;
    let shape = format!("{rows} x {width}");
    let work = Work {
        bytes: rows * width * 6,
        operations: 0,
    };
    bench.note("rms_norm", forward, shape.clone(), work, || {
        ops::rms_norm(&mut out, &mut inverse, &x, &params, 0..width, rows, EPS)
    })?;
    let mut dx = bench.floats(rows * width)?;
    let mut grads = bench.gpu.zeros(width)?;
    let mut partial = bench.gpu.zeros(ops::norm_partial_len(bench.gpu, width))?;
    let work = Work {
        bytes: rows * width * 14,
        operations: 0,
    };
    bench.note("rms_norm_backward", backward, shape, work, || {
        ops::rms_norm_backward(
            &mut dx,
            &mut grads,
            &d_out,
            &x,
            &inverse,
            &params,
            0..width,
            rows,
            &mut partial,
        )
    })
}

fn rotation(bench: &mut Bench<'_>) -> Result<(), Error> {
    let (rows, n_heads, head_dim) = (bench.pick(16, 65_536), 15, 64);
    let width = 20 * head_dim;
    let table = RopeTable::new(&[0.5; 32], 64);
    let (mut cos, mut sin) = (Vec::new(), Vec::new());
    for position in 0..64 {
        let (of_cos, of_sin) = table.row(position);
        cos.extend_from_slice(of_cos);
        sin.extend_from_slice(of_sin);
    }
    let gpu = bench.gpu;
    let (cos, sin) = (gpu.upload(&cos)?, gpu.upload(&sin)?);
    let positions: Vec<u32> = (0..rows as u32).map(|row| row * 7 % 64).collect();
    let device_positions = gpu.upload(&positions)?;
    let compared_rows = 5;
    let x = bench.numbers(compared_rows * width);
    let mut device_x = gpu.upload(&halves(&x))?;
    let forward = Direction::Forward;
    ops::rope(
        &mut device_x,
        width,
        n_heads,
        head_dim,
        &device_positions,
        &cos,
        &sin,
        compared_rows,
        forward,
    )?;
    let mut wanted = x;
    for (row, &position) in wanted.chunks_exact_mut(width).zip(&positions) {
        let heads = &mut row[..n_heads * head_dim];
        reference::rope(heads, n_heads, head_dim, &[position], &table, forward);
    }
    let compared = compare(&read(&device_x)?, &wanted, ROUNDED);
    let mut x = bench.rounded(rows * width)?;
    let work = Work {
        bytes: rows * n_heads * head_dim * 4,
        operations: 0,
    };
    let shape = format!("{rows} x {n_heads} heads of {head_dim}");
    bench.note("rope", compared, shape, work, || {
        ops::rope(
            &mut x,
            width,
            n_heads,
            head_dim,
            &device_positions,
            &cos,
            &sin,
            rows,
            forward,
        )
    })
}

fn activation(bench: &mut Bench<'_>) -> Result<(), Error> {
    let inner = 104;
    let (gate_up, d_product) = (bench.numbers(2 * inner), bench.numbers(inner));
    let gpu = bench.gpu;
    let (device_in, device_d) = (
        gpu.upload(&halves(&gate_up))?,
        gpu.upload(&halves(&d_product))?,
    );
    let mut product = gpu.upload(&vec![bf16::NAN; inner])?;
    let mut d_gate_up = gpu.upload(&vec![bf16::NAN; 2 * inner])?;
    ops::swiglu(&mut product, &device_in, 1, inner)?;
    ops::swiglu_backward(&mut d_gate_up, &device_d, &device_in, 1, inner)?;
    let (gate, up) = gate_up.split_at(inner);
    let mut wanted = vec![0.0; inner];
    reference::swiglu(&mut wanted, gate, up);
    let forward = compare(&read(&product)?, &wanted, ROUNDED);
    let (mut d_gate, mut d_up) = (vec![0.0; inner], vec![0.0; inner]);
    reference::swiglu_backward(&mut d_gate, &mut d_up, &d_product, gate, up);
    let backward = compare(&read(&d_gate_up)?, &[d_gate, d_up].concat(), ROUNDED);

    let (rows, inner) = (bench.pick(8, 65_536), bench.pick(40, 1_792));
    let gate_up = bench.rounded(rows * 2 * inner)?;
    let d_product = bench.rounded(rows * inner)?;
    let mut product = bench.gpu.zeros(rows * inner)?;
    let mut d_gate_up = bench.gpu.zeros(rows * 2 * inner)?;
    let shape = format!("{rows} x {inner}");
    let work = |numbers: usize| Work {
        bytes: rows * inner * numbers * 2,
        operations: 0,
    };
    bench.note("swiglu", forward, shape.clone(), work(3), || {
        ops::swiglu(&mut product, &gate_up, rows, inner)
    })?;
    bench.note("swiglu_backward", backward, shape, work(5), || {
        ops::swiglu_backward(&mut d_gate_up, &d_product, &gate_up, rows, inner)
    })
}

/// Tensors of an attention, on the device.
struct Attention {
    qkv: Buffer<bf16>,
    d_out: Buffer<bf16>,
    out: Buffer<bf16>,
    d_qkv: Buffer<bf16>,
    sums: RowSums,
    visible: Visible,
    shape: AttentionShape,
}

impl Attention {
    fn new(
        gpu: &Gpu,
        qkv: Buffer<bf16>,
        d_out: Buffer<bf16>,
        spans: &[Span],
        shape: AttentionShape,
    ) -> Result<Self, Error> {
        let rows = spans.len();
        Ok(Self {
            out: gpu.upload(&vec![bf16::NAN; rows * shape.q_width()])?,
            d_qkv: gpu.upload(&vec![bf16::NAN; rows * ops::qkv_width(shape)])?,
            sums: RowSums {
                lse: gpu.zeros(rows * shape.n_heads)?,
                delta: gpu.zeros(rows * shape.n_heads)?,
            },
            visible: Visible::new(gpu, spans, &Tiles::new(spans))?,
            qkv,
            d_out,
            shape,
        })
    }

    fn forward(&mut self) -> Result<(), Error> {
        ops::attention(
            &mut self.out,
            &mut self.sums,
            &self.qkv,
            &self.visible,
            self.shape,
        )
    }

    fn backward(&mut self) -> Result<(), Error> {
        ops::attention_backward(
            &mut self.d_qkv,
            &self.d_out,
            &self.out,
            &mut self.sums,
            &self.qkv,
            &self.visible,
            self.shape,
        )
    }
}

/// Documents side by side, the last one with a prefix that only its later half sees beside itself.
fn documents(lengths: &[usize]) -> Vec<Span> {
    let mut spans = Vec::new();
    for &length in lengths {
        let first = spans.len() as u32;
        spans.extend(std::iter::repeat_n(Span::causal_from(first), length));
    }
    let last = lengths.last().copied().unwrap_or(0) as u32;
    let (end, half) = (spans.len() as u32, last / 2);
    for span in &mut spans[(end - half) as usize..] {
        span.prefix_start = end - last;
        span.prefix_end = end - last + last / 4;
        span.start = end - half;
    }
    spans
}

fn attention(bench: &mut Bench<'_>) -> Result<(), Error> {
    let mut compared = Vec::new();
    for head_dim in [32, 64, 128] {
        let shape = AttentionShape {
            n_heads: 2,
            n_kv_heads: 1,
            head_dim,
        };
        compared.push(compare_attention(bench, shape, &documents(&[65, 1, 90]))?);
    }
    let (forward, backward): (Vec<_>, Vec<_>) = compared.into_iter().unzip();

    let shape = AttentionShape {
        n_heads: bench.pick(2, 10),
        n_kv_heads: bench.pick(1, 5),
        head_dim: bench.pick(16, 64),
    };
    let length = bench.pick(64, 1_024);
    let n_documents = bench.pick(1, 64);
    let rows = length * n_documents;
    let spans = documents(&vec![length; n_documents]);
    let (qkv, d_out) = (
        bench.rounded(rows * ops::qkv_width(shape))?,
        bench.rounded(rows * shape.q_width())?,
    );
    let mut attention = Attention::new(bench.gpu, qkv, d_out, &spans, shape)?;
    // Half of a square is seen; two products forward, five back.
    let seen = n_documents * length * length / 2;
    let products = |n: usize| Work {
        bytes: 0,
        operations: n * 2 * seen * shape.head_dim * shape.n_heads,
    };
    let shape = format!(
        "{n_documents} x {length} x {} heads of {}",
        shape.n_heads, shape.head_dim
    );
    let call = || attention.forward();
    bench.note(
        "attention",
        worst(forward),
        shape.clone(),
        products(2),
        call,
    )?;
    let call = || attention.backward();
    bench.note(
        "attention_backward",
        worst(backward),
        shape,
        products(5),
        call,
    )
}

/// Forward and backward beside the definition.
fn compare_attention(
    bench: &mut Bench<'_>,
    shape: AttentionShape,
    spans: &[Span],
) -> Result<(Compared, Compared), Error> {
    let rows = spans.len();
    let [q, k, v] = [shape.q_width(), shape.kv_width(), shape.kv_width()]
        .map(|width| bench.numbers(rows * width));
    let d_out = bench.numbers(rows * shape.q_width());
    let mut qkv = Vec::new();
    for row in 0..rows {
        for (part, width) in [
            (&q, shape.q_width()),
            (&k, shape.kv_width()),
            (&v, shape.kv_width()),
        ] {
            qkv.extend_from_slice(&part[row * width..][..width]);
        }
    }
    let gpu = bench.gpu;
    let (device_qkv, device_d) = (gpu.upload(&halves(&qkv))?, gpu.upload(&halves(&d_out))?);
    let mut attention = Attention::new(gpu, device_qkv, device_d, spans, shape)?;
    attention.forward()?;
    attention.backward()?;

    let mut scratch = Scratch::default();
    let (mut out, mut lse) = (vec![0.0; q.len()], vec![0.0; rows * shape.n_heads]);
    reference::attention(&mut out, &mut lse, &q, &k, &v, spans, shape, &mut scratch);
    // Probabilities are rounded before they are multiplied.
    let forward = worst([
        compare(&read(&attention.out)?, &out, 4.0 * ROUNDED),
        compare(&read(&attention.sums.lse)?, &lse, 1e-3),
    ]);
    let (mut dq, mut dk, mut dv) = (q.clone(), k.clone(), v.clone());
    reference::attention_backward(
        &mut dq,
        &mut dk,
        &mut dv,
        &d_out,
        &out,
        &lse,
        &q,
        &k,
        &v,
        spans,
        shape,
        &mut scratch,
    );
    let mut wanted = Vec::new();
    for row in 0..rows {
        for (part, width) in [
            (&dq, shape.q_width()),
            (&dk, shape.kv_width()),
            (&dv, shape.kv_width()),
        ] {
            wanted.extend_from_slice(&part[row * width..][..width]);
        }
    }
    // What is left of many rounded terms that cancel.
    Ok((forward, compare(&read(&attention.d_qkv)?, &wanted, 0.1)))
}
