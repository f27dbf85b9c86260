//! Every kernel on the device at hand: beside its definition on fresh random numbers, and timed beside what
//! the device could do at best.
//!
//! This is what one runs first on a new kind of card. Comparisons use small odd shapes, since the
//! definition is slow; times use shapes of a model of 60 million parameters. The floor of a time is the
//! larger of the bytes that must move over the device's bandwidth and of the operations over its rate, both
//! measured here too, as a copy and a product of large matrices.

mod inference;
mod layers;
mod learning;

use half::bf16;

use crate::device::{Buffer, Element, Gpu, Number, Operand, Product};
use crate::error::Error;

/// How much is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Comparisons, and times of shapes so small that an emulator gets through.
    Small,
    /// What a card deserves.
    Full,
}

/// How one kernel did.
#[derive(Clone, Debug)]
pub struct Check {
    /// The operation.
    pub kernel: &'static str,
    /// The largest difference to the definition, in what the wanted numbers are on average (root mean square).
    pub error: f64,
    /// The largest difference that rounding explains.
    pub tolerance: f64,
    /// The shape that was timed.
    pub shape: String,
    /// Median seconds of a call.
    pub seconds: f64,
    /// Seconds that the device needs at best.
    pub floor: f64,
}

impl Check {
    /// Whether the kernel computes what it should. NaN is not right.
    pub fn is_right(&self) -> bool {
        self.error <= self.tolerance
    }
}

/// What the device does at best.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// Bytes read and written in a second.
    pub bandwidth: f64,
    /// Operations of bf16 products in a second.
    pub products: f64,
}

/// What came of all checks.
#[derive(Clone, Debug)]
pub struct Report {
    /// The device.
    pub device: String,
    /// What it does at best.
    pub rates: Rates,
    /// One for each operation.
    pub checks: Vec<Check>,
}

/// Checks every kernel on numbers that follow from `seed`.
///
/// # Errors
/// When a kernel does not compile, memory is full or the device is lost; a kernel that computes something
/// else is no error but a [`Check`] that is not right.
pub fn run(gpu: &Gpu, size: Size, seed: u64) -> Result<Report, Error> {
    let mut bench = Bench::new(gpu, size, seed)?;
    layers::run(&mut bench)?;
    learning::run(&mut bench)?;
    inference::run(&mut bench)?;
    Ok(Report {
        device: gpu.device().name(),
        rates: bench.rates,
        checks: bench.checks,
    })
}

/// What all checks share.
struct Bench<'a> {
    gpu: &'a Gpu,
    size: Size,
    rates: Rates,
    state: u64,
    checks: Vec<Check>,
}

/// How two lists of numbers differ.
struct Compared {
    error: f64,
    tolerance: f64,
}

/// What a timed call cannot do without.
#[derive(Clone, Copy, Default)]
struct Work {
    bytes: usize,
    operations: usize,
}

impl<'a> Bench<'a> {
    fn new(gpu: &'a Gpu, size: Size, seed: u64) -> Result<Self, Error> {
        let rates = Rates {
            bandwidth: 1.0,
            products: 1.0,
        };
        let mut bench = Self {
            gpu,
            size,
            rates,
            state: seed,
            checks: Vec::new(),
        };
        let n = bench.pick(1 << 10, 1 << 28);
        let from: Buffer<f32> = gpu.zeros(n)?;
        let mut to: Buffer<f32> = gpu.zeros(n)?;
        let seconds = bench.time(|| to.copy_from(&from, n))?;
        bench.rates.bandwidth = (2 * size_of::<f32>() * n) as f64 / seconds;
        drop((from, to));
        let n = bench.pick(32, 8192);
        let (a, b) = (bench.rounded(n * n)?, bench.rounded(n * n)?);
        let c: Buffer<bf16> = gpu.zeros(n * n)?;
        let seconds = bench.time(|| multiply(&a, &b, &c, [n, n, n]))?;
        bench.rates.products = (2 * n * n * n) as f64 / seconds;
        Ok(bench)
    }

    /// A number for the size of the checks.
    fn pick(&self, small: usize, full: usize) -> usize {
        match self.size {
            Size::Small => small,
            Size::Full => full,
        }
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Numbers within -1..1 that bf16 holds.
    fn numbers(&mut self, n: usize) -> Vec<f32> {
        let number = |bits: u64| ((bits >> 56) as f32 - 127.5) / 128.0;
        (0..n).map(|_| number(self.next())).collect()
    }

    /// Random numbers on the device.
    fn floats(&mut self, n: usize) -> Result<Buffer<f32>, Error> {
        let numbers = self.numbers(n);
        self.gpu.upload(&numbers)
    }

    /// The same in bf16.
    fn rounded(&mut self, n: usize) -> Result<Buffer<bf16>, Error> {
        let numbers = self.numbers(n);
        self.gpu.upload(&halves(&numbers))
    }

    /// Median seconds of a call, after one that compiles and touches memory.
    fn time(&self, mut work: impl FnMut() -> Result<(), Error>) -> Result<f64, Error> {
        work()?;
        let device = self.gpu.device();
        let mut laps = Vec::new();
        for _ in 0..self.pick(1, 15) {
            device.lap()?;
            work()?;
            laps.push(device.lap()?);
        }
        laps.sort_by(f64::total_cmp);
        Ok(laps[laps.len() / 2].max(f64::MIN_POSITIVE))
    }

    /// Notes how a kernel compared, with the time of a call that has to do at least `work`.
    fn note(
        &mut self,
        kernel: &'static str,
        compared: Compared,
        shape: String,
        work: Work,
        call: impl FnMut() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let seconds = self.time(call)?;
        let moved = work.bytes as f64 / self.rates.bandwidth;
        let computed = work.operations as f64 / self.rates.products;
        self.checks.push(Check {
            kernel,
            error: compared.error,
            tolerance: compared.tolerance,
            shape,
            seconds,
            floor: moved.max(computed),
        });
        Ok(())
    }
}

/// How much `found` differs from `wanted`, beside a tolerance.
fn compare(found: &[f32], wanted: &[f32], tolerance: f64) -> Compared {
    let squares: f64 = wanted.iter().map(|&x| f64::from(x).powi(2)).sum();
    let scale = (squares / wanted.len().max(1) as f64).sqrt().max(1e-9);
    let mut error = f64::from(u8::from(found.len() != wanted.len()));
    for (&found, &wanted) in found.iter().zip(wanted) {
        let size = scale.max(f64::from(wanted.abs()));
        let difference = f64::from((found - wanted).abs()) / size;
        // NaN stays, whatever follows.
        error = if difference > error || difference.is_nan() {
            difference
        } else {
            error
        };
    }
    Compared { error, tolerance }
}

/// The worse of several, each beside its own tolerance.
fn worst(all: impl IntoIterator<Item = Compared>) -> Compared {
    let none = Compared {
        error: 0.0,
        tolerance: f64::INFINITY,
    };
    let share = |compared: &Compared| compared.error / compared.tolerance;
    all.into_iter().fold(none, |worst, next| {
        match share(&next) >= share(&worst) || share(&next).is_nan() {
            true => next,
            false => worst,
        }
    })
}

fn halves(numbers: &[f32]) -> Vec<bf16> {
    numbers.iter().map(|&x| bf16::from_f32(x)).collect()
}

/// What a buffer holds, as f32.
fn read<T: Element + Into<f32>>(buffer: &Buffer<T>) -> Result<Vec<f32>, Error> {
    Ok(buffer
        .read(buffer.len())?
        .into_iter()
        .map(Into::into)
        .collect())
}

/// `c = a · bᵀ`, as every layer multiplies.
fn multiply(
    a: &Buffer<bf16>,
    b: &Buffer<bf16>,
    c: &Buffer<bf16>,
    [m, n, k]: [usize; 3],
) -> Result<(), Error> {
    assert!(
        a.len() >= m * k && b.len() >= n * k && c.len() >= m * n,
        "matrices too small"
    );
    let operand = |buffer: &Buffer<bf16>, is_transposed| Operand {
        address: buffer.address(),
        stride: k,
        is_transposed,
    };
    let product = Product {
        m,
        n,
        k,
        a: operand(a, false),
        b: operand(b, true),
        c: c.address(),
        c_stride: n,
        c_number: Number::Bf16,
        accumulate: false,
    };
    // SAFETY: the matrices were checked to be within their buffers, which are distinct.
    unsafe { a.gpu().device().multiply(&product) }
}
