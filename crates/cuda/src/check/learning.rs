//! What learning adds: embeddings, the loss, updates.

use cwm_kernels::{AdamW, reference};
use half::bf16;

use super::{Bench, Work, compare, read, worst};
use crate::error::Error;
use crate::ops::{self, AdamWPart, MuonPart, MuonScratch, MuonSettings, SegmentLists, Segments};

pub(super) fn run(bench: &mut Bench<'_>) -> Result<(), Error> {
    rows(bench)?;
    loss(bench)?;
    squares(bench)?;
    adamw(bench)?;
    muon(bench)
}

fn rows(bench: &mut Bench<'_>) -> Result<(), Error> {
    let (n, width) = (bench.pick(150, 65_536), bench.pick(24, 640));
    let n_table = bench.pick(9, 2_048);
    let table = bench.numbers(n_table * width);
    let sources: Vec<u32> = (0..n)
        .map(|_| (bench.next() % n_table as u64) as u32 * width as u32)
        .collect();
    let gpu = bench.gpu;
    let (device_table, device_sources) = (gpu.upload(&table)?, gpu.upload(&sources)?);
    let mut out = gpu.zeros(n * width)?;
    ops::gather_sum(&mut out, &device_table, &device_sources, 1, n, width)?;
    let row = |&source: &u32| &table[source as usize..][..width];
    let wanted: Vec<f32> = sources.iter().flat_map(row).copied().collect();
    let gathered = compare(&read(&out)?, &wanted, 0.0);

    let pairs = sources.iter().zip(0u32..).map(|(&to, row)| (to, row));
    let segments = Segments::new(gpu, &SegmentLists::new(pairs))?;
    let mut sums = gpu.zeros(n_table * width)?;
    let mut partial = gpu.zeros(segments.partial_len(width))?;
    ops::segment_sum(&mut sums, &out, &segments, width, &mut partial)?;
    let mut wanted_sums = vec![0.0; n_table * width];
    for (&to, row) in sources.iter().zip(wanted.chunks_exact(width)) {
        reference::add(&mut wanted_sums[to as usize..][..width], row);
    }
    let summed = compare(&read(&sums)?, &wanted_sums, 1e-5);

    let shape = format!("{n} rows of {width}, {n_table} places");
    let work = Work {
        bytes: n * width * 8,
        operations: 0,
    };
    bench.note("gather_sum", gathered, shape.clone(), work, || {
        ops::gather_sum(&mut out, &device_table, &device_sources, 1, n, width)
    })?;
    let source = bench.floats(n * width)?;
    let work = Work {
        bytes: n * width * 4,
        operations: 0,
    };
    bench.note("segment_sum", summed, shape, work, || {
        ops::segment_sum(&mut sums, &source, &segments, width, &mut partial)
    })
}

fn loss(bench: &mut Bench<'_>) -> Result<(), Error> {
    let (rows, vocab) = (5, 133);
    let logits: Vec<f32> = bench
        .numbers(rows * vocab)
        .iter()
        .map(|x| x * 8.0)
        .collect();
    let ids: Vec<u32> = (0..rows as u32)
        .map(|row| row * 31 % vocab as u32)
        .collect();
    let weights = [1.0, 0.5, 0.0, 2.0, 1.0];
    let gpu = bench.gpu;
    let mut d_logits = gpu.upload(&vec![bf16::NAN; rows * vocab])?;
    let mut losses = gpu.upload(&vec![f32::NAN; rows])?;
    let mut correct = gpu.upload(&vec![7; rows])?;
    let device_logits = gpu.upload(&logits)?;
    let (device_ids, device_weights) = (gpu.upload(&ids)?, gpu.upload(&weights)?);
    ops::cross_entropy(
        &mut d_logits,
        &mut losses,
        &mut correct,
        &device_logits,
        &device_ids,
        &device_weights,
        0.5,
        rows,
        vocab,
    )?;
    let mut wanted = logits;
    let mut wanted_losses = Vec::new();
    for (row, logits) in wanted.chunks_exact_mut(vocab).enumerate() {
        let found = reference::cross_entropy(logits, &ids[row..=row], &weights[row..=row], 0.5);
        wanted_losses.push(found.loss_sum as f32);
    }
    let compared = worst([
        compare(&read(&d_logits)?, &wanted, 1.0 / 256.0),
        compare(&read(&losses)?, &wanted_losses, 1e-4),
    ]);

    let (rows, vocab) = (bench.pick(2, 16_384), bench.pick(40, 2_048));
    let logits = bench.floats(rows * vocab)?;
    let mut d_logits = bench.gpu.zeros(rows * vocab)?;
    let (ids, weights) = (bench.gpu.zeros(rows)?, bench.gpu.upload(&vec![1.0; rows])?);
    let (mut losses, mut correct) = (bench.gpu.zeros(rows)?, bench.gpu.zeros(rows)?);
    let work = Work {
        bytes: rows * vocab * 6,
        operations: 0,
    };
    bench.note(
        "cross_entropy",
        compared,
        format!("{rows} x {vocab}"),
        work,
        || {
            ops::cross_entropy(
                &mut d_logits,
                &mut losses,
                &mut correct,
                &logits,
                &ids,
                &weights,
                1.0,
                rows,
                vocab,
            )
        },
    )
}

fn squares(bench: &mut Bench<'_>) -> Result<(), Error> {
    let n = bench.pick(1_000, 1 << 26);
    let numbers = bench.numbers(n);
    let x = bench.gpu.upload(&numbers)?;
    let mut sums = bench.gpu.zeros(1)?;
    let mut partial = bench.gpu.zeros(ops::SUM_PARTIAL_LEN)?;
    ops::sum_of_squares(&mut sums, 0, &x, 0..n, &mut partial)?;
    let found = sums.read(1)?[0] as f32;
    let compared = compare(
        &[found],
        &[reference::sum_of_squares(&numbers) as f32],
        1e-6,
    );
    let work = Work {
        bytes: n * 4,
        operations: 0,
    };
    bench.note("sum_of_squares", compared, n.to_string(), work, || {
        ops::sum_of_squares(&mut sums, 0, &x, 0..n, &mut partial)
    })
}

fn adamw(bench: &mut Bench<'_>) -> Result<(), Error> {
    let n = bench.pick(1_000, 1 << 26);
    let settings = AdamW {
        lr: 1e-3,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.1,
    };
    let [mut params, mut first, mut second, grads] = [(); 4].map(|()| bench.numbers(n));
    second.iter_mut().for_each(|x| *x = x.abs());
    let gpu = bench.gpu;
    let mut on_device = [
        gpu.upload(&params)?,
        gpu.upload(&first)?,
        gpu.upload(&second)?,
    ];
    let device_grads = gpu.upload(&grads)?;
    let mut rounded = gpu.zeros(n)?;
    let part = AdamWPart {
        params: 0..n,
        first: 0,
        second: 0,
        ema: 0,
    };
    let [p, m, v] = &mut on_device;
    ops::adamw(
        p,
        m,
        v,
        &device_grads,
        &mut rounded,
        None,
        &part,
        &settings,
        3,
        0.5,
    )?;
    reference::adamw(
        &mut params,
        &mut first,
        &mut second,
        &grads,
        &settings,
        3,
        0.5,
    );
    let compared = worst([
        compare(&read(p)?, &params, 1e-6),
        compare(&read(m)?, &first, 1e-6),
        compare(&read(v)?, &second, 1e-6),
    ]);
    // Read four, write three and the rounded copy.
    let work = Work {
        bytes: n * (7 * 4 + 2),
        operations: 0,
    };
    bench.note("adamw", compared, n.to_string(), work, || {
        ops::adamw(
            p,
            m,
            v,
            &device_grads,
            &mut rounded,
            None,
            &part,
            &settings,
            3,
            0.5,
        )
    })
}

/// What Muon makes of a matrix has singular values near 1, whatever they were: the update of a matrix without
/// decay, divided by its rate, times its own transpose is near the identity.
fn muon(bench: &mut Bench<'_>) -> Result<(), Error> {
    let (rows, cols) = (bench.pick(16, 640), bench.pick(32, 1_792));
    let n = rows * cols;
    let gpu = bench.gpu;
    let settings = MuonSettings {
        lr: 1.0,
        weight_decay: 0.0,
        grad_scale: 1.0,
    };
    let part = MuonPart {
        params: 0..n,
        rows,
        cols,
        momentum: 0,
        ema: 0,
    };
    let mut scratch = MuonScratch::new(gpu, std::iter::once((rows, cols)))?;
    let (mut params, mut momentum) = (gpu.zeros(n)?, gpu.zeros(n)?);
    let (grads, mut rounded) = (bench.floats(n)?, gpu.zeros(n)?);
    ops::muon(
        &mut params,
        &mut momentum,
        &grads,
        &mut rounded,
        None,
        &part,
        &settings,
        &mut scratch,
    )?;
    let update = read(&params)?;
    let lengths: Vec<f32> = (update.chunks_exact(cols))
        .map(|row| reference::sum_of_squares(row) as f32)
        .collect();
    // Rows of an orthogonal matrix have length 1; the iteration stops at singular values of 0.7 to 1.2.
    let compared = compare(&lengths, &vec![1.0; rows], 0.55);
    let gram = rows.min(cols);
    let work = Work {
        bytes: 0,
        operations: 5 * 2 * (2 * gram * n + gram * gram * gram),
    };
    bench.note("muon", compared, format!("{rows} x {cols}"), work, || {
        ops::muon(
            &mut params,
            &mut momentum,
            &grads,
            &mut rounded,
            None,
            &part,
            &settings,
            &mut scratch,
        )
    })
}
