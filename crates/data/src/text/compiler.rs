//! A source beside what a compiler makes of it: bytecode of CPython, LLVM's intermediate language, assembly.
//!
//! Rendered: a heading that says what is translated to what, the compiler, its options, and both
//! texts in fences.

mod bytecode;
mod native;
mod process;

use serde::{Deserialize, Serialize};

use super::layout::{self, ParseError, Reader};

pub use bytecode::{BytecodeCompiler, Handler, Instruction, Listing};
pub use native::{Compiler, Target};
pub use process::Limits;

/// A source and its translation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompilerPair {
    /// Of the source: `python`, `rust` or `c`.
    pub language: String,
    /// Of the translation: `bytecode`, `llvm` or `asm`.
    pub target: String,
    /// Name and version.
    pub compiler: String,
    /// What decides about the translation; empty if nothing was chosen.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub options: String,
    /// What is translated.
    pub source: String,
    /// Its translation.
    pub output: String,
}

impl CompilerPair {
    /// The text a model trains on.
    pub fn render(&self) -> String {
        let mut out = String::new();
        layout::heading(
            &mut out,
            1,
            &format!("{} to {}", self.language, self.target),
        );
        layout::field(&mut out, "Compiler", &self.compiler);
        if !self.options.is_empty() {
            layout::field(&mut out, "Options", &self.options);
        }
        layout::block(&mut out, &self.language, &self.source);
        layout::block(&mut out, &self.target, &self.output);
        out
    }

    /// Reads a rendering back.
    ///
    /// # Errors
    /// [`ParseError`], with the line.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut reader = Reader::new(text);
        let title = reader.heading(1, "")?;
        let parts = title.split_once(" to ");
        let (language, target) = parts.ok_or_else(|| reader.expected("`LANGUAGE to TARGET`"))?;
        let compiler = reader.field("Compiler")?.to_owned();
        let options = reader.field_if("Options").unwrap_or_default().to_owned();
        let source = reader.block_of(language)?;
        let output = reader.block_of(target)?;
        reader.end()?;
        Ok(Self {
            language: language.to_owned(),
            target: target.to_owned(),
            compiler,
            options,
            source,
            output,
        })
    }
}
