//! The code that drives a GPU, against libraries that play the driver, the compiler, cuBLASLt and NCCL: what is
//! asked of them, in which order and with which numbers. Whether a GPU agrees only a GPU can tell.
//!
//! Libraries are found by the loader, which reads its search path once. So each test runs again in a
//! process of its own, with a search path that leads to the stand-ins.

#![cfg(target_os = "linux")]

use std::path::{Path, PathBuf};
use std::process::Command;

use cwm_cuda::driver::Card;
use cwm_cuda::{Argument, Cuda, Error, Gpu, Kernel, Launch, Number, Operand, Product, Source, ops};
use half::bf16;

/// Runs `body` in this test's second process; in the first, starts that with these settings.
fn with_stand_in(test: &str, settings: &[(&str, &str)], body: impl FnOnce()) {
    if std::env::var_os("STAND_IN_LOG").is_some() {
        return body();
    }
    let home = tempfile::tempdir().unwrap();
    match build(home.path()) {
        Ok(()) => run(test, settings, home.path()),
        Err(why) => eprintln!("SKIPPED: the stand-ins cannot be compiled: {why}"),
    }
}

/// Compiles the stand-ins into a folder, under the names by which they are looked for.
fn build(folder: &Path) -> Result<(), String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stand_in/stand_in.c");
    let library = folder.join("libcuda.so.1");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]);
    let output = compiler.arg(&library).arg(source).output();
    let output = output.map_err(|error| format!("cc: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    for name in ["libnvrtc.so.13", "libcublasLt.so.13", "libnccl.so.2"] {
        std::fs::copy(&library, folder.join(name)).unwrap();
    }
    Ok(())
}

fn run(test: &str, settings: &[(&str, &str)], folder: &Path) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("LD_LIBRARY_PATH", folder)
        .env("PYTHONPATH", folder.join("site"))
        .env("STAND_IN_LOG", folder.join("log"))
        .env("XDG_CACHE_HOME", folder.join("cache"))
        .envs(settings.iter().copied())
        .output()
        .unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (said(&output.stdout), said(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    assert!(out.contains("1 passed"), "{out}");
}

/// How often a line was noted.
fn noted(line: &str) -> usize {
    let log = std::fs::read_to_string(std::env::var_os("STAND_IN_LOG").unwrap());
    log.unwrap_or_default()
        .lines()
        .filter(|l| *l == line)
        .count()
}

static TEST: Source = Source {
    name: "test.cu",
    text: "#include \"common.cuh\"\n",
    kernels: &["fill", "fault", "missing"],
    macros: &[],
};

/// Runs a kernel of [`TEST`] in one block.
fn launch(
    gpu: &Gpu,
    name: &'static str,
    shared_bytes: u32,
    arguments: &[Argument],
) -> Result<(), Error> {
    let launch = Launch {
        grid: [1, 1, 1],
        threads: 32,
        shared_bytes,
    };
    // SAFETY: the arguments are those of the stand-in's kernels, and their memory is a live buffer's.
    unsafe {
        gpu.device()
            .launch(&Kernel::plain(&TEST, name), launch, arguments)
    }
}

fn numbers(count: usize) -> Vec<f32> {
    (0..count)
        .map(|i| (i * 37 % 101) as f32 / 16.0 - 3.0)
        .collect()
}

#[test]
fn a_gpu_is_described() {
    with_stand_in("a_gpu_is_described", &[], || {
        let card = Card::find(0).unwrap();
        assert_eq!(card.name, "Stand-in 40");
        assert_eq!(card.architecture.to_string(), "sm_90");
        assert_eq!(
            (card.memory, card.multiprocessors, card.driver),
            (1 << 30, 132, (13, 0))
        );
        let gpu = Cuda::open(0).unwrap();
        assert_eq!(gpu.device().name(), "Stand-in 40");
        assert_eq!(gpu.device().multiprocessors(), 132);
        let Err(Error::NoGpu {
            ordinal: 1,
            count: 1,
        }) = Cuda::open(1)
        else {
            panic!("there is only one");
        };
    });
}

#[test]
fn a_driver_before_cuda_12_is_refused() {
    let settings = [("STAND_IN_VERSION", "11040")];
    with_stand_in("a_driver_before_cuda_12_is_refused", &settings, || {
        let error = Cuda::open(0).unwrap_err().to_string();
        assert!(
            error.contains("supports CUDA 11.4, and 12.0 is needed"),
            "{error}"
        );
    });
}

#[test]
fn the_libraries_are_those_that_the_driver_can_serve() {
    let settings = [("STAND_IN_VERSION", "12040"), ("PATH", "")];
    with_stand_in(
        "the_libraries_are_those_that_the_driver_can_serve",
        &settings,
        || {
            let Err(Error::NoLibrary {
                library, package, ..
            }) = Cuda::open(0)
            else {
                panic!("only libraries of CUDA 13 are here");
            };
            assert_eq!((library, package), ("libnvrtc", "nvidia-cuda-nvrtc-cu12"));
        },
    );
}

#[test]
fn libraries_are_found_among_the_packages_of_python() {
    if Command::new("python3").arg("--version").output().is_err() {
        return eprintln!("SKIPPED: there is no python3");
    }
    const TEST: &str = "libraries_are_found_among_the_packages_of_python";
    with_stand_in(TEST, &[], || {
        let log = PathBuf::from(std::env::var_os("STAND_IN_LOG").unwrap());
        let folder = log.parent().unwrap();
        let packages = folder.join("site/nvidia/cublas/lib");
        std::fs::create_dir_all(&packages).unwrap();
        let hidden = packages.join("hidden");
        std::fs::rename(folder.join("libcublasLt.so.13"), &hidden).unwrap();
        let missing = Cuda::open(0).unwrap_err().to_string();
        assert!(
            missing.starts_with("libcublasLt was not found (libcublasLt.so.13: cannot open"),
            "{missing}"
        );
        assert!(
            missing.contains("`pip install nvidia-cublas` brings it"),
            "{missing}"
        );
        std::fs::rename(hidden, packages.join("libcublasLt.so.13")).unwrap();
        Cuda::open(0).unwrap();
    });
}

#[test]
fn a_driver_without_a_gpu_is_told_from_one_that_does_not_work() {
    const TEST: &str = "a_driver_without_a_gpu_is_told_from_one_that_does_not_work";
    for code in ["100", "34"] {
        with_stand_in(TEST, &[("STAND_IN_INIT", code)], || {
            match (
                std::env::var("STAND_IN_INIT").unwrap().as_str(),
                Cuda::open(0),
            ) {
                ("100", Err(Error::NoGpu { count: 0, .. })) => {}
                ("34", Err(Error::NoDriver { reason })) => {
                    assert_eq!(reason, "cuInit: CUDA_ERROR_STUB_LIBRARY: other");
                }
                (code, other) => panic!("{code}: {other:?}"),
            }
        });
    }
}

#[test]
fn an_old_gpu_is_refused() {
    with_stand_in(
        "an_old_gpu_is_refused",
        &[("STAND_IN_CAPABILITY", "75")],
        || {
            let error = Cuda::open(0).unwrap_err().to_string();
            assert!(
                error.starts_with("Stand-in 40 has compute capability 7.5"),
                "{error}"
            );
        },
    );
}

#[test]
fn memory_holds_what_was_written_when_the_call_returned() {
    with_stand_in(
        "memory_holds_what_was_written_when_the_call_returned",
        &[],
        || {
            let gpu = Cuda::open(0).unwrap();
            // More than three of the pieces in which it is copied.
            let mut values = numbers(4_000_001);
            let expected = values.clone();
            let buffer = gpu.upload(&values).unwrap();
            values.fill(0.0);
            assert_eq!(buffer.address() % 256, 0);
            let mut copied = gpu.zeros::<f32>(values.len()).unwrap();
            assert!(copied.read(7).unwrap().iter().all(|&value| value == 0.0));
            copied.copy_from(&buffer, 1_000).unwrap();
            // Another thread has no context of its own.
            let read = std::thread::scope(|scope| {
                scope.spawn(|| buffer.read(values.len())).join().unwrap()
            });
            assert!(read.unwrap() == expected);
            let copied = copied.read(1_001).unwrap();
            assert!(copied[..1_000] == expected[..1_000] && copied[1_000] == 0.0);
            assert!(gpu.upload::<f32>(&[]).unwrap().read(0).unwrap().is_empty());
        },
    );
}

#[test]
fn full_memory_is_told_with_what_is_free() {
    with_stand_in("full_memory_is_told_with_what_is_free", &[], || {
        let gpu = Cuda::open(0).unwrap();
        let (free, total) = gpu.device().memory().unwrap();
        // All but the workspace of products.
        assert_eq!((free, total), ((1 << 30) - (32 << 20), 1 << 30));
        match gpu.zeros::<f32>(1 << 28) {
            Err(Error::OutOfMemory {
                wanted, free: told, ..
            }) => {
                assert_eq!((wanted, told), (1 << 30, free));
            }
            other => panic!("{other:?}"),
        }
        drop(gpu.zeros::<f32>(1 << 27).unwrap());
        gpu.device().synchronize().unwrap();
        assert_eq!(gpu.device().memory().unwrap().0, free);
    });
}

#[test]
fn kernels_receive_their_arguments_and_are_compiled_once() {
    with_stand_in(
        "kernels_receive_their_arguments_and_are_compiled_once",
        &[],
        || {
            let values = numbers(5_000);
            for _ in 0..2 {
                let gpu = Cuda::open(0).unwrap();
                let x = gpu.upload(&values).unwrap();
                let mut out = gpu.zeros::<bf16>(values.len()).unwrap();
                ops::to_bf16(&mut out, &x, 3..4_999).unwrap();
                ops::to_bf16(&mut out, &x, 7..7).unwrap();
                let mut expected: Vec<bf16> =
                    values.iter().map(|&value| bf16::from_f32(value)).collect();
                for outside in [0, 1, 2, 4_999] {
                    expected[outside] = bf16::ZERO;
                }
                assert!(out.read(values.len()).unwrap() == expected);
                assert!(gpu.device().notes().is_empty());
            }
            assert_eq!(
                noted("convert.cu"),
                1,
                "the second device finds it in the cache"
            );

            let cache =
                PathBuf::from(std::env::var_os("XDG_CACHE_HOME").unwrap()).join("cwm/kernels");
            let kept: Vec<_> = std::fs::read_dir(&cache)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect();
            assert_eq!(kept.len(), 1);
            let whole = std::fs::read(&kept[0]).unwrap();
            std::fs::write(&kept[0], &whole[..whole.len() - 1]).unwrap();
            let gpu = Cuda::open(0).unwrap();
            let x = gpu.upload(&values).unwrap();
            ops::to_bf16(&mut gpu.zeros(values.len()).unwrap(), &x, 0..1).unwrap();
            assert_eq!(noted("convert.cu"), 2, "a damaged file is compiled again");
            assert_eq!(std::fs::read(&kept[0]).unwrap(), whole);
        },
    );
}

#[test]
fn a_cache_that_cannot_be_written_is_a_note() {
    let settings = [("XDG_CACHE_HOME", "/dev/null")];
    with_stand_in(
        "a_cache_that_cannot_be_written_is_a_note",
        &settings,
        || {
            let gpu = Cuda::open(0).unwrap();
            let mut buffer = gpu.zeros::<f32>(2).unwrap();
            assert!(gpu.device().notes().is_empty());
            let fill = |buffer: &mut cwm_cuda::Buffer<f32>, value, shared_bytes| {
                let arguments = [
                    Argument::Pointer(buffer.at(1)),
                    Argument::F32(value),
                    Argument::U32(1),
                ];
                launch(&gpu, "fill", shared_bytes, &arguments)
            };
            fill(&mut buffer, 2.5, 0).unwrap();
            assert_eq!(buffer.read(2).unwrap(), [0.0, 2.5]);
            let notes = gpu.device().notes();
            assert!(
                notes.len() == 1 && notes[0].contains("/dev/null/cwm/kernels"),
                "{notes:?}"
            );

            // Above 48 KiB the driver wants to be told before.
            fill(&mut buffer, 3.5, 200 << 10).unwrap();
            fill(&mut buffer, 4.5, 100 << 10).unwrap();
            assert_eq!(buffer.read(2).unwrap(), [0.0, 4.5]);
            assert!(fill(&mut buffer, 5.5, 300 << 10).is_err());
            let error = launch(&gpu, "missing", 0, &[]).unwrap_err().to_string();
            assert!(
                error.starts_with("cuModuleGetFunction failed: CUDA_ERROR_NOT_FOUND"),
                "{error}"
            );
            assert_eq!(noted("test.cu"), 1);
        },
    );
}

#[test]
fn a_fault_of_a_kernel_loses_the_gpu() {
    with_stand_in("a_fault_of_a_kernel_loses_the_gpu", &[], || {
        let gpu = Cuda::open(0).unwrap();
        let buffer = gpu.zeros::<f32>(2).unwrap();
        launch(&gpu, "fault", 0, &[]).unwrap();
        let error = buffer.read(2).unwrap_err();
        assert!(matches!(error, Error::Lost { .. }), "{error}");
        assert!(
            error
                .to_string()
                .contains("CUDA_ERROR_ILLEGAL_ADDRESS: a wrong address"),
            "{error}"
        );
        assert!(matches!(gpu.zeros::<f32>(1), Err(Error::Lost { .. })));
    });
}

#[test]
fn laps_are_measured_between_calls() {
    with_stand_in("laps_are_measured_between_calls", &[], || {
        let gpu = Cuda::open(0).unwrap();
        let mut buffer = gpu.zeros::<f32>(2).unwrap();
        assert_eq!(gpu.device().lap().unwrap(), 0.0);
        buffer.clear().unwrap();
        buffer.clear().unwrap();
        // Two pieces of work and the mark itself, a millisecond each.
        let milliseconds = |seconds: f64| (seconds * 1e3).round();
        assert_eq!(milliseconds(gpu.device().lap().unwrap()), 3.0);
        assert_eq!(milliseconds(gpu.device().lap().unwrap()), 1.0);
    });
}

/// `C = A·B`, or `C += A·B`, of these bf16 operands, by the definition.
fn expected(product: &Product, a: &[bf16], b: &[bf16], c: &[f32]) -> Vec<f32> {
    let at = |matrix: &[bf16], operand: &Operand, row: usize, column: usize| {
        let (row, column) = match operand.is_transposed {
            true => (column, row),
            false => (row, column),
        };
        matrix[row * operand.stride + column].to_f32()
    };
    let mut result = c.to_vec();
    for row in 0..product.m {
        for column in 0..product.n {
            let terms =
                (0..product.k).map(|i| at(a, &product.a, row, i) * at(b, &product.b, i, column));
            let place = &mut result[row * product.c_stride + column];
            let before = if product.accumulate { *place } else { 0.0 };
            *place = terms.sum::<f32>() + before;
        }
    }
    result
}

/// Small whole numbers and halves, so that sums are exact in any order and in bf16.
fn matrix(count: usize) -> Vec<bf16> {
    (0..count)
        .map(|i| bf16::from_f32((i * 7 % 5) as f32 / 2.0 - 1.0))
        .collect()
}

#[test]
fn products_are_those_of_the_definition() {
    with_stand_in("products_are_those_of_the_definition", &[], || {
        let gpu = Cuda::open(0).unwrap();
        let [m, n, k] = [3, 5, 4];
        // Where operands begin, in numbers: 16 bytes from an aligned place, and 2.
        for (offset, case) in [(0, 0), (8, 1), (1, 2)] {
            for flags in 0..16 {
                let flag = |bit: usize| flags >> bit & 1 == 1;
                let (a_rows, a_columns) = if flag(0) { (k, m) } else { (m, k) };
                let (b_rows, b_columns) = if flag(1) { (k, n) } else { (n, k) };
                let b_transposed = !flag(1);
                let (a_stride, b_stride, c_stride) = (a_columns + case, b_columns + 2, n + 3);
                let a = matrix(offset + a_rows * a_stride);
                let b = matrix(offset + b_rows * b_stride);
                let c: Vec<f32> = matrix(m * c_stride)
                    .iter()
                    .map(|value| value.to_f32())
                    .collect();
                let (a_gpu, b_gpu) = (gpu.upload(&a).unwrap(), gpu.upload(&b).unwrap());
                let c_gpu = gpu.upload(&c).unwrap();
                let c_half: Vec<bf16> = c.iter().map(|&value| bf16::from_f32(value)).collect();
                let c_half_gpu = gpu.upload(&c_half).unwrap();
                let product = Product {
                    m,
                    n,
                    k,
                    a: Operand {
                        address: a_gpu.at(offset),
                        stride: a_stride,
                        is_transposed: flag(0),
                    },
                    b: Operand {
                        address: b_gpu.at(offset),
                        stride: b_stride,
                        is_transposed: b_transposed,
                    },
                    c: if flag(2) {
                        c_gpu.address()
                    } else {
                        c_half_gpu.address()
                    },
                    c_stride,
                    c_number: if flag(2) { Number::F32 } else { Number::Bf16 },
                    accumulate: flag(3),
                };
                // SAFETY: all three matrices are in the buffers just made, by their sizes above.
                unsafe { gpu.device().multiply(&product).unwrap() };
                let found: Vec<f32> = match product.c_number {
                    Number::F32 => c_gpu.read(c.len()).unwrap(),
                    Number::Bf16 => {
                        let half = c_half_gpu.read(c.len()).unwrap();
                        half.iter().map(|value| value.to_f32()).collect()
                    }
                };
                assert_eq!(
                    found,
                    expected(&product, &a[offset..], &b[offset..], &c),
                    "{product:?}"
                );
            }
        }
        // Whether the product is added makes no difference to the algorithm.
        assert_eq!(noted("heuristic"), 3 * 8);
    });
}

#[test]
fn a_product_that_nothing_can_do_is_named() {
    with_stand_in("a_product_that_nothing_can_do_is_named", &[], || {
        let gpu = Cuda::open(0).unwrap();
        let (a, b) = (
            gpu.upload(&matrix(26)).unwrap(),
            gpu.upload(&matrix(26)).unwrap(),
        );
        let c = gpu.zeros::<f32>(4).unwrap();
        let operand = |address, stride| Operand {
            address,
            stride,
            is_transposed: false,
        };
        let mut product = Product {
            m: 2,
            n: 2,
            k: 13,
            a: operand(a.address(), 13),
            b: operand(b.address(), 2),
            c: c.address(),
            c_stride: 2,
            c_number: Number::F32,
            accumulate: false,
        };
        // SAFETY: all three matrices are in the buffers just made, by their sizes above.
        let error = unsafe { gpu.device().multiply(&product) }
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("no algorithm does this product") && error.contains("[2, 2, 13]"),
            "{error}"
        );
        product.m = 0;
        // SAFETY: nothing is multiplied.
        unsafe { gpu.device().multiply(&product).unwrap() };
    });
}

#[test]
fn shards_are_added_up_and_gathered_by_nccl() {
    const TEST: &str = "shards_are_added_up_and_gathered_by_nccl";
    with_stand_in(TEST, &[], || {
        let gpu = Cuda::open(0).unwrap();
        let rendezvous = gpu.device().ranks().unwrap();
        assert_eq!(rendezvous.protocol(), "NCCL 2.27.3");
        assert_eq!(
            rendezvous.place().unwrap(),
            "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"
        );
        let id = rendezvous.id().unwrap();
        assert_eq!((id.len(), id[0], id[127]), (128, 255, 128));
        // The middle one of three ranks; the first has nothing.
        let mut ranks = rendezvous.join(&id, 1, 3).unwrap();
        let shards = [2..2, 2..5, 5..7];
        let mut buffer = gpu.upload(&numbers(8)).unwrap();
        let mut expected = numbers(8);
        ranks.sum_shards(&mut buffer, &shards).unwrap();
        expected[2..5].iter_mut().for_each(|value| *value *= 3.0);
        assert_eq!(buffer.read(8).unwrap(), expected);
        ranks.gather_shards(&mut buffer, &shards).unwrap();
        expected[5..7].fill(200.0);
        assert_eq!(buffer.read(8).unwrap(), expected);
        assert_eq!((noted("group"), noted("destroyed")), (2, 0));
        drop(ranks);
        assert_eq!((noted("destroyed"), noted("aborted")), (1, 0));
    });
}

#[test]
fn ranks_that_do_not_meet_are_told_what_nccl_says() {
    const TEST: &str = "ranks_that_do_not_meet_are_told_what_nccl_says";
    with_stand_in(TEST, &[("STAND_IN_NCCL", "5")], || {
        let gpu = Cuda::open(0).unwrap();
        let rendezvous = gpu.device().ranks().unwrap();
        let id = rendezvous.id().unwrap();
        let error = rendezvous.join(&id, 0, 2).unwrap_err();
        assert!(matches!(error, Error::Call { .. }), "{error:?}");
        assert_eq!(
            error.to_string(),
            "ncclCommInitRank failed: invalid usage (the last error)"
        );
        let error = rendezvous.join(&id[1..], 0, 2).unwrap_err().to_string();
        assert!(error.contains("an id of this length cannot be"), "{error}");
    });
}

#[test]
fn a_lost_rank_ends_the_wait_for_it() {
    const TEST: &str = "a_lost_rank_ends_the_wait_for_it";
    with_stand_in(TEST, &[("STAND_IN_ASYNC", "6")], || {
        let gpu = Cuda::open(0).unwrap();
        let rendezvous = gpu.device().ranks().unwrap();
        let id = rendezvous.id().unwrap();
        let mut ranks = rendezvous.join(&id, 0, 2).unwrap();
        let mut buffer = gpu.upload(&numbers(8)).unwrap();
        let error = ranks.sum_shards(&mut buffer, &[0..8, 8..8]).unwrap_err();
        assert!(matches!(error, Error::Lost { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("remote process exited"), "{text}");
        drop(ranks);
        assert_eq!((noted("destroyed"), noted("aborted")), (0, 1));
    });
}

#[test]
fn without_nccl_a_gpu_works_alone() {
    const TEST: &str = "without_nccl_a_gpu_works_alone";
    // Without python3 no other folder is asked.
    with_stand_in(TEST, &[("PATH", "")], || {
        let log = PathBuf::from(std::env::var_os("STAND_IN_LOG").unwrap());
        std::fs::remove_file(log.with_file_name("libnccl.so.2")).unwrap();
        let gpu = Cuda::open(0).unwrap();
        match gpu.device().ranks() {
            Err(Error::NoLibrary {
                library, package, ..
            }) => assert_eq!((library, package), ("libnccl", "nvidia-nccl-cu13")),
            other => panic!("{other:?}"),
        }
    });
}
