//! Kernels are cut out whole: what is cut parses, and holds the same definitions as the module.

use std::process::Command;

use cwm_data::scrub::Scrubber;
use cwm_data::text::kernel::KernelFinder;
use cwm_data::text::{Content, Document, Harvest, Kernel, Material, Origin, Skip};
use cwm_tracer::Interpreter;

const MODULE: &str = r#"# Kernels for the test, in the style of Triton.
import math
import torch
import triton
import triton.language as tl
from triton import jit as compiled

BLOCK = 64
SCALE: tl.constexpr = math.log2(BLOCK)
UNUSED = 3

def not_a_kernel(x):
    return x

@triton.jit
def _clamp(x, low):
    return tl.where(x < low, low, x)

@triton.autotune(configs=[triton.Config({"N": BLOCK})], key=["n"])
@triton.jit
def scale(x_ptr, out_ptr, n, N: tl.constexpr):
    """Multiplies by a constant.

    The rest of each row is left alone.
    """
    at = tl.program_id(0) * N + tl.arange(0, N)
    x = tl.load(x_ptr + at, mask=at < n)
    tl.store(out_ptr + at, _clamp(x * SCALE, 0.0), mask=at < n)

class Scale(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        out = torch.empty_like(x)
        grid = lambda meta: (triton.cdiv(x.numel(), meta["N"]),)
        scale[grid](x, out, x.numel())
        return out

if hasattr(tl, "dot"):
    @compiled
    def product(a, b):
        text = """
    kept
"""
        return tl.dot(a, b)
else:
    @compiled
    def product(a, b):
        return a * b

@compiled(do_not_specialize=["n"])
def lone(n):
    pass
"#;

fn material() -> Material {
    Material {
        licence: "MIT".into(),
        origin: Origin {
            project: "kernels".into(),
            version: "1".into(),
            path: "kernels/scale.py".into(),
        },
    }
}

fn interpreter() -> Option<Interpreter> {
    let found = Interpreter::find(None).ok();
    if found.is_none() {
        eprintln!("skipped: there is no Python 3.8 or later on the PATH");
    }
    found
}

fn found(source: &str) -> Option<Harvest> {
    let mut finder = KernelFinder::start(&interpreter()?).expect("it starts");
    let harvest = finder.kernels(source, &material(), 20_000, &Scrubber::default());
    Some(harvest.expect("it answers"))
}

fn kernel(document: &Document) -> &Kernel {
    match &document.content {
        Content::Kernel(kernel) => kernel,
        other => panic!("no kernel but {other:?}"),
    }
}

#[test]
fn kernels_are_found_with_what_they_need() {
    let Some(harvest) = found(MODULE) else { return };
    let kernels: Vec<&Kernel> = harvest.documents.iter().map(kernel).collect();
    let names: Vec<&str> = kernels.iter().map(|kernel| &*kernel.name).collect();
    // The text inside of the first `product` cannot keep its margin.
    assert_eq!(names, ["_clamp", "scale", "lone"]);
    let skipped: Vec<_> = harvest.skipped.iter().collect();
    assert_eq!(skipped, [(Skip::NotFaithful, 1), (Skip::Repeated, 1)]);
    assert_eq!(
        kernels[0].code,
        "import triton\nimport triton.language as tl\n\n\n\
         @triton.jit\ndef _clamp(x, low):\n    return tl.where(x < low, low, x)\n"
    );
    let scale = kernels[1];
    assert_eq!(
        scale.needs,
        ["BLOCK", "SCALE", "_clamp", "math", "tl", "triton"]
    );
    assert!(
        scale
            .docstring
            .starts_with("Multiplies by a constant.\n\nThe rest")
    );
    assert!(
        scale
            .launcher
            .starts_with("@staticmethod\ndef forward(ctx, x):\n    out = ")
    );
    assert!(
        !scale.code.contains("UNUSED") && !scale.code.contains("torch"),
        "{}",
        scale.code
    );
    assert_eq!(kernels[2].launcher, "");
    assert_eq!(
        harvest.documents[1].id,
        "kernel:kernels:1:kernels/scale.py:scale"
    );
}

/// Says whether each definition of the first text is one of the second, by the parser of the interpreter.
const COMPARE: &str = "import ast, sys
cut, module = (ast.parse(text) for text in sys.argv[1:])
known = {ast.dump(node) for node in ast.walk(module) if isinstance(node, ast.stmt)}
print(all(ast.dump(node) in known for node in cut.body))";

#[test]
fn what_is_cut_is_the_same_code() {
    let Some(interpreter) = interpreter() else {
        return;
    };
    let harvest = found(MODULE).expect("an interpreter");
    for document in &harvest.documents {
        let kernel = kernel(document);
        for cut in [&kernel.code, &kernel.launcher] {
            let arguments = ["-I", "-c", COMPARE, cut, MODULE];
            let output = Command::new(&interpreter.path).args(arguments).output();
            let said = output.expect("it runs").stdout;
            assert_eq!(String::from_utf8_lossy(&said).trim(), "True", "{cut}");
        }
    }
}

#[test]
fn renderings_are_read_back() {
    let Some(harvest) = found(MODULE) else { return };
    assert!(!harvest.documents.is_empty());
    for document in &harvest.documents {
        assert_eq!(
            Kernel::parse(&document.render()).as_ref(),
            Ok(kernel(document))
        );
        let json = serde_json::to_string(document).expect("JSON");
        assert_eq!(
            &serde_json::from_str::<Document>(&json).expect("JSON"),
            document
        );
    }
}

#[test]
fn modules_without_kernels_are_counted() {
    let long = format!("import triton\nx = '{}'\n", "x".repeat(30_000));
    for (source, reason) in [
        ("x = 1\n", Skip::Empty),
        ("import triton\ndef f(): pass\n", Skip::Empty),
        (
            "import numba\n@numba.jit\ndef f(): pass  # no triton\n",
            Skip::Empty,
        ),
        ("import triton\ndef f(:\n", Skip::WrongLanguage),
        (&long, Skip::TooLarge),
    ] {
        let Some(harvest) = found(source) else { return };
        assert_eq!(harvest, Harvest::nothing(reason), "{source:.60}");
    }
}
