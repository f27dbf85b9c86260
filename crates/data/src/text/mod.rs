//! Kinds of training text beside recorded runs.
//!
//! A [`Document`] is one text with its licence and where it comes from. What it is made of is typed, by kind
//! ([`Content`]); [`Document::render`] is what a model trains on. Each kind reads its rendering back, and
//! its tests hold it to that.
//!
//! A builder makes documents of one unit: a commit, a file, a recorded run. Units are listed in a
//! fixed order and built one by one, so a data set can be resumed at any of them. The same unit
//! gives the same documents. What cannot be used is counted by reason ([`Skip`]); an error means
//! that a tool or a folder is not there.
//!
//! * [`prose`]: what a recorded run did, in sentences.
//! * [`trajectory`]: an agent at work in a repository.
//! * [`pull_request`]: a change of a repository, from its history; [`unified`] has the diffs.
//! * [`compiler`]: a source beside what a compiler makes of it.
//! * [`kernel`]: Triton kernels, cut out of packages.
//! * [`lean`]: theorems, their proofs and the states of these.

pub mod compiler;
mod files;
mod git;
pub mod kernel;
mod layout;
pub mod lean;
pub mod prose;
pub mod pull_request;
mod skip;
pub mod trajectory;
pub mod unified;

use serde::{Deserialize, Serialize};

pub use compiler::CompilerPair;
pub use files::{FileError, files, read_text};
pub(crate) use git::commit_of;
pub use git::{GitError, Objects};
pub use kernel::Kernel;
pub use layout::ParseError;
pub use lean::{LeanProof, LeanStep, LeanTranslation};
pub use prose::TraceProse;
pub use pull_request::PullRequest;
pub use skip::{Harvest, Skip, Skips};
pub use trajectory::Trajectory;

/// One text to train on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// Unique among the documents of a kind; follows from the origin.
    pub id: String,
    /// The SPDX expression under which the text may be used.
    pub licence: String,
    /// Where it comes from.
    pub origin: Origin,
    /// What it says.
    pub content: Content,
}

/// Where a text comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// Name of the package, or address of the repository.
    pub project: String,
    /// Version of the package, or commit of the repository.
    pub version: String,
    /// The file in it, with `/` between the parts; empty if the text is of no single file.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
}

/// What the caller knows about the material that a builder is given, and has to answer for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Material {
    /// The SPDX expression for all of it.
    pub licence: String,
    /// Where it comes from.
    pub origin: Origin,
}

/// What a [`Document`] says, by kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Content {
    /// A program and what a run of it did.
    TraceProse(TraceProse),
    /// An agent at work.
    Trajectory(Trajectory),
    /// A change of a repository.
    PullRequest(PullRequest),
    /// A source and its translation.
    CompilerPair(CompilerPair),
    /// A Triton kernel.
    Kernel(Kernel),
    /// A theorem with its proof.
    LeanProof(LeanProof),
    /// A theorem in words and in Lean.
    LeanTranslation(LeanTranslation),
    /// What a tactic does.
    LeanStep(LeanStep),
}

impl Content {
    /// The name of the kind, in files and identifiers.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::TraceProse(_) => "trace_prose",
            Self::Trajectory(_) => "trajectory",
            Self::PullRequest(_) => "pull_request",
            Self::CompilerPair(_) => "compiler_pair",
            Self::Kernel(_) => "kernel",
            Self::LeanProof(_) => "lean_proof",
            Self::LeanTranslation(_) => "lean_translation",
            Self::LeanStep(_) => "lean_step",
        }
    }

    /// The text a model trains on.
    pub fn render(&self) -> String {
        match self {
            Self::TraceProse(prose) => prose.render(),
            Self::Trajectory(trajectory) => trajectory.render(),
            Self::PullRequest(change) => change.render(),
            Self::CompilerPair(pair) => pair.render(),
            Self::Kernel(kernel) => kernel.render(),
            Self::LeanProof(proof) => proof.render(),
            Self::LeanTranslation(translation) => translation.render(),
            Self::LeanStep(step) => step.render(),
        }
    }
}

impl Document {
    /// A document of some material; `part` tells it from others of the same origin, and may be empty.
    fn new(material: &Material, part: &str, content: Content) -> Self {
        let Origin {
            project,
            version,
            path,
        } = &material.origin;
        let parts = [content.kind(), project, version, path, part];
        let parts = parts.into_iter().filter(|part| !part.is_empty());
        Self {
            id: parts.collect::<Vec<_>>().join(":"),
            licence: material.licence.clone(),
            origin: material.origin.clone(),
            content,
        }
    }

    /// The text a model trains on.
    pub fn render(&self) -> String {
        self.content.render()
    }
}
