//! Sources and what the compilers of this machine make of them; each test says what it skipped.

use std::io::Write;
use std::process::{Command, Stdio};

use cwm_data::scrub::Scrubber;
use cwm_data::text::compiler::{BytecodeCompiler, Compiler, Limits, Listing, Target};
use cwm_data::text::{CompilerPair, Content, Document, Harvest, Material, Origin, Skip};
use cwm_tracer::Interpreter;
use proptest::prelude::*;

const RUST: &str = "pub fn sum(xs: &[u32]) -> u32 {\n    let mut total = 0;\n    for x in xs {\n        total += x;\n    }\n    total\n}\n";
const C: &str = "#include <stddef.h>\nint sum(const int *xs, size_t n) {\n    int total = 0;\n    for (size_t i = 0; i < n; i++)\n        total += xs[i];\n    return total;\n}\n";

fn source(target: Target) -> &'static str {
    if target.language() == "rust" { RUST } else { C }
}

fn material(path: &str) -> Material {
    Material {
        licence: "MIT OR Apache-2.0".into(),
        origin: Origin {
            project: "sums".into(),
            version: "1".into(),
            path: path.into(),
        },
    }
}

fn pair(document: &Document) -> &CompilerPair {
    match &document.content {
        Content::CompilerPair(pair) => pair,
        other => panic!("no pair but {other:?}"),
    }
}

/// The compilers that there are; others are named.
fn compilers() -> Vec<Compiler> {
    let found = Target::ALL.map(|target| (target, Compiler::find(target)));
    for (target, compiler) in &found {
        if compiler.is_none() {
            eprintln!("skipped: there is no `{}` for {target:?}", target.program());
        }
    }
    found
        .into_iter()
        .filter_map(|(_, compiler)| compiler)
        .collect()
}

fn compile(compiler: &Compiler, source: &str) -> Result<Document, Skip> {
    let path = format!("sum.{}", compiler.target().extension());
    compiler.pair(
        source,
        &material(&path),
        &Limits::default(),
        &Scrubber::default(),
    )
}

#[test]
fn each_compiler_gives_the_same_pair_every_time_and_it_is_read_back() {
    for compiler in compilers() {
        let target = compiler.target();
        let document = compile(&compiler, source(target)).expect("it compiles");
        let found = pair(&document);
        assert_eq!(found.source, source(target));
        assert!(found.output.contains("sum"), "{}", found.output);
        assert_eq!(CompilerPair::parse(&document.render()).as_ref(), Ok(found));
        assert_eq!(compile(&compiler, source(target)).as_ref(), Ok(&document));
        let ending = format!("sum.{}:{}", target.extension(), target.output());
        assert!(document.id.ends_with(&ending), "{}", document.id);
    }
}

/// Whether a program accepts a text.
fn accepts(program: &str, arguments: &[&str], text: &str) -> Option<bool> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut input = child.stdin.take()?;
    let _ = input.write_all(text.as_bytes());
    drop(input);
    Some(child.wait().ok()?.success())
}

/// The first number behind `LLVM version` in what a program says.
fn llvm_version(program: &str, argument: &str) -> Option<u32> {
    let output = Command::new(program).arg(argument).output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    let (_, rest) = said.split_once("LLVM version")?;
    let digits = rest.trim_start_matches([':', ' ']);
    digits.split('.').next()?.parse().ok()
}

#[test]
fn translations_are_programs_themselves() {
    for compiler in compilers() {
        let target = compiler.target();
        let document = compile(&compiler, source(target)).expect("it compiles");
        let output = &pair(&document).output;
        let accepted = if target.output() == "asm" {
            let arguments = ["-c", "-x", "assembler", "-o", "/dev/null", "-"];
            accepts("gcc", &arguments, output)
        } else {
            let made_by = match target {
                Target::RustLlvm => llvm_version("rustc", "-vV"),
                _ => llvm_version("llc", "--version"),
            };
            // An older LLVM does not read what a newer one writes.
            let is_new = llvm_version("llc", "--version") >= made_by;
            is_new
                .then(|| accepts("llc", &["-o", "/dev/null", "-"], output))
                .flatten()
        };
        match accepted {
            Some(accepted) => assert!(accepted, "{output}"),
            None => eprintln!("skipped: nothing here reads the output of {target:?}"),
        }
    }
}

#[test]
fn what_cannot_be_used_is_told_apart() {
    for compiler in compilers() {
        let is_rust = compiler.target().language() == "rust";
        let cases: &[(&str, Skip)] = if is_rust {
            &[
                ("pub fn f() { x }", Skip::DoesNotCompile),
                ("pub fn f<T>(x: T) -> T { x }", Skip::Empty),
                (
                    "pub const A: &str = include_str!(\"/etc/passwd\");",
                    Skip::ReadsFiles,
                ),
                (
                    "pub const A: Option<&str> = option_env!(\"HOME\");",
                    Skip::ReadsFiles,
                ),
            ]
        } else {
            &[
                ("int f(void) { return x; }", Skip::DoesNotCompile),
                ("int x;", Skip::Empty),
                ("#include \"/etc/passwd\"\n", Skip::ReadsFiles),
                ("#inc\\\nlude </etc/passwd>\n", Skip::ReadsFiles),
            ]
        };
        for (source, reason) in cases {
            assert_eq!(compile(&compiler, source), Err(*reason), "{source}");
        }
        let small = Limits {
            source_bytes: 10,
            ..Limits::default()
        };
        let scrubber = Scrubber::default();
        let document = compiler.pair(RUST, &material(""), &small, &scrubber);
        assert_eq!(document, Err(Skip::TooLarge));
    }
}

#[test]
fn secrets_do_not_reach_the_compiler() {
    let Some(compiler) = Compiler::find(Target::RustLlvm) else {
        eprintln!("skipped: there is no `rustc`");
        return;
    };
    let source =
        "pub fn f() -> &'static str {\n    let password = \"hunter2hunter\";\n    password\n}\n";
    let document = compile(&compiler, source).expect("it compiles");
    let found = pair(&document);
    assert!(
        found.source.contains("\"REDACTED_PASSWORD\""),
        "{}",
        found.source
    );
    assert!(
        found.output.contains("REDACTED_PASSWORD"),
        "{}",
        found.output
    );
    assert!(!document.render().contains("hunter2"));
}

const PYTHON: &str = r#"
import functools

class A:
    @functools.lru_cache(
        None)
    def f(self, x):
        """Doc (with parens)."""
        try:
            for i in range(x):
                if i in {'a', 'bb', ' (c) '}:
                    print(lambda: i, -1.5, (1,), b'x', f"{x!r:>{i}}")
        except ValueError as e:
            return [y for y in e.args if y]

async def g(*args, **kw):
    async with args[0] as y:
        await y
    def inner():
        return y, ''
    return inner, kw['a b'], """two
lines"""

def g2(): yield 1
"#;

fn bytecode(interpreter: &Interpreter, source: &str) -> Harvest {
    let mut compiler = BytecodeCompiler::start(interpreter).expect("it starts");
    let limits = Limits::default();
    let scrubber = Scrubber::default();
    let harvest = compiler.pairs(source, &material("m.py"), &limits, &scrubber);
    harvest.expect("it answers")
}

fn interpreter() -> Option<Interpreter> {
    let found = Interpreter::find(None).ok();
    if found.is_none() {
        eprintln!("skipped: there is no Python 3.8 or later on the PATH");
    }
    found
}

#[test]
fn functions_become_listings_that_are_read_back() {
    let Some(interpreter) = interpreter() else {
        return;
    };
    let harvest = bytecode(&interpreter, PYTHON);
    let names: Vec<_> = harvest
        .documents
        .iter()
        .map(|d| d.id.rsplit(':').next())
        .collect();
    let wanted = ["A.f", "g", "g.<locals>.inner", "g2"];
    assert_eq!(names, wanted.map(Some));
    for document in &harvest.documents {
        let found = pair(document);
        assert_eq!(CompilerPair::parse(&document.render()).as_ref(), Ok(found));
        let listing = Listing::parse(&found.output).expect("a listing");
        assert_eq!(listing.render(), found.output);
        assert!(listing.instructions.len() > 2);
        assert!(!found.output.contains("0x"), "{}", found.output);
        let has_return =
            |row: &&cwm_data::text::compiler::Instruction| row.operation.starts_with("RETURN");
        assert!(listing.instructions.iter().find(has_return).is_some());
        // Jumps lead to instructions.
        for row in &listing.instructions {
            if let Some(place) = row.text.strip_prefix("to ") {
                let place: usize = place.parse().expect("a number");
                assert!(place <= listing.instructions.len());
            }
        }
    }
    let first = &pair(&harvest.documents[0]).output;
    assert!(first.contains("frozenset({' (c) ', 'a', 'bb'})"), "{first}");
    assert!(
        pair(&harvest.documents[0])
            .source
            .starts_with("@functools.lru_cache(\n    None)\ndef f")
    );
    // Sets have another order in every process.
    assert_eq!(bytecode(&interpreter, PYTHON), harvest);
}

#[test]
fn modules_without_use_are_counted() {
    let Some(interpreter) = interpreter() else {
        return;
    };
    let reason = |source: &str| {
        let harvest = bytecode(&interpreter, source);
        assert!(harvest.documents.is_empty());
        harvest.skipped.iter().collect::<Vec<_>>()
    };
    assert_eq!(reason("x = 1\n"), [(Skip::Empty, 1)]);
    assert_eq!(reason("def f(:\n"), [(Skip::WrongLanguage, 1)]);
    assert_eq!(
        reason(&format!("x = {}1\n", "-".repeat(20_000))),
        [(Skip::WrongLanguage, 1)]
    );
    assert_eq!(reason(&"x = 1\n".repeat(9_000)), [(Skip::TooLarge, 1)]);
    let twice = bytecode(&interpreter, "def f(): pass\nclass A:\n    def f(): pass\n");
    assert_eq!(
        (twice.documents.len(), twice.skipped.of(Skip::Repeated)),
        (1, 1)
    );
}

proptest! {
    #[test]
    fn any_text_is_a_listing_or_refused(text in "( 1| -| 0|NOP| \\(.?\\)|handler: |to|goes| |\n|\\PC){0,30}") {
        if let Ok(listing) = Listing::parse(&text) {
            prop_assert_eq!(Listing::parse(&listing.render()), Ok(listing));
        }
        let _ = CompilerPair::parse(&text);
    }
}
