//! [`Sieve`]: what benchmarks contain, and what is nobody's business, does not get into a build.

use crate::decontaminate::{Benchmarks, normalise_program};
use crate::filter::Rejection;
use crate::normalise::Normaliser;
use crate::python::PythonError;
use crate::record::{Origin, Record};
use crate::scrub::Scrubber;

/// Holds records against benchmarks, and those of people's programs against secrets, paths and addresses. An
/// empty one knows no benchmarks.
#[derive(Debug, Default)]
pub(crate) struct Sieve {
    benchmarks: Option<(Benchmarks, Normaliser)>,
    scrubber: Scrubber,
}

impl Sieve {
    /// One that stops what is in the benchmarks and what the scrubber finds.
    pub(crate) fn new(benchmarks: Option<(Benchmarks, Normaliser)>, scrubber: Scrubber) -> Self {
        Self {
            benchmarks,
            scrubber,
        }
    }

    /// Why a record must not be kept, if so.
    ///
    /// # Errors
    /// When the interpreter that compares programs is gone.
    pub(crate) fn judge(&mut self, record: &Record) -> Result<Option<Rejection>, PythonError> {
        if matches!(record.origin, Origin::Harvested(_)) && self.is_private(record) {
            return Ok(Some(Rejection::Private));
        }
        let Some((benchmarks, normaliser)) = &mut self.benchmarks else {
            return Ok(None);
        };
        let (source, entry) = (&record.trace.source, &record.trace.entry);
        let program = normalise_program(source, entry, normaliser)?;
        let overlap = benchmarks.judge(source, program.as_ref());
        Ok(overlap.map(|_| Rejection::Benchmark))
    }

    /// Whether a text has as many words in a row in common with a benchmark as are taken for a copy.
    pub(crate) fn has(&self, text: &str) -> bool {
        let benchmarks = self.benchmarks.as_ref();
        benchmarks.is_some_and(|(benchmarks, _)| benchmarks.judge(text, None).is_some())
    }

    /// Whether something in a record would have to be replaced. It is not: the values would not follow from
    /// the program any more.
    fn is_private(&self, record: &Record) -> bool {
        let trace = &record.trace;
        let values = trace.events.iter().flat_map(|event| {
            let locals = event.locals.iter().map(|local| &local.value);
            locals.chain(&event.value).map(|value| &**value.detailed())
        });
        let mut texts = [&*trace.source, &trace.stdout, &trace.stderr]
            .into_iter()
            .chain(values);
        // Nothing that is looked for is shorter.
        texts.any(|text| text.len() >= 6 && !self.scrubber.scrub(text).findings.is_empty())
    }
}
