//! Compilers of Rust and C that are installed.

use std::process::{Command, Stdio};

use super::super::{Content, Document, Material, Skip};
use super::CompilerPair;
use super::process::{Failure, Limits, run};
use crate::scrub::Scrubber;

/// What is made from what, and by which compiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// LLVM's intermediate language by `rustc`.
    RustLlvm,
    /// Assembly by `rustc`.
    RustAssembly,
    /// LLVM's intermediate language by `clang`.
    CLlvm,
    /// Assembly by `gcc`.
    CAssembly,
}

impl Target {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::RustLlvm,
        Self::RustAssembly,
        Self::CLlvm,
        Self::CAssembly,
    ];

    /// The program that does it.
    pub fn program(self) -> &'static str {
        match self {
            Self::RustLlvm | Self::RustAssembly => "rustc",
            Self::CLlvm => "clang",
            Self::CAssembly => "gcc",
        }
    }

    /// Of the source: `rust` or `c`.
    pub fn language(self) -> &'static str {
        match self {
            Self::RustLlvm | Self::RustAssembly => "rust",
            Self::CLlvm | Self::CAssembly => "c",
        }
    }

    /// The ending of files with such sources.
    pub fn extension(self) -> &'static str {
        match self {
            Self::RustLlvm | Self::RustAssembly => "rs",
            Self::CLlvm | Self::CAssembly => "c",
        }
    }

    /// Of the translation: `llvm` or `asm`.
    pub fn output(self) -> &'static str {
        match self {
            Self::RustLlvm | Self::CLlvm => "llvm",
            Self::RustAssembly | Self::CAssembly => "asm",
        }
    }

    fn is_rust(self) -> bool {
        self.language() == "rust"
    }
}

/// Editions of Rust, in the order in which they are tried: most of what there is was written for the first.
const EDITIONS: [&str; 2] = ["2021", "2024"];

/// A compiler that is installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiler {
    target: Target,
    version: String,
    /// Hides where the sources of the standard library lie on this machine.
    hiding: Option<String>,
}

impl Compiler {
    /// The compiler for a target; `None` if it is not installed, which a caller should tell its user.
    pub fn find(target: Target) -> Option<Self> {
        let program = target.program();
        let version = first_line(program, &["--version"])?;
        let hiding = target.is_rust().then(|| {
            let root = first_line(program, &["--print=sysroot"])?;
            Some(format!(
                "--remap-path-prefix={root}/lib/rustlib/src/rust=/rustc"
            ))
        });
        Some(Self {
            target,
            version,
            hiding: hiding.flatten(),
        })
    }

    /// What it makes.
    pub fn target(&self) -> Target {
        self.target
    }

    /// Its name and version, as it says them.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Translates the text of one file, which must compile by itself.
    ///
    /// What `scrubber` finds in the source is replaced before. A source that would make the
    /// compiler read files that are not of the system, or the environment, is not translated: they
    /// could be anybody's.
    ///
    /// # Errors
    /// Why there is no document.
    pub fn pair(
        &self,
        source: &str,
        material: &Material,
        limits: &Limits,
        scrubber: &Scrubber,
    ) -> Result<Document, Skip> {
        if source.len() > limits.source_bytes {
            return Err(Skip::TooLarge);
        }
        let source = scrubber.scrub(source).text.into_owned();
        let (options, output) = self.compile(&source, limits)?;
        let output = String::from_utf8(output).map_err(|_| Skip::NotText)?;
        if !self.has_function(&output) {
            return Err(Skip::Empty);
        }
        if !scrubber.scrub(&output).findings.is_empty() {
            return Err(Skip::Private);
        }
        let pair = CompilerPair {
            language: self.target.language().to_owned(),
            target: self.target.output().to_owned(),
            compiler: self.version.clone(),
            options,
            source,
            output,
        };
        let part = pair.target.clone();
        Ok(Document::new(material, &part, Content::CompilerPair(pair)))
    }

    /// The options that worked, and what they gave.
    fn compile(&self, source: &str, limits: &Limits) -> Result<(String, Vec<u8>), Skip> {
        let mut last = Skip::DoesNotCompile;
        for edition in if self.target.is_rust() {
            &EDITIONS[..]
        } else {
            &["gnu17"]
        } {
            let common = self.options(edition);
            match self.reads_nothing(&common, source, limits) {
                Ok(()) => {
                    let (shown, mut arguments) = self.output_options(common);
                    arguments.extend(self.hiding.clone());
                    arguments.extend(["-o", "-", "-"].map(str::to_owned));
                    match run(self.target.program(), &arguments, source, limits) {
                        Ok(output) => return Ok((shown, output)),
                        Err(failure) => last = skip(&failure),
                    }
                }
                Err(reason) => last = reason,
            }
            if last != Skip::DoesNotCompile {
                break;
            }
        }
        Err(last)
    }

    fn options(&self, edition: &str) -> Vec<String> {
        let options = match self.target {
            Target::RustLlvm | Target::RustAssembly => {
                vec![
                    "--crate-type=lib",
                    "--crate-name=unit",
                    "--edition",
                    edition,
                ]
            }
            Target::CLlvm | Target::CAssembly => vec!["-x", "c", "-std=gnu17"],
        };
        options.into_iter().map(str::to_owned).collect()
    }

    /// As shown in the document, and as given to the compiler.
    fn output_options(&self, mut options: Vec<String>) -> (String, Vec<String>) {
        // Dead code is kept because the compiler of a library leaves small functions to those who call them.
        const RUST: [&str; 3] = ["-Copt-level=1", "-Ccodegen-units=1", "-Clink-dead-code"];
        let more: &[&str] = match self.target {
            Target::RustLlvm => &["--emit=llvm-ir", RUST[0], RUST[1], RUST[2]],
            Target::RustAssembly => &["--emit=asm", RUST[0], RUST[1], RUST[2]],
            Target::CLlvm => &["-S", "-emit-llvm", "-O1"],
            Target::CAssembly => &["-S", "-O1", "-fno-ident", "-fno-asynchronous-unwind-tables"],
        };
        options.extend(more.iter().map(|&option| option.to_owned()));
        (options.join(" "), options)
    }

    /// Whether the source asks for files beside it; the compiler itself says which ones.
    fn reads_nothing(&self, common: &[String], source: &str, limits: &Limits) -> Result<(), Skip> {
        let more: &[&str] = match self.target {
            Target::RustLlvm | Target::RustAssembly => &["--emit=dep-info", "-o", "-", "-"],
            // Headers of the system are left out of the list.
            Target::CLlvm | Target::CAssembly => &["-MM", "-"],
        };
        let arguments = common.iter().cloned();
        let arguments = arguments.chain(more.iter().map(|&option| option.to_owned()));
        let listed = run(
            self.target.program(),
            &arguments.collect::<Vec<_>>(),
            source,
            limits,
        );
        let listed = listed.map_err(|failure| skip(&failure))?;
        let listed = String::from_utf8_lossy(&listed);
        // The name of the target and that of the source, which is standard input.
        let is_own = |word: &str| matches!(word, "-:" | "-" | "-.o:" | "<stdin>" | "\\");
        match listed.split_whitespace().all(is_own) {
            true => Ok(()),
            false => Err(Skip::ReadsFiles),
        }
    }

    /// Whether there is code in the output: a file of generic functions has none.
    fn has_function(&self, output: &str) -> bool {
        let is_function = |line: &str| match self.target.output() {
            "llvm" => line.starts_with("define "),
            _ => line.trim_start().starts_with(".type") && line.contains("function"),
        };
        // Other systems than Linux have no `.type`; there, labels have to do.
        let is_label =
            |line: &str| !line.starts_with(['.', '\t', ' ', '#', 'L']) && line.ends_with(':');
        let is_elf = output.contains("@progbits");
        output
            .lines()
            .any(|line| is_function(line) || (!is_elf && is_label(line)))
    }
}

fn skip(failure: &Failure) -> Skip {
    match failure {
        Failure::Start => Skip::NoTool,
        Failure::Refused => Skip::DoesNotCompile,
        Failure::TimedOut => Skip::TimedOut,
        Failure::TooLarge => Skip::TooLarge,
    }
}

fn first_line(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(std::env::temp_dir())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    let line = said.lines().next()?.trim();
    (output.status.success() && !line.is_empty()).then(|| line.to_owned())
}
