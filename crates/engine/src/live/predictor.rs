//! [`Predictor`]: one program, predicted frame by frame.

use std::sync::{Arc, Mutex, PoisonError};

use cwm_tokenizer::nano::{Codec, CodecError, Offsets, Vocabulary};
use cwm_trace::live::{Machine, Window, step_pieces};
use cwm_trace::{Entry, Event, EventKind, Local, Value};

use super::arguments::{ArgumentError, bind_arguments};
use super::decode::{Decoded, Decoder, MAX_FRAME, MAX_VALUE};
use super::definitions::{Definition, definitions};
use super::grammar::{Draft, DraftValue, Ending, FrameGrammar, Legal};
use super::memory::Memory;
use crate::{Engine, PassCosts, Sampler, SamplerOptions, Session, Want};

/// Why a run cannot be predicted, or not further.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// The program does not fit the model's vocabulary.
    #[error(transparent)]
    Program(#[from] CodecError),
    /// The entry's arguments cannot be bound.
    #[error(transparent)]
    Arguments(#[from] ArgumentError),
    /// The vocabulary is not the one the weights were trained with.
    #[error(
        "the vocabulary has {vocabulary} tokens, but the weights have {weights}; the files are not of the same model"
    )]
    VocabularyMismatch {
        /// Tokens of the vocabulary.
        vocabulary: usize,
        /// Rows of the embedding.
        weights: usize,
    },
    /// The entry function is not in the file.
    #[error("there is no function `{name}` in the file; it defines {available}")]
    NoEntry {
        /// The wanted name.
        name: String,
        /// What there is.
        available: String,
    },
    /// The model wrote a value that is no text.
    #[error("the model wrote a malformed value for `{0}`")]
    Malformed(String),
    /// The model wrote a value that is longer than any it was trained on.
    #[error("the model wrote a value of more than {MAX_VALUE} tokens")]
    LongValue,
    /// The model did not end a frame.
    #[error("the model wrote {MAX_FRAME} tokens without ending the frame")]
    Endless,
    /// The model was not trained to jump.
    #[error(
        "this model predicts frame by frame; to jump takes one that was trained with sources of kind `jumps`"
    )]
    NoJumps,
    /// The running line has made a call already.
    #[error(
        "jumps begin where a line is about to run; go `back` to before its calls, or `step` on"
    )]
    InsideLine,
    /// Nothing can be asked about a line.
    #[error("line {0} is not in the program; it has {1}")]
    NoLine(u32, u32),
    /// Calls are nested too deeply.
    #[error("predicted calls are nested {0} deep; the program seems to recurse without end")]
    TooDeep(usize),
    /// The engine refused a step.
    #[error(transparent)]
    Engine(#[from] crate::Error),
}

/// How tokens are chosen.
#[derive(Clone, Debug, Default)]
pub enum Sampling {
    /// The most probable legal token.
    #[default]
    Greedy,
    /// Sampled; the seed is mixed with the number of events so far, so a point
    /// always gives the same frame.
    Sample(SamplerOptions),
}

/// How frames are computed. What comes out is the same, bit for bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// A pass for each token, every window from its first token on.
    Plain,
    /// Tokens are guessed and verified together, those that are forced take no pass, and a window begins
    /// where an earlier one began to differ.
    #[default]
    Ahead,
}

/// A predicted frame.
#[derive(Clone, Debug)]
pub struct Predicted {
    /// What happens, with the full state where the kind has one.
    pub event: Event,
    /// Name of the function.
    pub function: String,
    /// Callers below it on the stack.
    pub depth: u32,
    /// Variables this frame gave a new value to, with its probability.
    pub changes: Vec<(Arc<str>, f32)>,
    /// Probability of the returned, yielded or raised value.
    pub value_probability: Option<f32>,
    /// Probability of the whole frame, given its working, among all that
    /// might legally follow: other frames, and further steps.
    pub probability: f32,
    /// What the model made of the parts of the line's expressions on its way
    /// to the frame, step by step: `7 % 5 = 2`. Steps that are no text are
    /// left out.
    pub working: Vec<String>,
}

/// A moment of a predicted run. Cloning shares the caches.
#[derive(Clone, Debug)]
pub struct Point {
    pub(super) machine: Machine,
    lanes: Vec<Lane>,
    next_activation: u32,
    /// Events so far, which tell moments with equal windows apart.
    pub(super) events: u64,
}

impl Point {
    /// Whether the entry scope has ended.
    pub fn is_over(&self) -> bool {
        self.machine.depth() == 0
    }

    /// Locals of the running activation.
    pub fn locals(&self) -> &[Local] {
        self.machine.locals()
    }
}

/// The window of the line that one activation on the stack is at.
#[derive(Clone, Debug)]
struct Lane {
    /// Holds the beginning of the window, the source at least.
    session: Session,
    /// The source and the window.
    ids: Arc<[u32]>,
}

/// Deepest stack that is followed; CPython's own limit is 1000.
const MAX_DEPTH: usize = 1000;

/// One program under one model.
#[derive(Debug)]
pub struct Predictor {
    engine: Arc<Engine>,
    pub(super) codec: Codec,
    source: String,
    pub(super) machine: Machine,
    pub(super) definitions: Vec<Definition>,
    base: Session,
    sampling: Sampling,
    pace: Pace,
    /// `None` while a frame is decoded with it.
    memory: Mutex<Option<Box<Memory>>>,
}

impl Predictor {
    /// Reads `source` and prefills it.
    ///
    /// # Errors
    /// When the program or the vocabulary does not fit the model.
    pub fn new(
        engine: Arc<Engine>,
        vocabulary: Arc<Vocabulary>,
        source: &str,
    ) -> Result<Self, LiveError> {
        let weights = engine.config().vocab_size;
        if weights != vocabulary.len() {
            return Err(LiveError::VocabularyMismatch {
                vocabulary: vocabulary.len(),
                weights,
            });
        }
        let codec = Codec::new(vocabulary, source, Offsets::default())?;
        let mut base = Session::new(&engine);
        base.extend(&engine, codec.source(), Want::None)?;
        let machine = Machine::new(source);
        let definitions = definitions(source, machine.outline());
        Ok(Self {
            engine,
            codec,
            source: source.to_owned(),
            machine,
            definitions,
            base,
            sampling: Sampling::Greedy,
            pace: Pace::default(),
            memory: Mutex::default(),
        })
    }

    /// The same predictor with another way to choose tokens.
    #[must_use]
    pub fn with_sampling(self, sampling: Sampling) -> Self {
        Self { sampling, ..self }
    }

    /// The same predictor with another way to compute.
    #[must_use]
    pub fn with_pace(self, pace: Pace) -> Self {
        Self { pace, ..self }
    }

    /// The call of the entry scope, which is given and not predicted.
    ///
    /// # Errors
    /// When there is no such function or its arguments do not fit.
    pub fn start(&self, entry: &Entry) -> Result<(Point, Predicted), LiveError> {
        let (line, locals) = match entry {
            Entry::Module => (0, Vec::new()),
            Entry::Call { function, args } => {
                // The last definition of a name is the one it is bound to.
                let found = self.definitions.iter().rfind(|d| d.qualname == *function);
                let Some(found) = found.filter(|d| d.line > 0) else {
                    return Err(LiveError::NoEntry {
                        name: function.clone(),
                        available: self.available(),
                    });
                };
                let signature = found.signature.as_ref();
                let signature =
                    signature.ok_or_else(|| ArgumentError::Signature(function.clone()))?;
                (found.line, bind_arguments(signature, function, args)?)
            }
        };
        let event = Event {
            kind: EventKind::Call,
            activation: 0,
            function: self.definition(line).0,
            line,
            locals,
            value: None,
        };
        let point = self.follow(&self.blank(), &event)?;
        let predicted = Predicted {
            function: self.definition(line).1.name.clone(),
            depth: 0,
            changes: Vec::new(),
            value_probability: None,
            probability: 1.0,
            working: Vec::new(),
            event,
        };
        Ok((point, predicted))
    }

    /// A run that has not begun, for [`Predictor::follow`].
    pub fn blank(&self) -> Point {
        Point {
            machine: self.machine.clone(),
            lanes: Vec::new(),
            next_activation: 0,
            events: 0,
        }
    }

    /// Goes on with a known event, whose `line` at calls is the line of the
    /// callee's definition (as in a [`cwm_trace::live::Document`]).
    ///
    /// # Errors
    /// When a name or line of the event is not in the program, or the
    /// context is full.
    pub fn follow(&self, at: &Point, event: &Event) -> Result<Point, LiveError> {
        self.go_on(at.clone(), event)
    }

    fn go_on(&self, mut point: Point, event: &Event) -> Result<Point, LiveError> {
        let definition = match event.kind {
            EventKind::Call => event.line,
            _ => 0,
        };
        point.machine.feed(event, definition);
        point.next_activation = point.next_activation.max(event.activation + 1);
        point.events += 1;
        self.synchronise(&mut point)?;
        Ok(point)
    }

    /// The frame after `at`; `None` where the entry scope has ended.
    ///
    /// # Errors
    /// When the model cannot produce a frame; `at` stays usable.
    pub fn next(&self, at: &Point) -> Result<Option<(Point, Predicted)>, LiveError> {
        let Some((predicted, session)) = self.predict(at)? else {
            return Ok(None);
        };
        let mut point = at.clone();
        if let (Pace::Ahead, Some(lane)) = (self.pace, point.lanes.last_mut()) {
            lane.session = session;
        }
        let point = self.go_on(point, &predicted.event)?;
        Ok(Some((point, predicted)))
    }

    /// The frame after `at`, without going there.
    ///
    /// # Errors
    /// As [`Predictor::next`].
    pub fn peek(&self, at: &Point) -> Result<Option<Predicted>, LiveError> {
        Ok(self.predict(at)?.map(|(predicted, _)| predicted))
    }

    /// The frame after `at`, and a session that holds the window it was told in.
    fn predict(&self, at: &Point) -> Result<Option<(Predicted, Session)>, LiveError> {
        if at.lanes.is_empty() {
            return Ok(None);
        }
        if at.machine.depth() > MAX_DEPTH {
            return Err(LiveError::TooDeep(at.machine.depth()));
        }
        let legal = self.legal(at);
        let decoded = self.decode(at, &legal)?;
        let predicted = self.frame(at, decoded.draft, decoded.logprob)?;
        Ok(Some((predicted, decoded.session)))
    }

    /// Whether the grammar that predictions are held to allows a frame such
    /// as `event` after `at`, with this working before it. It should allow
    /// whatever Python does.
    ///
    /// # Errors
    /// When a name or line of the event is not in the program.
    pub fn is_legal(
        &self,
        at: &Point,
        working: &[Arc<str>],
        event: &Event,
    ) -> Result<bool, LiveError> {
        let definition = match event.kind {
            EventKind::Call => event.line,
            _ => 0,
        };
        let mut ids = Vec::new();
        let steps = working.iter().flat_map(step_pieces);
        for piece in steps.chain(at.machine.frame(event, definition)) {
            self.codec.encode(&piece, &mut ids)?;
        }
        Ok(self.allows(&self.legal(at), &ids))
    }

    /// Whether these tokens, and no fewer, may be told.
    pub(super) fn allows(&self, legal: &Legal, ids: &[u32]) -> bool {
        let mut grammar = FrameGrammar::new(&self.codec, legal);
        let mut whole = false;
        for &id in ids {
            if whole || !grammar.allows(id) {
                return false;
            }
            whole = grammar.take(id, 0.0).is_some();
        }
        whole
    }

    pub(super) fn legal(&self, at: &Point) -> Legal {
        let lines: Vec<&str> = self.source.lines().collect();
        Legal::new(&self.codec, &at.machine, &self.definitions, &lines)
    }

    /// What the running activation returns, named at once instead of step by
    /// step, by a model that was not trained to [jump](Self::jump).
    ///
    /// # Errors
    /// As [`Predictor::next`].
    pub fn answer(&self, at: &Point) -> Result<String, LiveError> {
        let decoded = self.decode(at, &self.legal(at).only_return())?;
        match decoded.draft.ending {
            Ending::Return(value) => {
                let value = self.text(at.machine.window(), "the value", None, &value)?;
                Ok(value.repr.to_string())
            }
            _ => Err(LiveError::Endless),
        }
    }

    /// The same moment with one local of the running activation replaced;
    /// `None` if it has no such local.
    ///
    /// # Errors
    /// When the context is full.
    pub fn set(&self, at: &Point, name: &str, value: &str) -> Result<Option<Point>, LiveError> {
        let mut point = at.clone();
        if !point.machine.set_local(name, value) {
            return Ok(None);
        }
        self.synchronise(&mut point)?;
        Ok(Some(point))
    }

    fn available(&self) -> String {
        let names: Vec<String> = self
            .definitions
            .iter()
            .filter(|d| d.line > 0 && !d.qualname.contains("<locals>"))
            .map(|d| format!("`{}`", d.qualname))
            .collect();
        if names.is_empty() {
            "no functions".to_owned()
        } else {
            names.join(", ")
        }
    }

    /// Index and definition of the function whose call events have `line`.
    pub(super) fn definition(&self, line: u32) -> (u32, &Definition) {
        let index = self
            .definitions
            .iter()
            .position(|d| d.line == line)
            .unwrap_or(0);
        (index as u32, &self.definitions[index])
    }

    /// Brings the lanes in step with the machine's stack and windows.
    fn synchronise(&self, point: &mut Point) -> Result<(), LiveError> {
        let depth = point.machine.depth();
        point.lanes.truncate(depth);
        while point.lanes.len() < depth {
            point.lanes.push(Lane {
                session: self.base.fork(),
                ids: Arc::from([]),
            });
        }
        let (Some(window), Some(lane)) = (point.machine.window(), point.lanes.last_mut()) else {
            return Ok(());
        };
        let mut ids = self.codec.source().to_vec();
        for piece in &window.pieces {
            self.codec.encode(&piece.piece, &mut ids)?;
        }
        let known = lane.session.common_prefix(&ids);
        // The logits behind the window come from a pass over its last token.
        let kept = known.min(ids.len() - 1);
        self.check_room(kept, ids.len())?;
        lane.session.rewind(&self.engine, kept)?;
        lane.ids = ids.into();
        Ok(())
    }

    /// Decodes one frame; `at` itself is left as it is.
    fn decode(&self, at: &Point, legal: &Legal) -> Result<Decoded, LiveError> {
        let Some(lane) = at.lanes.last() else {
            return Err(LiveError::Endless);
        };
        let sampler = self.sampler(at.events)?;
        let decoder = Decoder::new(&self.engine, &self.codec, legal, self.pace, sampler);
        let known = || self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let mut memory = known()
            .take()
            .unwrap_or_else(|| Box::new(Memory::new(costs())));
        let decoded = decoder.decode(&lane.session, &lane.ids, &mut memory);
        *known() = Some(memory);
        decoded
    }

    /// What draws tokens at the moment after so many events.
    fn sampler(&self, events: u64) -> Result<Option<Sampler>, LiveError> {
        let Sampling::Sample(options) = &self.sampling else {
            return Ok(None);
        };
        let seed = options.seed ^ events.wrapping_mul(0x9e37_79b9);
        Ok(Some(Sampler::new(SamplerOptions { seed, ..*options })?))
    }

    /// Decodes what follows a window of its own, behind the source.
    pub(super) fn decode_window(
        &self,
        window: &Window,
        legal: &Legal,
        events: u64,
    ) -> Result<Decoded, LiveError> {
        let mut ids = self.codec.source().to_vec();
        for piece in &window.pieces {
            self.codec.encode(&piece.piece, &mut ids)?;
        }
        self.check_room(self.base.len(), ids.len())?;
        // Nothing that is guessed by the line would fit.
        let pace = Pace::Plain;
        let sampler = self.sampler(events)?;
        let decoder = Decoder::new(&self.engine, &self.codec, legal, pace, sampler);
        decoder.decode(&self.base, &ids, &mut Memory::new(costs()))
    }

    /// Whether so many tokens, some of them known, fit the context.
    fn check_room(&self, len: usize, all: usize) -> Result<(), LiveError> {
        let max_positions = self.engine.max_positions();
        match all <= max_positions {
            true => Ok(()),
            false => Err(LiveError::Engine(crate::Error::ContextFull {
                len,
                added: all - len,
                max_positions,
            })),
        }
    }

    /// The value of `what`, which held `before`.
    pub(super) fn text(
        &self,
        window: Option<&Window>,
        what: &str,
        before: Option<&Local>,
        value: &DraftValue,
    ) -> Result<Value, LiveError> {
        let before = before.map(|local| &*local.value.repr);
        let focus = window.and_then(Window::focus);
        let shown = focus.map_or(&[][..], |focus| &focus.values);
        let text = self.codec.decode_told(&value.ids, before, shown);
        text.map(Value::new)
            .ok_or_else(|| LiveError::Malformed(what.to_owned()))
    }

    /// Makes a whole frame out of a draft.
    pub(super) fn frame(
        &self,
        at: &Point,
        draft: Draft,
        logprob: f64,
    ) -> Result<Predicted, LiveError> {
        let machine = &at.machine;
        let mut locals: Vec<Local> = machine.locals().to_vec();
        locals.retain(|l| !draft.deleted.contains(&l.name));
        let mut changes = Vec::new();
        for (name, value) in &draft.changes {
            let before = machine.locals().iter().find(|l| l.name == *name);
            let text = self.text(machine.window(), name, before, value)?;
            changes.push((name.clone(), probability(value.logprob)));
            match locals.iter_mut().find(|l| l.name == *name) {
                Some(local) => local.value = text,
                None => locals.push(Local {
                    name: name.clone(),
                    value: text,
                }),
            }
        }
        let mut event = Event {
            kind: EventKind::Line,
            activation: machine.activation().unwrap_or(0),
            function: 0,
            line: machine.line().unwrap_or(0),
            locals,
            value: None,
        };
        let mut depth = machine.depth() as u32 - 1;
        let mut definition = machine.definition().unwrap_or(0);
        let mut value_probability = None;
        let mut valued = |event: &mut Event, kind, value: &DraftValue| -> Result<(), LiveError> {
            event.kind = kind;
            event.value = Some(self.text(machine.window(), "the value", None, value)?);
            value_probability = Some(probability(value.logprob));
            Ok(())
        };
        match &draft.ending {
            Ending::Line(line) => event.line = *line,
            Ending::Return(value) => valued(&mut event, EventKind::Return, value)?,
            Ending::Yield(value) => valued(&mut event, EventKind::Yield, value)?,
            Ending::Exception(value) => {
                valued(&mut event, EventKind::Exception, value)?;
                event.locals.clear();
            }
            Ending::Unwind => event.kind = EventKind::Unwind,
            Ending::State | Ending::Exit(_) => return Err(LiveError::Endless),
            Ending::Call { line, arguments } => {
                depth += 1;
                definition = *line;
                event.kind = EventKind::Call;
                event.activation = at.next_activation;
                event.line = *line;
                event.locals.clear();
                for (name, value) in arguments {
                    changes.push((name.clone(), probability(value.logprob)));
                    let value = self.text(machine.window(), name, None, value)?;
                    event.locals.push(Local {
                        name: name.clone(),
                        value,
                    });
                }
            }
            Ending::Resume { definition: line } => {
                depth += 1;
                definition = *line;
                event.kind = EventKind::Resume;
                if let Some((id, at_line, known)) = machine.suspended(*line) {
                    event.activation = id;
                    event.line = at_line;
                    event.locals = known.to_vec();
                }
            }
        }
        let (index, definition) = self.definition(definition);
        event.function = index;
        Ok(Predicted {
            event,
            function: definition.name.clone(),
            depth,
            changes,
            value_probability,
            probability: probability(logprob),
            working: draft
                .working
                .iter()
                .filter_map(|step| self.codec.decode_step(&step.ids))
                .collect(),
        })
    }
}

/// What a pass of some tokens costs, by that of one: measured with the shipped model in f32 on one
/// thread, 78 us for one token and 274 for eight. It decides how much is guessed, and so no more than
/// the speed.
fn costs() -> PassCosts {
    let points = [(1, 1.0), (4, 1.8), (8, 3.5), (16, 7.0)];
    PassCosts::new(&points).expect("costs rise from one token")
}

pub(super) fn probability(logprob: f64) -> f32 {
    logprob.exp() as f32
}
