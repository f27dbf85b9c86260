//! Jumps: what an action of a debugger leads to, predicted at once.
//!
//! The question is a window of its own ([`cwm_trace::live::ahead`], [`behind`]); its answer is decoded under a grammar
//! of its own, and is as legal as a frame is: names and lines are those of the program. Whether it is right is another
//! matter, since no step on the way is taken.

use std::sync::Arc;

use cwm_trace::live::{Ahead, Behind, Exit, Jump, Later, Window, ahead, behind};
use cwm_trace::{Event, EventKind, Local, Value};

use super::grammar::{DraftValue, Ending, Legal, call_line};
use super::predictor::{LiveError, Point, Predicted, Predictor, probability};

/// Where a jump leads, and how sure the model is of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Landed {
    /// Where.
    pub landing: Landing,
    /// Probability of all of it, among all that might legally answer.
    pub probability: f32,
}

/// Where a jump leads.
#[derive(Clone, Debug, PartialEq)]
pub enum Landing {
    /// To a state. Its activation is that of the question, unless a call was entered or left on the way; then it is not
    /// known. An event that leaves an activation says nothing of its locals.
    State(Event),
    /// Out of the run.
    Exit(Exit),
}

impl Predictor {
    /// Whether the model was trained to jump.
    pub fn can_jump(&self) -> bool {
        self.codec.vocabulary().has_jumps()
    }

    /// Where an action leads from `at`.
    ///
    /// # Errors
    /// [`LiveError::NoJumps`], [`LiveError::InsideLine`], [`LiveError::NoLine`], and as [`Predictor::next`].
    pub fn jump(&self, at: &Point, action: Ahead) -> Result<Landed, LiveError> {
        self.check_jumps()?;
        if let Ahead::Until(line) = action {
            self.check_line(line)?;
        }
        let window = ahead(&at.machine, action).ok_or(LiveError::InsideLine)?;
        let legal = self.legal(at).ahead(action);
        let decoded = self.decode_window(&window, &legal, at.events)?;
        let probability = probability(decoded.logprob);
        let draft = decoded.draft;
        let landing = match (action, &draft.ending) {
            (_, Ending::Exit(exit)) => Landing::Exit(*exit),
            (Ahead::Until(line), _) => {
                let known = at.machine.locals();
                Landing::State(Event {
                    function: self.definition(call_line(at.machine.outline(), line)).0,
                    locals: self.told(&window, &draft.changes, known)?,
                    ..state(EventKind::Line, line)
                })
            }
            _ => {
                let mut event = self.frame(at, draft, decoded.logprob)?.event;
                if action == Ahead::Leave {
                    event.locals.clear();
                }
                Landing::State(event)
            }
        };
        Ok(Landed {
            landing,
            probability,
        })
    }

    /// Goes over the calls of the line that is about to run to what follows in its activation, at once. What happened in
    /// between is not known, and neither is what it did to anything that the activation does not see. `None` where that
    /// leads out of the run.
    ///
    /// # Errors
    /// As [`Predictor::jump`].
    pub fn leap(&self, at: &Point) -> Result<Option<(Point, Predicted)>, LiveError> {
        self.check_jumps()?;
        let window = ahead(&at.machine, Ahead::Over).ok_or(LiveError::InsideLine)?;
        let legal = self.legal(at).ahead(Ahead::Over);
        let decoded = self.decode_window(&window, &legal, at.events)?;
        if matches!(decoded.draft.ending, Ending::Exit(_)) {
            return Ok(None);
        }
        let predicted = self.frame(at, decoded.draft, decoded.logprob)?;
        let point = self.follow(at, &predicted.event)?;
        Ok(Some((point, predicted)))
    }

    /// Where an action leads back from what is known of a later state.
    ///
    /// # Errors
    /// As [`Predictor::jump`].
    pub fn look_back(&self, later: Later<'_>, action: Behind) -> Result<Landed, LiveError> {
        self.check_jumps()?;
        let (line, known) = match later {
            Later::Line { line, locals } => (line, locals),
            Later::Return { line, .. } => (line, &[][..]),
        };
        self.check_line(line)?;
        let outline = self.machine.outline();
        let window = behind(later, action);
        let legal = self.legal_back(later, action);
        let decoded = self.decode_window(&window, &legal, 0)?;
        let draft = decoded.draft;
        let line = draft.line.unwrap_or(line);
        let called = call_line(outline, line);
        let event = match &draft.ending {
            Ending::Call { arguments, .. } => Event {
                locals: self.told(&window, arguments, known)?,
                ..state(EventKind::Call, called)
            },
            Ending::Return(value) => Event {
                value: Some(self.value(&window, value)?),
                ..state(EventKind::Return, line)
            },
            Ending::Yield(value) => Event {
                value: Some(self.value(&window, value)?),
                ..state(EventKind::Yield, line)
            },
            _ => {
                let changed = self.told(&window, &draft.changes, known)?;
                let is_gone = |local: &&Local| {
                    let is_told = changed.iter().any(|new| new.name == local.name);
                    !is_told && !draft.deleted.contains(&local.name)
                };
                let kept = known.iter().filter(is_gone).cloned();
                let locals = kept.chain(changed.iter().cloned()).collect();
                Event {
                    locals,
                    ..state(EventKind::Line, line)
                }
            }
        };
        Ok(Landed {
            landing: Landing::State(Event {
                function: self.definition(called).0,
                ..event
            }),
            probability: probability(decoded.logprob),
        })
    }

    /// Whether the grammar that jumps are held to allows the answer in a window of
    /// [`Answers`](cwm_trace::live::Answers). It should allow whatever Python does. `at` is the moment of a jump
    /// ahead, and of no interest to one back.
    ///
    /// # Errors
    /// When a name or line of the answer is not in the program.
    pub fn is_legal_jump(
        &self,
        at: &Point,
        later: Option<Later<'_>>,
        jump: Jump,
        answered: &Window,
    ) -> Result<bool, LiveError> {
        let legal = match (jump, later) {
            (Jump::Ahead(action), _) => self.legal(at).ahead(action),
            (Jump::Behind(action), Some(later)) => self.legal_back(later, action),
            (Jump::Behind(_), None) => return Ok(false),
        };
        let mut ids = Vec::new();
        for word in answered.pieces.iter().filter(|word| word.predicted) {
            self.codec.encode(&word.piece, &mut ids)?;
        }
        Ok(self.allows(&legal, &ids))
    }

    fn legal_back(&self, later: Later<'_>, action: Behind) -> Legal {
        let outline = self.machine.outline();
        Legal::behind(&self.codec, outline, &self.definitions, later, action)
    }

    /// Name of the function that an event's number stands for.
    pub fn function(&self, event: &Event) -> &str {
        let found = self.definitions.get(event.function as usize);
        found.map_or("<module>", |definition| &definition.name)
    }

    fn check_jumps(&self) -> Result<(), LiveError> {
        self.can_jump().then_some(()).ok_or(LiveError::NoJumps)
    }

    fn check_line(&self, line: u32) -> Result<(), LiveError> {
        let lines = self.machine.outline().len();
        match (1..=lines).contains(&line) {
            true => Ok(()),
            false => Err(LiveError::NoLine(line, lines)),
        }
    }

    /// Variables as they were told, where they may be told by what is known.
    fn told(
        &self,
        window: &Window,
        told: &[(Arc<str>, DraftValue)],
        known: &[Local],
    ) -> Result<Vec<Local>, LiveError> {
        let local = |(name, value): &(Arc<str>, DraftValue)| {
            let before = known.iter().find(|local| local.name == *name);
            let value = self.text(Some(window), name, before, value)?;
            let name = name.clone();
            Ok(Local { name, value })
        };
        told.iter().map(local).collect()
    }

    fn value(&self, window: &Window, value: &DraftValue) -> Result<Value, LiveError> {
        self.text(Some(window), "the value", None, value)
    }
}

/// An event of an activation that is not known, without locals.
fn state(kind: EventKind, line: u32) -> Event {
    Event {
        kind,
        activation: 0,
        function: 0,
        line,
        locals: Vec::new(),
        value: None,
    }
}
