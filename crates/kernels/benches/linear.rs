//! How fast packed weights are read: products of one row (decoding) and of many, in every format,
//! as JSON lines with GB/s of weights and GFLOP/s, wall clock, beside a loop that only reads memory.
//!
//! `cargo bench -p cwm-kernels --bench linear -- [--threads N] [--mib N]`. The matrices of a measurement are
//! together far larger than any cache, as a model's are, and are multiplied in turn; with fewer MiB
//! they stay in one, which shows what the products could do if memory were faster. The shapes are
//! those of a layer of 160M parameters; `read` is the bound that decoding is judged by.

use std::hint::black_box;
use std::time::Instant;

use cwm_kernels::{Linear, LinearScratch, Pool, Store, WeightFormat, cpu};

/// MiB of weights that are read in turn, unless asked for otherwise.
const MIB: usize = 320;

/// Passes over them; the median is reported.
const PASSES: usize = 9;

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (threads, bytes) = (number("--threads", cores), number("--mib", MIB) << 20);
    let pool = Pool::new(threads);
    println!(
        "{{\"op\": \"cpu\", \"level\": \"{}\", \"threads\": {threads}}}",
        cpu().level
    );
    read(&pool, bytes);
    for format in WeightFormat::ALL {
        for (n, k) in [
            (256, 1_024),
            (1_024, 1_024),
            (2_816, 1_024),
            (1_024, 2_816),
            (32_768, 1_024),
        ] {
            for m in [1, 128] {
                products(&pool, bytes, format, [n, k, m]);
            }
        }
    }
}

/// What the command line says after `name`.
fn number(name: &str, default: usize) -> usize {
    let given = std::env::args()
        .skip_while(|argument| argument != name)
        .nth(1);
    let number = |text: String| text.parse().ok().filter(|&n| n > 0);
    given.and_then(number).unwrap_or(default)
}

/// The bound: every thread adds up 64-bit words of large chunks in order.
fn read(pool: &Pool, bytes: usize) {
    let words = vec![1u64; bytes / 8];
    let chunk = (64 << 10) / 8;
    let seconds = median(|| {
        pool.run(words.len().div_ceil(chunk), &|index| {
            let part = &words[index * chunk..][..chunk];
            black_box(part.iter().fold(0u64, |sum, word| sum ^ word));
        });
    });
    let rate = bytes as f64 / seconds / 1e9;
    println!("{{\"op\": \"read\", \"gb_per_s\": {rate:.1}}}");
}

fn products(pool: &Pool, bytes: usize, format: WeightFormat, [n, k, m]: [usize; 3]) {
    let first = matrix(format, n, k, pool);
    let count = (bytes / first.n_bytes()).max(1);
    let count = if m > 1 { count.min(4) } else { count };
    let matrices = vec![first; count];
    let x: Vec<f32> = (0..m * k).map(|i| (i % 17) as f32 / 8.0 - 1.0).collect();
    let mut y = vec![0.0; m * n];
    let mut scratch = LinearScratch::default();
    let seconds = median(|| {
        for w in &matrices {
            w.apply(&mut y, &x, Store::Overwrite, pool, &mut scratch);
        }
    });
    let bytes = (count * matrices[0].n_bytes()) as f64;
    let flops = (2 * count * m * n * k) as f64;
    println!(
        "{{\"op\": \"linear\", \"format\": \"{format}\", \"m\": {m}, \"n\": {n}, \"k\": {k}, \
         \"gb_per_s\": {:.1}, \"gflop_per_s\": {:.1}, \"us_a_product\": {:.1}}}",
        bytes / seconds / 1e9,
        flops / seconds / 1e9,
        seconds / count as f64 * 1e6,
    );
}

fn matrix(format: WeightFormat, n: usize, k: usize, pool: &Pool) -> Linear {
    Linear::pack(format, n, k, pool, |row, out| {
        for (column, w) in out.iter_mut().enumerate() {
            *w = ((row * 31 + column * 7) % 23) as f32 / 11.0 - 1.0;
        }
    })
}

/// The median time of a pass, after one that is not counted.
fn median(mut pass: impl FnMut()) -> f64 {
    pass();
    let mut times: Vec<f64> = (0..PASSES)
        .map(|_| {
            let start = Instant::now();
            pass();
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[PASSES / 2]
}
