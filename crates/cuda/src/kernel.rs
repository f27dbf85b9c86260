//! The kernels: their sources, and what names one of their variants.
//!
//! A source is CUDA C++ that includes `common.cuh` and nothing else, so that it compiles with NVRTC
//! without any header of NVIDIA's, and with a C++ compiler for the emulator. Sizes that must be known to
//! the compiler are macros.

use crate::ops;

/// A file of kernels.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// Name of the file.
    pub name: &'static str,
    /// What is in it, without `common.cuh`.
    pub text: &'static str,
    /// Its kernels.
    pub kernels: &'static [&'static str],
    /// The macros it wants, with values to compile it with where all variants are checked.
    pub macros: &'static [(&'static str, &'static [u32])],
}

/// What every source begins with.
pub const COMMON: &str = include_str!("kernels/common.cuh");

/// All sources.
pub static SOURCES: &[&Source] = &[
    &ops::ADAMW,
    &ops::ATTENTION,
    &ops::CONVERT,
    &ops::CROSS_ENTROPY,
    &ops::LINEAR,
    &ops::MUON,
    &ops::NORM,
    &ops::PAGED,
    &ops::REDUCE,
    &ops::ROPE,
    &ops::ROWS,
    &ops::SWIGLU,
];

/// A kernel of a source that is compiled with certain sizes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kernel {
    /// The file.
    pub source: &'static Source,
    /// One of its kernels.
    pub name: &'static str,
    /// A value for each of the source's macros, in their order.
    pub macros: Vec<u32>,
}

impl Kernel {
    /// A kernel of a source without macros.
    pub fn plain(source: &'static Source, name: &'static str) -> Self {
        Self {
            source,
            name,
            macros: Vec::new(),
        }
    }

    /// `-D` options for a compiler.
    ///
    /// # Panics
    /// As [`Source::options`].
    pub fn options(&self) -> Vec<String> {
        self.source.options(&self.macros)
    }
}

impl Source {
    /// `-D` options for a compiler that give the macros these values.
    ///
    /// # Panics
    /// If there is not one for each macro.
    pub fn options(&self, macros: &[u32]) -> Vec<String> {
        assert_eq!(
            macros.len(),
            self.macros.len(),
            "{} has other macros: {:?}",
            self.name,
            self.macros
        );
        let pairs = self.macros.iter().zip(macros);
        pairs
            .map(|((name, _), value)| format!("-D{name}={value}"))
            .collect()
    }

    /// Every combination of the macros' values to be checked, in which the last changes fastest.
    pub fn variants(&self) -> Vec<Vec<u32>> {
        self.macros
            .iter()
            .fold(vec![Vec::new()], |variants, (_, values)| {
                let extended = |variant: &Vec<u32>| {
                    let variant = variant.clone();
                    values
                        .iter()
                        .map(move |&value| [&variant[..], &[value]].concat())
                        .collect::<Vec<_>>()
                };
                variants.iter().flat_map(extended).collect()
            })
    }
}
