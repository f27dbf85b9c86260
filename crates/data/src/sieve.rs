//! [`Sieve`]: what benchmarks contain does not get into a build.

use crate::decontaminate::{Benchmarks, normalise_program};
use crate::filter::Rejection;
use crate::normalise::Normaliser;
use crate::python::PythonError;
use crate::record::Record;

/// Holds programs against benchmarks; an empty one lets everything through.
#[derive(Debug, Default)]
pub(crate) struct Sieve(Option<(Benchmarks, Normaliser)>);

impl Sieve {
    /// One that stops what is in the benchmarks.
    pub(crate) fn new(benchmarks: Benchmarks, normaliser: Normaliser) -> Self {
        Self(Some((benchmarks, normaliser)))
    }

    /// Why a record must not be kept, if so.
    ///
    /// # Errors
    /// When the interpreter that compares programs is gone.
    pub(crate) fn judge(&mut self, record: &Record) -> Result<Option<Rejection>, PythonError> {
        let Some((benchmarks, normaliser)) = &mut self.0 else {
            return Ok(None);
        };
        let (source, entry) = (&record.trace.source, &record.trace.entry);
        let program = normalise_program(source, entry, normaliser)?;
        let overlap = benchmarks.judge(source, program.as_ref());
        Ok(overlap.map(|_| Rejection::Benchmark))
    }
}
