//! What inference computes with kernels of its own: products of few rows, and attention over pages.

use cwm_kernels::{AttentionShape, MatMut, MatRef, Scratch, Span, Store, reference};
use half::bf16;

use super::{Bench, Compared, Work, compare, halves, read, worst};
use crate::device::{Address, Buffer};
use crate::error::Error;
use crate::network::Target;
use crate::ops::{self, PAGE, PagedPass, Sequence};

/// Rounding to bf16 is off by 2⁻⁹ of a number at most.
const ROUNDED: f64 = 1.0 / 256.0;

pub(super) fn run(bench: &mut Bench<'_>) -> Result<(), Error> {
    embedding(bench)?;
    product(bench)?;
    attention(bench)
}

fn embedding(bench: &mut Bench<'_>) -> Result<(), Error> {
    let width = 40;
    let table = bench.numbers(3 * width);
    let device_table = bench.gpu.upload(&halves(&table))?;
    let sources = bench.gpu.upload(&[0, 2 * width as u32])?;
    let mut out = bench.gpu.upload(&vec![f32::NAN; width])?;
    ops::gather_sum_rounded(&mut out, &device_table, &sources, 2, 1, width)?;
    let pairs = table[..width].iter().zip(&table[2 * width..]);
    let wanted: Vec<f32> = pairs.map(|(a, b)| a + b).collect();
    let compared = compare(&read(&out)?, &wanted, 1e-6);

    let (rows, width) = (bench.pick(8, 4_096), bench.pick(40, 640));
    let table = bench.rounded(rows * width)?;
    let starts: Vec<u32> = (0..rows).map(|row| (row * width) as u32).collect();
    let starts = bench.gpu.upload(&starts)?;
    let mut out = bench.gpu.zeros(rows * width)?;
    let work = Work {
        bytes: rows * width * 6,
        operations: 0,
    };
    let shape = format!("{rows} x {width}");
    bench.note("gather_sum_rounded", compared, shape, work, || {
        ops::gather_sum_rounded(&mut out, &table, &starts, 1, rows, width)
    })
}

fn product(bench: &mut Bench<'_>) -> Result<(), Error> {
    let [m, n, k] = [70, 37, 136];
    let (x, weight) = (bench.numbers(m * k), bench.numbers(n * k));
    let (device_x, weights) = (
        bench.gpu.upload(&halves(&x))?,
        bench.gpu.upload(&halves(&weight))?,
    );
    let before = bench.numbers(m * n);
    let mut wanted = vec![0.0; m * n];
    let (left, right) = (MatRef::new(&x, m, k), MatRef::new(&weight, n, k).t());
    let target = MatMut::new(&mut wanted, m, n);
    reference::gemm(target, left, right, Store::Overwrite);
    let mut full = bench.gpu.upload(&vec![f32::NAN; m * n])?;
    let mut added = bench.gpu.upload(&before)?;
    let mut rounded = bench.gpu.upload(&vec![bf16::NAN; m * n])?;
    for target in [
        Target::Full(&mut full),
        Target::Add(&mut added),
        Target::Rounded(&mut rounded),
    ] {
        ops::linear(target, &device_x, &weights, 0..n * k, m, k)?;
    }
    let sums: Vec<f32> = wanted.iter().zip(&before).map(|(a, b)| a + b).collect();
    let compared = worst([
        compare(&read(&full)?, &wanted, 1e-4),
        compare(&read(&added)?, &sums, 1e-4),
        compare(&read(&rounded)?, &wanted, ROUNDED),
    ]);

    let [m, n, k] = [
        bench.pick(8, 64),
        bench.pick(48, 3_584),
        bench.pick(40, 640),
    ];
    let (x, weights) = (bench.rounded(m * k)?, bench.rounded(n * k)?);
    let mut out = bench.gpu.zeros(m * n)?;
    let work = Work {
        bytes: 2 * (m * k + n * k + m * n),
        operations: 2 * m * n * k,
    };
    bench.note("linear", compared, format!("{m} x {n} x {k}"), work, || {
        ops::linear(Target::Rounded(&mut out), &x, &weights, 0..n * k, m, k)
    })
}

fn attention(bench: &mut Bench<'_>) -> Result<(), Error> {
    let mut compared = Vec::new();
    for (head_dim, rows, window) in [(16, 1030, None), (64, 70, Some(33)), (128, 90, None)] {
        let shape = AttentionShape {
            n_heads: 4,
            n_kv_heads: 2,
            head_dim,
        };
        compared.push(compare_pages(bench, shape, rows, window)?);
    }

    let shape = AttentionShape {
        n_heads: bench.pick(2, 10),
        n_kv_heads: bench.pick(1, 5),
        head_dim: bench.pick(16, 64),
    };
    let (n_sequences, context) = (bench.pick(2, 64), bench.pick(100, 1_000));
    let len = ops::page_len(shape, 1);
    let n_pages = context.div_ceil(PAGE);
    let pages = bench.rounded(n_sequences * n_pages * len)?;
    let sequences: Vec<Sequence> = (0..n_sequences)
        .map(|index| Sequence {
            rows: 1,
            start: context - 1,
            first_page: 0,
            pages: addresses(&pages, len, index * n_pages..(index + 1) * n_pages),
        })
        .collect();
    let pass = PagedPass::new(bench.gpu, &sequences, shape)?;
    let qkv = bench.rounded(n_sequences * ops::qkv_width(shape))?;
    let mut out = bench.gpu.zeros(n_sequences * shape.q_width())?;
    let mut partial = bench.gpu.zeros(pass.partial_len(shape))?;
    let bytes = 2 * 2 * n_sequences * context * shape.kv_width();
    let work = Work {
        bytes,
        operations: 0,
    };
    let text = format!(
        "{n_sequences} tokens behind {context} x {} heads of {}",
        shape.n_heads, shape.head_dim
    );
    bench.note("paged_attention", worst(compared), text, work, || {
        // SAFETY: each page is `len` numbers of the buffer, all finite, and no two sequences share one.
        unsafe {
            ops::store_rows(&pass, &qkv, 0, shape)?;
            ops::paged_attention(&mut out, &mut partial, &qkv, &pass, 0, None, shape)
        }
    })
}

fn addresses(pages: &Buffer<bf16>, len: usize, which: std::ops::Range<usize>) -> Vec<Address> {
    which.map(|page| pages.at(page * len)).collect()
}

/// One sequence in two passes, whose pages are in the second of two layers and out of order.
fn compare_pages(
    bench: &mut Bench<'_>,
    shape: AttentionShape,
    rows: usize,
    window: Option<usize>,
) -> Result<Compared, Error> {
    let width = ops::qkv_width(shape);
    let all = bench.numbers(rows * width);
    let (len, n_pages) = (ops::page_len(shape, 2), rows.div_ceil(PAGE));
    let pages: Buffer<bf16> = bench.gpu.zeros(n_pages * len)?;
    let mut order = addresses(&pages, len, 0..n_pages);
    order.reverse();
    let mut found = Vec::new();
    let cut = rows / 3;
    for (start, end) in [(0, cut), (cut, rows)] {
        let first_page = window.map_or(0, |window| (start + 1).saturating_sub(window) / PAGE);
        let sequence = Sequence {
            rows: end - start,
            start,
            first_page,
            pages: order[first_page..end.div_ceil(PAGE)].to_vec(),
        };
        let pass = PagedPass::new(bench.gpu, &[sequence], shape)?;
        let qkv = bench
            .gpu
            .upload(&halves(&all[start * width..end * width]))?;
        let poison = vec![bf16::NAN; (end - start) * shape.q_width()];
        let mut out = bench.gpu.upload(&poison)?;
        let mut partial = bench.gpu.zeros(pass.partial_len(shape))?;
        // SAFETY: each page is `len` numbers of the buffer, all finite, for two layers.
        unsafe {
            ops::store_rows(&pass, &qkv, 1, shape)?;
            ops::paged_attention(&mut out, &mut partial, &qkv, &pass, 1, window, shape)?;
        }
        found.extend(read(&out)?);
    }

    let part = |from: usize, width_of: usize| -> Vec<f32> {
        let rows = all.chunks_exact(width);
        rows.flat_map(|row| &row[from..from + width_of])
            .copied()
            .collect()
    };
    let (q_width, kv_width) = (shape.q_width(), shape.kv_width());
    let (q, k) = (part(0, q_width), part(q_width, kv_width));
    let v = part(q_width + kv_width, kv_width);
    let oldest = |row: usize| window.map_or(0, |window| (row + 1).saturating_sub(window));
    let spans: Vec<Span> = (0..rows)
        .map(|row| Span::causal_from(oldest(row) as u32))
        .collect();
    let (mut wanted, mut lse) = (vec![0.0; q.len()], vec![0.0; rows * shape.n_heads]);
    let mut scratch = Scratch::default();
    reference::attention(
        &mut wanted,
        &mut lse,
        &q,
        &k,
        &v,
        &spans,
        shape,
        &mut scratch,
    );
    // Probabilities are rounded before they are multiplied. The first rows, which see few keys, are larger
    // than the average of all, and err by as much more.
    Ok(compare(&found, &wanted, 8.0 * ROUNDED))
}
