//! A recorded run as it was written, to be made into what is wanted.

use cwm_trace::Trace;
use cwm_trace::cwm::{self, Document, Stream};

use crate::log;

/// One run, as compact as it was recorded. A [`Trace`] of millions of events takes much memory; the texts of
/// it do not need one.
#[derive(Clone, Debug)]
pub struct Recording {
    bytes: Vec<u8>,
    /// All of the trace but its events.
    frame: Trace,
}

impl Recording {
    /// From a log and the trace that it is of, without its events.
    pub(crate) fn new(bytes: Vec<u8>, frame: Trace) -> Self {
        Self { bytes, frame }
    }

    /// How many bytes it takes.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// How many events it has.
    pub fn events(&self) -> usize {
        let mut count = 0;
        log::decode_each(&self.bytes, &mut |_| count += 1);
        count
    }

    /// The trace.
    pub fn trace(&self) -> Trace {
        let events = log::decode(&self.bytes).events;
        Trace {
            events,
            ..self.frame.clone()
        }
    }

    /// The text in the `cwm` dialect: that of [`Recording::trace`], to the last byte.
    pub fn cwm(&self) -> String {
        let start = Trace {
            events: log::decode_start(&self.bytes).events,
            ..self.frame.clone()
        };
        // About what plain code takes.
        let mut out = String::with_capacity(self.bytes.len().saturating_mul(20));
        let mut stream = Stream::begin(&start, &mut out);
        let (_, is_ordered) =
            log::decode_each(&self.bytes, &mut |moment| stream.frame(moment, &mut out));
        if !is_ordered {
            return cwm::render(&Document::from_trace(&self.trace()));
        }
        if self.frame.end.is_complete() {
            Stream::end(&mut out);
        }
        out
    }
}
