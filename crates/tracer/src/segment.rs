//! One run out of a log, complete in itself: [`Segment::localised`] numbers its activations, functions
//! and files anew, each from 0 in order of appearance, as a [`cwm_trace::Trace`] has them.

use std::collections::HashMap;

use cwm_trace::{End, Event, EventKind, Function, SourceFile, Thread};

use crate::log::Refusal;

/// What a log says of one run.
#[derive(Debug, Default)]
pub(crate) struct Segment {
    /// What the run is called, in a log of many.
    pub(crate) label: Option<String>,
    /// Which thread it is of, if not the main one.
    pub(crate) thread: Option<Thread>,
    /// Bytes in standard output and standard error when it began.
    pub(crate) printed: [u64; 2],
    pub(crate) functions: Vec<Function>,
    /// Files of the functions, the one of the first function first.
    pub(crate) files: Vec<SourceFile>,
    pub(crate) events: Vec<Event>,
    /// Text of what the call gave, where that was asked for.
    pub(crate) result: Option<String>,
    /// How it ended; `None` when the process died first.
    pub(crate) end: Option<End>,
    /// Set instead of events when the request could not be run.
    pub(crate) refusal: Option<Refusal>,
}

impl Segment {
    /// The segment with numbers of its own, given the tables of the whole log. A generator that an
    /// earlier run left suspended begins here; other events of what began earlier are left out.
    pub(crate) fn localised(mut self, functions: &[Function], files: &[SourceFile]) -> Self {
        if self.label.is_none() {
            // A log of one run has these numbers already.
            self.functions = functions.to_vec();
            self.files = files.to_vec();
            return self;
        }
        let mut activations = Numbers::default();
        let mut used = Numbers::default();
        let mut places = Numbers::default();
        self.events.retain_mut(|event| {
            if !activations.knows(event.activation) {
                match event.kind {
                    EventKind::Call => {}
                    EventKind::Resume => event.kind = EventKind::Call,
                    _ => return false,
                }
            }
            event.activation = activations.number(event.activation);
            event.function = used.number(event.function);
            true
        });
        for number in used.order {
            let Some(mut function) = functions.get(number as usize).cloned() else {
                continue;
            };
            function.file = places.number(function.file);
            self.functions.push(function);
        }
        // A run without a function of a file is still about the first file.
        if places.order.is_empty() {
            places.number(0);
        }
        let files = places.order.iter().map(|&at| files.get(at as usize));
        self.files = files.flatten().cloned().collect();
        self
    }
}

/// Numbers from 0 in order of first appearance.
#[derive(Default)]
struct Numbers {
    known: HashMap<u32, u32>,
    order: Vec<u32>,
    /// The last answer: questions repeat.
    last: Option<(u32, u32)>,
}

impl Numbers {
    fn knows(&self, old: u32) -> bool {
        self.last.is_some_and(|(known, _)| known == old) || self.known.contains_key(&old)
    }

    fn number(&mut self, old: u32) -> u32 {
        if let Some((_, new)) = self.last.filter(|&(known, _)| known == old) {
            return new;
        }
        let new = *self.known.entry(old).or_insert_with(|| {
            self.order.push(old);
            self.order.len() as u32 - 1
        });
        self.last = Some((old, new));
        new
    }
}
