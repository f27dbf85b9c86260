//! What may answer for a jump (`specs/live.md`, "Jumps").
//!
//! Forwards: `over` is a frame without working, call or resumption; `leave` is `return value item`, `yield value item`
//! or `unwind`; `until` is `(NAME value item)* end`, `normal` or `error`; `finish` is one of these two. Backwards:
//! `before` is `LINE (delete NAME | NAME value item)* end` or `call (NAME value item)* end`; `into` may also be
//! `LINE return value item` and `LINE yield value item`; `input` is `(NAME value item)* end`.

use std::collections::BTreeSet;

use cwm_tokenizer::nano::{Codec, Token};
use cwm_trace::live::{Ahead, Behind, Exit, Later, LineKind, Mark, Outline};

use super::{Definition, Draft, Ending, FrameGrammar, Legal, Place, Target, Wanted, callees};

impl Legal {
    /// Nothing but the return of a value.
    pub(in crate::live) fn only_return(self) -> Self {
        Self {
            wanted: Wanted::Value,
            ..self
        }
    }

    /// Where an action may lead, instead of the next frame.
    pub(in crate::live) fn ahead(self, action: Ahead) -> Self {
        let wanted = match action {
            Ahead::Over => Wanted::Over,
            Ahead::Leave => Wanted::Leave,
            Ahead::Until(_) => Wanted::Arrival,
            Ahead::Finish => Wanted::Exit,
        };
        let mut legal = Self { wanted, ..self };
        if wanted == Wanted::Arrival {
            legal.shown.clear();
        }
        legal
    }

    /// Where an action may lead back from what is known of a later state.
    pub(in crate::live) fn behind(
        codec: &Codec,
        outline: &Outline,
        definitions: &[Definition],
        later: Later<'_>,
        action: Behind,
    ) -> Self {
        let (line, locals) = match later {
            Later::Line { line, locals } => (line, locals),
            Later::Return { line, .. } => (line, &[][..]),
        };
        let scope = function_of(outline, line);
        let has_code = |&line: &u32| {
            let kind = outline.line(line).map(|info| info.kind);
            kind.is_some_and(|kind| kind != LineKind::Blank)
        };
        let lines: BTreeSet<u32> = match action {
            Behind::Into => (1..=outline.len()).filter(has_code).collect(),
            Behind::Before | Behind::Input => outline.scope_lines(scope).collect(),
        };
        Self {
            names: codec.name_ids().into_iter().collect(),
            lines,
            next: Vec::new(),
            callees: callees(codec, definitions),
            bound: locals.iter().map(|l| l.name.clone()).collect(),
            suspended: BTreeSet::new(),
            bindable: None,
            shown: BTreeSet::new(),
            values: locals
                .iter()
                .map(|l| (l.name.clone(), l.value.repr.clone()))
                .collect(),
            returns: true,
            yields: true,
            raised: false,
            wanted: match action {
                Behind::Before => Wanted::Before,
                Behind::Into => Wanted::Into,
                Behind::Input => Wanted::Input,
            },
            called: call_line(outline, line),
        }
    }

    /// Whether a state is to be told that is not the next one.
    pub(super) fn is_landing(&self) -> bool {
        self.wanted == Wanted::Arrival || self.is_back()
    }

    /// Whether an earlier state is to be told.
    pub(super) fn is_back(&self) -> bool {
        matches!(self.wanted, Wanted::Before | Wanted::Into | Wanted::Input)
    }
}

/// Line of the call events of the function that a line belongs to; 0 for the module.
pub(in crate::live) fn call_line(outline: &Outline, line: u32) -> u32 {
    let scope = function_of(outline, line);
    let found = outline.definitions().find(|&(_, own)| own == scope);
    found.map_or(0, |(line, _)| line)
}

/// The line of the `def` that a line belongs to; 0 for the module.
fn function_of(outline: &Outline, line: u32) -> u32 {
    let mut scope = outline.line(line).map_or(0, |info| info.scope);
    while outline
        .line(scope)
        .is_some_and(|info| info.kind == LineKind::Class)
    {
        scope = outline.line(scope).map_or(0, |info| info.scope);
    }
    scope
}

impl FrameGrammar<'_> {
    pub(super) fn allows_leaving(&self, token: Token) -> bool {
        match token {
            Token::Mark(Mark::Return | Mark::Unwind) => true,
            Token::Mark(Mark::Yield) => self.legal.yields,
            _ => false,
        }
    }

    pub(super) fn allows_arrival(&self, id: u32, token: Token) -> bool {
        let is_state = self.legal.wanted == Wanted::Arrival;
        match token {
            Token::Mark(Mark::Normal | Mark::Error) => self.changes.is_empty(),
            Token::Mark(Mark::End) => is_state,
            _ => is_state && self.is_new_name(id),
        }
    }

    pub(super) fn allows_back(&self, token: Token) -> bool {
        match token {
            Token::Line(line) => self.legal.lines.contains(&line),
            Token::Mark(Mark::Call) => true,
            _ => false,
        }
    }

    pub(super) fn allows_earlier(&self, id: u32, token: Token) -> bool {
        let untouched = self.changes.is_empty() && self.deleted.is_empty();
        match token {
            Token::Mark(Mark::End) => true,
            Token::Mark(Mark::Delete) => self.legal.bound.iter().any(|name| {
                let is_told = self.changes.iter().any(|(told, _)| told == name);
                !is_told && !self.deleted.contains(name)
            }),
            Token::Mark(Mark::Return | Mark::Yield) => {
                untouched && self.legal.wanted == Wanted::Into
            }
            _ => self.is_new_name(id),
        }
    }

    pub(super) fn take_landing(&mut self, id: u32, token: Token) -> Option<Draft> {
        match token {
            Token::Mark(Mark::Normal) => return self.finish(Ending::Exit(Exit::Normal)),
            Token::Mark(Mark::Error) => return self.finish(Ending::Exit(Exit::Error)),
            Token::Mark(Mark::End) => return self.finish(Ending::State),
            Token::Line(line) => {
                self.line = Some(line);
                self.place = Place::Earlier;
            }
            Token::Mark(Mark::Call) => self.place = Place::CallArgument,
            Token::Mark(Mark::Delete) => self.place = Place::DeleteName,
            Token::Mark(Mark::Return) => self.begin(Target::Return),
            Token::Mark(Mark::Yield) => self.begin(Target::Yield),
            _ => {
                let name = self.codec.name(id)?;
                self.begin(Target::Change(name));
            }
        }
        None
    }
}
