//! Triton kernels of Python packages, cut out of their modules.
//!
//! A kernel is a function that `triton.jit` decorates, however that is imported. It is cut with
//! what it uses of its module (imports, constants, helper kernels), with its docstring, and with
//! the function that launches it, if there is one. The work is done by `python/kernels.py`, which
//! parses and runs nothing, and which says whether the text that was cut parses to the same
//! definitions.

use std::collections::HashSet;

use cwm_tracer::Interpreter;
use serde::{Deserialize, Serialize};

use super::layout::{self, ParseError, Reader};
use super::{Content, Document, Harvest, Material, Skip};
use crate::python::{Python, PythonError};
use crate::scrub::Scrubber;

const SCRIPT: &str = include_str!("../../python/kernels.py");

/// A kernel with what it needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// Its name.
    pub name: String,
    /// What it uses of its module, and the kernel itself, as a module of its own.
    pub code: String,
    /// The names that the module gives it, in order of the alphabet.
    pub needs: Vec<String>,
    /// What its docstring says; empty if there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub docstring: String,
    /// The function that launches it; empty if the module has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub launcher: String,
}

const TITLE: &str = "Triton kernel ";
const LAUNCH: &str = "Launch";

impl Kernel {
    /// The text a model trains on: what it does, the code, how it is launched.
    pub fn render(&self) -> String {
        let mut out = String::new();
        layout::heading(&mut out, 1, &format!("{TITLE}{}", self.name));
        if !self.needs.is_empty() {
            layout::field(&mut out, "Needs", &self.needs.join(", "));
        }
        if !self.docstring.is_empty() {
            layout::block(&mut out, "text", &self.docstring);
        }
        layout::block(&mut out, "python", &self.code);
        if !self.launcher.is_empty() {
            layout::heading(&mut out, 2, LAUNCH);
            layout::block(&mut out, "python", &self.launcher);
        }
        out
    }

    /// Reads a rendering back.
    ///
    /// # Errors
    /// [`ParseError`], with the line.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut reader = Reader::new(text);
        let name = reader.heading(1, TITLE)?.to_owned();
        let needs = reader
            .field_if("Needs")
            .map(|needs| needs.split(", ").map(str::to_owned));
        let docstring = reader.block_of("text").unwrap_or_default();
        let code = reader.block_of("python")?;
        let launcher = match reader.heading_if(2, LAUNCH) {
            Some(_) => reader.block_of("python")?,
            None => String::new(),
        };
        reader.end()?;
        Ok(Self {
            name,
            code,
            needs: needs.map(Iterator::collect).unwrap_or_default(),
            docstring,
            launcher,
        })
    }
}

#[derive(Serialize)]
struct Request<'a> {
    code: &'a str,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Good { kernels: Vec<Found> },
    Bad {},
}

#[derive(Deserialize)]
struct Found {
    name: String,
    code: String,
    needs: Vec<String>,
    docstring: Option<String>,
    launcher: Option<String>,
    faithful: bool,
}

/// A running interpreter that finds kernels.
#[derive(Debug)]
pub struct KernelFinder(Python);

impl KernelFinder {
    /// Starts one. What it finds does not depend on its version, as long as that can parse the module.
    ///
    /// # Errors
    /// When the interpreter cannot be started.
    pub fn start(interpreter: &Interpreter) -> Result<Self, PythonError> {
        Python::start(interpreter, SCRIPT, "finds kernels").map(Self)
    }

    /// A document for each kernel of a module. What `scrubber` finds is replaced before. A text
    /// longer than `bytes` is too large, of a module as of what is cut out of it.
    ///
    /// # Errors
    /// When the interpreter is gone.
    pub fn kernels(
        &mut self,
        source: &str,
        material: &Material,
        bytes: usize,
        scrubber: &Scrubber,
    ) -> Result<Harvest, PythonError> {
        // Most modules of a package have nothing to do with it.
        if !source.contains("triton") {
            return Ok(Harvest::nothing(Skip::Empty));
        }
        if source.len() > bytes {
            return Ok(Harvest::nothing(Skip::TooLarge));
        }
        let source = scrubber.scrub(source).text;
        let kernels = match self.0.ask(&Request { code: &source })? {
            Answer::Good { kernels } => kernels,
            Answer::Bad {} => return Ok(Harvest::nothing(Skip::WrongLanguage)),
        };
        if kernels.is_empty() {
            return Ok(Harvest::nothing(Skip::Empty));
        }
        let mut harvest = Harvest::default();
        let mut seen = HashSet::new();
        for found in kernels {
            let is_new = seen.insert(found.name.clone());
            let kernel = kernel(found, bytes).and_then(|kernel| match is_new {
                true => Ok(kernel),
                // Variants for other versions or devices: only the first one is what the name means.
                false => Err(Skip::Repeated),
            });
            harvest.take(kernel.map(|kernel| {
                let name = kernel.name.clone();
                Document::new(material, &name, Content::Kernel(kernel))
            }));
        }
        Ok(harvest)
    }
}

fn kernel(found: Found, bytes: usize) -> Result<Kernel, Skip> {
    let launcher = found.launcher.unwrap_or_default();
    let docstring = found.docstring.filter(|text| !text.is_empty());
    if !found.faithful {
        return Err(Skip::NotFaithful);
    }
    if found.code.len() + launcher.len() > bytes {
        return Err(Skip::TooLarge);
    }
    Ok(Kernel {
        name: found.name,
        code: found.code,
        needs: found.needs,
        docstring: docstring.map_or(String::new(), |text| format!("{text}\n")),
        launcher,
    })
}
