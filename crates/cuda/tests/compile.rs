//! Every kernel, in every variant that is to be checked, compiles for every generation of GPUs without
//! spilling a register; no GPU is needed for it.

mod nvrtc;

use cwm_cuda::driver::{Architecture, Compiler};
use cwm_cuda::kernel::SOURCES;
use cwm_cuda::{Error, Source};

const ARCHITECTURES: [Architecture; 3] = [
    Architecture { major: 8, minor: 0 },
    Architecture { major: 9, minor: 0 },
    Architecture {
        major: 10,
        minor: 0,
    },
];

/// What the hardware gives a thread.
const REGISTERS: u32 = 255;

#[test]
fn every_kernel_compiles_without_spills() {
    let Some(compiler) = nvrtc::compiler() else {
        return;
    };
    println!(
        "source and macros, architecture, kernel: registers, stack, spills, static shared memory"
    );
    for &source in SOURCES {
        for macros in source.variants() {
            for architecture in ARCHITECTURES {
                check(compiler, source, &macros, architecture);
            }
        }
    }
}

fn check(compiler: &Compiler, source: &Source, macros: &[u32], architecture: Architecture) {
    let compiled = compiler
        .compile(source, macros, architecture)
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(compiled.cubin.starts_with(b"\x7fELF"));
    let mut kernels: Vec<&str> = Vec::new();
    for usage in &compiled.usage {
        let line = format!(
            "{} {macros:?} {architecture} {}: {} {} {} {}",
            source.name,
            usage.kernel,
            usage.registers,
            usage.stack_bytes,
            usage.spill_bytes,
            usage.static_shared
        );
        println!("{line}");
        assert_eq!(usage.spill_bytes, 0, "registers are spilled: {line}");
        assert!((1..=REGISTERS).contains(&usage.registers), "{line}");
        kernels.push(&usage.kernel);
    }
    kernels.sort_unstable();
    let mut named = source.kernels.to_vec();
    named.sort_unstable();
    assert_eq!(
        kernels, named,
        "the kernels of {} are not those it names",
        source.name
    );
}

#[test]
fn an_error_names_the_line_of_the_source() {
    static WRONG: Source = Source {
        name: "wrong.cu",
        text: "#include \"common.cuh\"\n\nextern \"C\" __global__ void wrong(float* x) { x[0] = WIDTH + y; }\n",
        kernels: &["wrong"],
        macros: &[("WIDTH", &[3])],
    };
    let Some(compiler) = nvrtc::compiler() else {
        return;
    };
    let error = compiler
        .compile(&WRONG, &[3], ARCHITECTURES[0])
        .unwrap_err();
    let Error::Compile { log, .. } = &error else {
        panic!("{error}");
    };
    assert!(
        log.starts_with("wrong.cu(3): error: identifier \"y\""),
        "{log}"
    );
}

#[test]
fn an_architecture_that_the_compiler_does_not_know_is_an_error() {
    let Some(compiler) = nvrtc::compiler() else {
        return;
    };
    let unknown = Architecture { major: 7, minor: 7 };
    let error = compiler.compile(SOURCES[0], &SOURCES[0].variants()[0], unknown);
    let text = error.unwrap_err().to_string();
    assert!(text.contains("does not compile for sm_77"), "{text}");
    assert!(text.contains("--gpu-architecture"), "{text}");
}

#[test]
fn what_spills_is_seen() {
    static SPILLS: Source = Source {
        name: "spills.cu",
        text: "#include \"common.cuh\"\nextern \"C\" __global__ void __launch_bounds__(1024, 2) spills(float* x) {\n\
               float a[96];\n\
               #pragma unroll\nfor (int i = 0; i < 96; i++) a[i] = x[i * 1024 + threadIdx.x];\n\
               block_sync();\n\
               #pragma unroll\nfor (int i = 0; i < 96; i++) x[(95 - i) * 1024 + threadIdx.x] = a[i];\n}\n",
        kernels: &["spills"],
        macros: &[],
    };
    let Some(compiler) = nvrtc::compiler() else {
        return;
    };
    let compiled = compiler.compile(&SPILLS, &[], ARCHITECTURES[1]).unwrap();
    assert_eq!(compiled.usage.len(), 1);
    assert!(compiled.usage[0].spill_bytes > 0, "{:?}", compiled.usage);
}
