//! The emulated device itself: what it computes, and that it finds what is wrong with a kernel.

use cwm_cuda::ranks::DeviceRanks;
use cwm_cuda::{Argument, Emulator, Error, Gpu, Kernel, Launch, Number, Operand, Product, Source};
use half::bf16;

#[path = "../support/mod.rs"]
mod support;
use support::{halves, numbers, open};

static PROBES: Source = Source {
    name: "probes.cu",
    text: include_str!("probes.cu"),
    kernels: &[
        "multiply_tile",
        "shuffles",
        "block_values",
        "early_read",
        "mistake",
    ],
    macros: &[],
};

fn launch(
    gpu: &Gpu,
    name: &'static str,
    grid: [u32; 3],
    threads: u32,
    arguments: &[Argument],
) -> Result<(), Error> {
    let launch = Launch {
        grid,
        threads,
        shared_bytes: 4 * threads,
    };
    // SAFETY: the probes stay within buffers of the sizes that the tests pass, or within the guards.
    unsafe {
        gpu.device()
            .launch(&Kernel::plain(&PROBES, name), launch, arguments)
    }
}

#[test]
fn a_tile_product_has_the_numbers_of_a_plain_one() {
    let Some(gpu) = open() else { return };
    let (a, b, c) = (numbers(256, 1), numbers(128, 2), numbers(128, 3));
    let (device_a, device_b) = (
        gpu.upload(&halves(&a)).unwrap(),
        gpu.upload(&halves(&b)).unwrap(),
    );
    let device_c = gpu.upload(&c).unwrap();
    let arguments = [device_c.address(), device_a.address(), device_b.address()];
    launch(
        &gpu,
        "multiply_tile",
        [1, 1, 1],
        32,
        &arguments.map(Argument::Pointer),
    )
    .unwrap();
    let cell = |i: usize, j: usize| {
        c[8 * i + j] + (0..16).map(|k| a[16 * i + k] * b[8 * k + j]).sum::<f32>()
    };
    let expected: Vec<f32> = (0..128).map(|at| cell(at / 8, at % 8)).collect();
    assert_eq!(device_c.read(128).unwrap(), expected);
}

#[test]
fn shuffles_bring_the_values_of_other_lanes() {
    let Some(gpu) = open() else { return };
    let x = numbers(192, 4);
    let device_x = gpu.upload(&x).unwrap();
    let out = gpu.zeros::<f32>(4 * 192).unwrap();
    let arguments = [out.address(), device_x.address()].map(Argument::Pointer);
    launch(&gpu, "shuffles", [3, 1, 1], 64, &arguments).unwrap();
    for (at, found) in out.read(4 * 192).unwrap().chunks(4).enumerate() {
        let (first, lane) = (at / 32 * 32, at % 32);
        let down = if lane + 3 < 32 { lane + 3 } else { lane };
        let sum: f32 = x[first..first + 32].iter().sum();
        let expected = [
            x[first + (lane ^ 5)],
            x[first + down],
            x[first + at % 64 * 7 % 32],
            sum,
        ];
        assert_eq!(found, expected, "thread {at}");
    }
}

#[test]
fn a_block_shares_its_memory() {
    let Some(gpu) = open() else { return };
    let (blocks, threads) = (3, 96);
    let x = numbers(blocks * threads, 5);
    let device_x = gpu.upload(&x).unwrap();
    let out = gpu.zeros::<f32>(2 * x.len()).unwrap();
    let arguments = [out.address(), device_x.address()].map(Argument::Pointer);
    launch(&gpu, "block_values", [3, 1, 1], 96, &arguments).unwrap();
    for (at, found) in out.read(2 * x.len()).unwrap().chunks(2).enumerate() {
        let block = &x[at / threads * threads..][..threads];
        let expected = [block.iter().sum(), block[(at % threads + 33) % threads]];
        assert_eq!(found, expected, "thread {at}");
    }
}

#[test]
fn copies_arrive_when_they_are_waited_for() {
    let Some(gpu) = open() else { return };
    let x = numbers(128, 6);
    let device_x = gpu.upload(&x).unwrap();
    let out = gpu.zeros::<f32>(64).unwrap();
    let arguments = [out.address(), device_x.address()].map(Argument::Pointer);
    launch(&gpu, "early_read", [1, 1, 1], 32, &arguments).unwrap();
    for (lane, found) in out.read(64).unwrap().chunks(2).enumerate() {
        assert_eq!(found[0], x[4 * lane]);
        assert!(found[1].is_nan(), "lane {lane} has {} too early", found[1]);
    }
}

/// What a launch of `mistake` says, and what it wrote if it says nothing.
fn mistake(gpu: &Gpu, which: u32, threads: u32) -> Result<Vec<f32>, String> {
    // Its guards are spoiled on purpose, and a release would tell.
    let out = std::mem::ManuallyDrop::new(gpu.zeros::<f32>(32).unwrap());
    let arguments = [
        Argument::Pointer(out.address()),
        Argument::U32(which),
        Argument::Pointer(0),
    ];
    let result = launch(gpu, "mistake", [1, 1, 1], threads, &arguments);
    result.map_err(|error| error.to_string())?;
    Ok(out.read(32).unwrap())
}

#[test]
fn mistakes_are_reported_with_their_place() {
    let Some(gpu) = open() else { return };
    let expected = [
        (
            0,
            32,
            "thread 31: the block waits for ever: thread 0 at shuffle_xor, while thread 16 has returned",
        ),
        (
            1,
            32,
            "thread 16: the warp has diverged: this thread is at warp_sync (0), while others are at shuffle_xor (1)",
        ),
        (
            2,
            64,
            "the block waits for ever: thread 0 at block_sync, while thread 32 has returned",
        ),
        (3, 32, "thread 31: index 32 is outside its array, in line"),
        (4, 32, "a write beyond shared memory"),
        (5, 32, "is not aligned to 16 bytes, in line"),
        (6, 32, "thread 0: a null pointer is used in line"),
        (
            8,
            32,
            "mistake wrote 0 bytes after an allocation of 128 bytes",
        ),
    ];
    for (which, threads, wanted) in expected {
        let message = mistake(&gpu, which, threads).expect_err(wanted);
        assert!(
            message.contains(wanted) && message.contains("mistake"),
            "mistake {which}: {message}"
        );
        // A failed launch leaves nothing behind.
        assert!(mistake(&gpu, 100, 32).is_ok());
    }
}

#[test]
fn unset_shared_memory_and_a_missing_barrier_show_as_nan() {
    let Some(gpu) = open() else { return };
    for which in [7, 9] {
        let found = mistake(&gpu, which, 32).unwrap();
        assert!(found[0].is_nan(), "mistake {which}: {found:?}");
    }
}

#[test]
fn launches_that_cannot_be_are_refused() {
    let Some(gpu) = open() else { return };
    let buffer = gpu.zeros::<f32>(128).unwrap();
    let pointer = Argument::Pointer(buffer.address());
    let check = |grid, threads, arguments: &[Argument], wanted: &str| {
        let error = launch(&gpu, "shuffles", grid, threads, arguments).unwrap_err();
        assert!(error.to_string().contains(wanted), "{error}");
    };
    let [x, y, z] = [1, 1, 1];
    check([x, y, z], 48, &[pointer, pointer], "48 threads");
    check([x, y, z], 1056, &[pointer, pointer], "1056 threads");
    check([x, 0, z], 32, &[pointer, pointer], "a grid of 1 x 0 x 1");
    check(
        [x, y, z],
        32,
        &[pointer],
        "has 2 parameters, and 1 arguments were passed",
    );
    let word = [pointer, Argument::U32(1)];
    check(
        [x, y, z],
        32,
        &word,
        "parameter 1 of kernel shuffles is a pointer, and an unsigned was passed",
    );
    let stray = [pointer, Argument::Pointer(buffer.address() - 8)];
    check([x, y, z], 32, &stray, "which is in no allocation");
}

#[test]
fn memory_is_limited_and_fresh_memory_is_nan() {
    let Ok(gpu) = Emulator::with_memory(1000) else {
        return;
    };
    let device = gpu.device();
    let address = device.allocate(600).unwrap();
    let error = device.allocate(401).unwrap_err();
    assert!(matches!(
        error,
        Error::OutOfMemory {
            wanted: 401,
            free: 400,
            total: 1000
        }
    ));
    let mut bytes = [0; 600];
    // SAFETY: the range is that of the allocation, which is released once.
    unsafe {
        device.download(&mut bytes, address).unwrap();
        assert!(device.download(&mut bytes, address + 4).is_err());
        device.release(address, 600);
    }
    assert_eq!(bytes, [0xff; 600]);
    assert_eq!(device.memory().unwrap(), (1000, 1000));
}

#[test]
fn products_take_every_layout() {
    let Some(gpu) = open() else { return };
    let (m, n, k, gap) = (5, 7, 11, 3);
    let (a, b) = (numbers(m * k, 7), numbers(k * n, 8));
    // With a gap after each row, which must be neither read nor written.
    let spread = |values: &[f32], rows: usize, cols: usize, is_transposed: bool| {
        let (lines, width) = if is_transposed {
            (cols, rows)
        } else {
            (rows, cols)
        };
        let mut spread = vec![bf16::NAN; lines * (width + gap)];
        for (at, &value) in values.iter().enumerate() {
            let (i, j) = (at / cols, at % cols);
            let (line, column) = if is_transposed { (j, i) } else { (i, j) };
            spread[line * (width + gap) + column] = bf16::from_f32(value);
        }
        (gpu.upload(&spread).unwrap(), width + gap)
    };
    for layout in 0..8 {
        let [a_is, b_is, accumulate] = [1, 2, 4].map(|bit| layout & bit != 0);
        let (device_a, a_stride) = spread(&a, m, k, a_is);
        let (device_b, b_stride) = spread(&b, k, n, b_is);
        let c_stride = n + gap;
        let before = numbers(m * c_stride, 9);
        let device_c = gpu.upload(&before).unwrap();
        let narrow_c = gpu.upload(&halves(&before)).unwrap();
        let mut product = Product {
            m,
            n,
            k,
            a: Operand {
                address: device_a.address(),
                stride: a_stride,
                is_transposed: a_is,
            },
            b: Operand {
                address: device_b.address(),
                stride: b_stride,
                is_transposed: b_is,
            },
            c: device_c.address(),
            c_stride,
            c_number: Number::F32,
            accumulate,
        };
        // SAFETY: all three matrices are the buffers above, which were made for these shapes.
        unsafe {
            gpu.device().multiply(&product).unwrap();
            (product.c, product.c_number) = (narrow_c.address(), Number::Bf16);
            gpu.device().multiply(&product).unwrap();
        }
        let expected: Vec<f32> = (0..m * c_stride)
            .map(|at| {
                let (i, j) = (at / c_stride, at % c_stride);
                let sum: f32 = if j < n {
                    (0..k).map(|p| a[i * k + p] * b[p * n + j]).sum()
                } else {
                    0.0
                };
                sum + if accumulate || j >= n {
                    before[at]
                } else {
                    0.0
                }
            })
            .collect();
        assert_eq!(
            device_c.read(m * c_stride).unwrap(),
            expected,
            "layout {layout}"
        );
        assert_eq!(
            narrow_c.read(m * c_stride).unwrap(),
            halves(&expected),
            "layout {layout}"
        );
    }
}

/// Does `work` on three ranks, each with the number of its rank and its place among the others.
fn on_three_ranks(gpu: &Gpu, work: impl Fn(usize, Box<dyn DeviceRanks>) + Sync) {
    let id = gpu.device().ranks().unwrap().id().unwrap();
    std::thread::scope(|scope| {
        for rank in 0..3 {
            let (id, work) = (&id, &work);
            scope.spawn(move || {
                let rendezvous = gpu.device().ranks().unwrap();
                work(rank, rendezvous.join(id, rank, 3).unwrap());
            });
        }
    });
}

#[test]
fn ranks_add_up_shards_in_their_order_and_gather_them() {
    let Some(gpu) = open() else { return };
    on_three_ranks(&gpu, |rank, mut ranks| {
        // In another order the small number would be lost.
        let value = [1e9, -1e9, 1.0][rank];
        let mut buffer = gpu.upload(&[value; 6]).unwrap();
        let shards = [1..3, 3..3, 3..5];
        ranks.sum_shards(&mut buffer, &shards).unwrap();
        let own = shards[rank].clone();
        let found = buffer.read(6).unwrap();
        assert!(found[own].iter().all(|&sum| sum == 1.0), "{found:?}");
        assert_eq!([found[0], found[5]], [value; 2]);
        ranks.gather_shards(&mut buffer, &shards).unwrap();
        let expected = [value, 1.0, 1.0, 1.0, 1.0, value];
        assert_eq!(buffer.read(6).unwrap(), expected);
    });
}

#[test]
fn a_rank_that_leaves_is_told_of_to_those_that_wait() {
    let Some(gpu) = open() else { return };
    on_three_ranks(&gpu, |rank, mut ranks| {
        if rank == 1 {
            return;
        }
        let mut buffer = gpu.zeros(3).unwrap();
        let error = ranks.sum_shards(&mut buffer, &[0..1, 1..2, 2..3]);
        let error = error.unwrap_err();
        assert!(matches!(error, Error::Lost { .. }), "{error}");
    });
}
