//! What a frame may look like, token by token.
//!
//! A frame is `(work step item)*`, then `(NAME value item | delete NAME)*`,
//! then an ending: `LINE`, `return value item`, `yield value item`, `unwind`,
//! and without changes before it `exception value item`,
//! `call LINE (NAME value item)* end` and `resume LINE`. A value but that of an
//! exception may be told as an edit, `keep [#n] items [rest #m]`, and it or an
//! item in it as `same NAME`. Which names, lines and endings there are is taken
//! from the program and the state of the run; the next line is one of those
//! that [`Flow`](cwm_trace::live::Flow) says control can reach. What may answer for a jump is in
//! [`jump`].

mod jump;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cwm_tokenizer::nano::{Codec, Shape, Token};
use cwm_trace::live::{Exit, LineKind, Machine, Mark, Piece, Window};

use super::definitions::Definition;

pub(super) use jump::call_line;

/// A value as decoded so far.
#[derive(Clone, Debug, Default)]
pub(super) struct DraftValue {
    pub(super) ids: Vec<u32>,
    pub(super) logprob: f64,
}

/// How a frame ends.
#[derive(Clone, Debug)]
pub(super) enum Ending {
    Line(u32),
    Call {
        line: u32,
        arguments: Vec<(Arc<str>, DraftValue)>,
    },
    Resume {
        definition: u32,
    },
    Return(DraftValue),
    Yield(DraftValue),
    Exception(DraftValue),
    Unwind,
    /// The locals of a state that a jump leads to are those told before.
    State,
    /// A jump leads out of the run.
    Exit(Exit),
}

/// What is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The next frame.
    Frame,
    /// The next frame of the running activation, at once.
    Over,
    /// How the running activation is left, at once.
    Leave,
    /// What it returns, at once.
    Value,
    /// The locals at a line that is known, or how the run ends without.
    Arrival,
    /// How the run ends.
    Exit,
    /// A line, and its locals where they differ from those that are known, or a call.
    Before,
    /// The same, or what a call gave.
    Into,
    /// Arguments of a call.
    Input,
}

/// Tokens of a working, marks included, after which no further step may begin.
/// Models are trained on workings of at most 620 characters.
const MAX_WORKING: usize = 640;

/// Tokens that one step may take before it has to close what is open, and end.
const MAX_STEP: usize = 80;

/// A decoded frame.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    /// The steps written before it.
    pub(super) working: Vec<DraftValue>,
    pub(super) changes: Vec<(Arc<str>, DraftValue)>,
    pub(super) deleted: Vec<Arc<str>>,
    /// The line of an earlier state, which is told before all else.
    pub(super) line: Option<u32>,
    pub(super) ending: Ending,
}

/// The program's part of the grammar, for one state of a run.
pub(super) struct Legal {
    names: BTreeSet<u32>,
    lines: BTreeSet<u32>,
    /// The lines that are chosen by their place in this list, and not by number.
    next: Vec<u32>,
    /// Ids of the parameters by line of the call event.
    callees: BTreeMap<u32, Vec<u32>>,
    /// Variables that are bound, hence can vanish.
    bound: BTreeSet<Arc<str>>,
    suspended: BTreeSet<u32>,
    /// Names that may become bound: those the statement mentions, or all
    /// where it cannot be known.
    bindable: Option<BTreeSet<Arc<str>>>,
    /// Ids of the variables whose values the focus shows.
    shown: BTreeSet<u32>,
    /// Values before the frame.
    values: BTreeMap<Arc<str>, Arc<str>>,
    returns: bool,
    yields: bool,
    raised: bool,
    wanted: Wanted,
    /// Line of the call events of the function whose arguments may be told without its line.
    called: u32,
}

impl Legal {
    /// What the next frame may be.
    pub(super) fn new(
        codec: &Codec,
        machine: &Machine,
        definitions: &[Definition],
        source: &[&str],
    ) -> Self {
        let outline = machine.outline();
        let flow = machine.flow();
        let scope = machine.scope().unwrap_or(0);
        let scope_lines = || outline.scope_lines(scope).collect::<BTreeSet<u32>>();
        let has_yield = |&n: &u32| {
            source
                .get(n as usize - 1)
                .is_some_and(|text| text.contains("yield"))
        };
        let lines = match machine.line() {
            _ if machine.raised() => scope_lines(),
            line if line == machine.definition() => flow.first(scope),
            Some(line) => flow.successors(line).unwrap_or_else(scope_lines),
            None => scope_lines(),
        };
        let callees = callees(codec, definitions);
        let suspended = callees
            .keys()
            .copied()
            .filter(|&line| machine.suspended(line).is_some())
            .collect();
        Self {
            names: codec.name_ids().into_iter().collect(),
            yields: scope_lines().iter().any(has_yield),
            lines,
            next: machine
                .window()
                .map_or(Vec::new(), |window| window.next_lines().to_vec()),
            callees,
            bound: machine.locals().iter().map(|l| l.name.clone()).collect(),
            suspended,
            bindable: bindable(machine, source),
            shown: machine
                .window()
                .and_then(Window::focus)
                .map_or(&[][..], |focus| &focus.values)
                .iter()
                .filter_map(|(name, _)| id_of(codec, name.clone()))
                .collect(),
            values: machine
                .locals()
                .iter()
                .map(|l| (l.name.clone(), l.value.repr.clone()))
                .collect(),
            returns: returns(machine),
            raised: machine.raised(),
            wanted: Wanted::Frame,
            called: 0,
        }
    }
}

fn id_of(codec: &Codec, name: Arc<str>) -> Option<u32> {
    let mut ids = Vec::new();
    codec.encode(&Piece::Name(name), &mut ids).ok()?;
    ids.first().copied()
}

/// Ids of the parameters of every function by line of its call events.
fn callees(codec: &Codec, definitions: &[Definition]) -> BTreeMap<u32, Vec<u32>> {
    let ids = |definition: &Definition| {
        let names = definition.parameters().into_iter();
        names.filter_map(|name| id_of(codec, name)).collect()
    };
    let functions = definitions.iter().filter(|d| d.line > 0);
    functions.map(|d| (d.line, ids(d))).collect()
}

/// Names that the statement about to run may bind. A definition binds its
/// name only after its decorators ran, and functions that declare a name
/// `global` or `nonlocal` bind it for others: then any name will do.
fn bindable(machine: &Machine, source: &[&str]) -> Option<BTreeSet<Arc<str>>> {
    let declares = |line: &&str| {
        let line = line.trim_start();
        line.starts_with("global ") || line.starts_with("nonlocal ")
    };
    let line = machine.line().unwrap_or(0);
    let kind = machine.outline().line(line).map(|l| l.kind);
    let plain = matches!(
        kind,
        Some(LineKind::Statement | LineKind::For | LineKind::Continuation)
    );
    (plain && !source.iter().any(declares)).then(|| machine.words().cloned().collect())
}

/// Whether the running activation may return now.
fn returns(machine: &Machine) -> bool {
    let (Some(line), flow) = (machine.line(), machine.flow()) else {
        return true;
    };
    let scope = machine.scope().unwrap_or(0);
    if machine.raised() || line == scope {
        return true;
    }
    if Some(line) == machine.definition() {
        return flow.first(scope).contains(&scope);
    }
    flow.may_end(line) || machine.words().any(|word| &**word == "return")
}

#[derive(Clone)]
enum Place {
    /// Before a change or an ending.
    Start,
    DeleteName,
    Value(Target),
    CallLine,
    CallArgument,
    ResumeLine,
    /// Before a variable of the state that a jump leads to, or where the run ends.
    Arrival,
    /// Before the line of an earlier state.
    Back,
    /// Before a variable of an earlier state.
    Earlier,
}

#[derive(Clone)]
enum Target {
    Step,
    Change(Arc<str>),
    Argument(Arc<str>),
    Return,
    Yield,
    Exception,
}

/// How a value is being told.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Telling {
    /// Written out.
    #[default]
    Whole,
    /// As an edit: `keep` was said, perhaps a number follows.
    Kept(Shape),
    /// As an edit: what stands between `keep` and `rest`.
    Between(Shape),
    /// As an edit: the number of `rest` follows.
    Rest(Shape),
    /// It is complete.
    Done,
}

/// Where inside a value the decoder is.
#[derive(Clone, Default)]
struct ValueState {
    telling: Telling,
    /// The last token.
    last: Option<Token>,
    /// Whether the last token named a variable for its value.
    is_named: bool,
    /// What the value may be an edit of.
    shape: Option<Shape>,
    /// The token that closes the open string or raw text.
    open: Option<Token>,
    /// Open brackets, each with the index of its last item.
    brackets: Vec<(&'static str, u32)>,
}

/// Follows one frame.
#[derive(Clone)]
pub(super) struct FrameGrammar<'a> {
    codec: &'a Codec,
    legal: &'a Legal,
    place: Place,
    value: DraftValue,
    state: ValueState,
    working: Vec<DraftValue>,
    changes: Vec<(Arc<str>, DraftValue)>,
    deleted: Vec<Arc<str>>,
    line: Option<u32>,
    call_line: u32,
    arguments: Vec<(Arc<str>, DraftValue)>,
}

impl<'a> FrameGrammar<'a> {
    pub(super) fn new(codec: &'a Codec, legal: &'a Legal) -> Self {
        Self {
            codec,
            legal,
            place: home(legal.wanted, None),
            line: None,
            value: DraftValue::default(),
            state: ValueState::default(),
            working: Vec::new(),
            changes: Vec::new(),
            deleted: Vec::new(),
            call_line: legal.called,
            arguments: Vec::new(),
        }
    }

    /// Whether the frame may go on with `id`.
    pub(super) fn allows(&self, id: u32) -> bool {
        let Some(token) = self.codec.token(id) else {
            return false;
        };
        match &self.place {
            Place::Start => self.allows_at_start(id, token),
            Place::DeleteName => {
                self.is_new_name(id)
                    && self
                        .codec
                        .name(id)
                        .is_some_and(|name| self.legal.bound.contains(&name))
            }
            Place::Value(_) => self.allows_in_value(id, token),
            Place::CallLine => {
                matches!(token, Token::Line(n) if self.legal.callees.contains_key(&n))
            }
            Place::CallArgument => self.allows_argument(id, token),
            Place::ResumeLine => {
                matches!(token, Token::Line(n) if self.legal.suspended.contains(&n))
            }
            Place::Arrival => self.allows_arrival(id, token),
            Place::Back => self.allows_back(token),
            Place::Earlier => self.allows_earlier(id, token),
        }
    }

    fn allows_at_start(&self, id: u32, token: Token) -> bool {
        let untouched = self.changes.is_empty() && self.deleted.is_empty();
        let is_frame = self.legal.wanted == Wanted::Frame;
        match self.legal.wanted {
            Wanted::Value => return token == Token::Mark(Mark::Return),
            Wanted::Leave => return self.allows_leaving(token),
            _ => {}
        }
        match token {
            Token::Line(n) => self.legal.lines.contains(&n) && !self.legal.next.contains(&n),
            Token::Choice(n) => {
                let chosen = self.legal.next.get(n as usize);
                chosen.is_some_and(|line| self.legal.lines.contains(line))
            }
            Token::Mark(Mark::Return) => self.legal.returns,
            Token::Mark(Mark::Delete) => !self.legal.bound.is_empty(),
            Token::Mark(Mark::Yield) => self.legal.yields,
            Token::Mark(Mark::Unwind) => self.legal.raised,
            Token::Mark(Mark::Exception) => untouched,
            Token::Mark(Mark::Work) => is_frame && untouched && self.may_work(),
            Token::Mark(Mark::Call) => is_frame && untouched && !self.legal.callees.is_empty(),
            Token::Mark(Mark::Resume) => is_frame && untouched && !self.legal.suspended.is_empty(),
            _ => self.is_new_name(id) && self.may_change(id),
        }
    }

    fn may_work(&self) -> bool {
        let used: usize = self.working.iter().map(|step| step.ids.len() + 2).sum();
        used < MAX_WORKING
    }

    /// Whether the next token belongs to the working, or begins a step of it.
    pub(super) fn is_working(&self, next: u32) -> bool {
        match &self.place {
            Place::Value(target) => matches!(target, Target::Step),
            Place::Start => self.codec.token(next) == Some(Token::Mark(Mark::Work)),
            _ => false,
        }
    }

    /// Whether the frame may give the variable a value: it has one, or the
    /// statement mentions it.
    fn may_change(&self, id: u32) -> bool {
        let Some(bindable) = &self.legal.bindable else {
            return true;
        };
        self.codec
            .name(id)
            .is_some_and(|name| self.legal.bound.contains(&name) || bindable.contains(&name))
    }

    /// All parameters in order, then any variables that the callee captures.
    fn allows_argument(&self, id: u32, token: Token) -> bool {
        let parameters = self.legal.callees.get(&self.call_line);
        match parameters.and_then(|p| p.get(self.arguments.len())) {
            Some(&next) => id == next,
            None => token == Token::Mark(Mark::End) || self.is_new_name(id),
        }
    }

    /// Tokens of the value in hand.
    pub(super) fn value_len(&self) -> usize {
        self.value.ids.len()
    }

    fn is_new_name(&self, id: u32) -> bool {
        self.legal.names.contains(&id)
            && self.codec.name(id).is_some_and(|name| {
                let used = self
                    .changes
                    .iter()
                    .chain(&self.arguments)
                    .any(|(n, _)| *n == name);
                !used && !self.deleted.contains(&name)
            })
    }

    fn allows_in_value(&self, id: u32, token: Token) -> bool {
        let is_item = token == Token::Mark(Mark::Item);
        if matches!(self.place, Place::Value(Target::Step)) && self.value_len() >= MAX_STEP {
            return self.state.closes(token);
        }
        let begins = self.value.ids.is_empty();
        if self.state.open.is_none() {
            if self.state.last == Some(Token::Same) {
                return self.legal.shown.contains(&id);
            }
            if token == Token::Same {
                return self.may_be_same();
            }
            let ends = matches!(
                token,
                Token::Mark(Mark::Item)
                    | Token::Rest
                    | Token::Ordinal(_)
                    | Token::Operator(")" | "]" | "}" | ",")
            );
            if self.state.is_named && !ends {
                return false;
            }
        }
        match self.state.telling {
            Telling::Done => is_item,
            Telling::Rest(shape) => matches!(token, Token::Ordinal(n) if n < shape.items),
            Telling::Whole if begins => match token {
                Token::Keep => self.state.shape.is_some(),
                _ => self.allows_in_plain(id, token),
            },
            Telling::Whole => self.allows_in_plain(id, token),
            Telling::Kept(shape) => match token {
                Token::Ordinal(n) => n < shape.items,
                // What a line gives a value is not what it was; in another state it may be.
                Token::Mark(Mark::Item) => self.legal.is_landing(),
                Token::Rest => false,
                _ => self.allows_between(shape, id, token),
            },
            Telling::Between(shape) => self.allows_between(shape, id, token),
        }
    }

    /// Whether a variable may be named for its value: where a value or an item
    /// begins, but not among characters.
    fn may_be_same(&self) -> bool {
        let is_told = !matches!(self.place, Place::Value(Target::Exception | Target::Step));
        let among_characters = match self.state.telling {
            Telling::Whole => false,
            Telling::Kept(shape) | Telling::Between(shape) => shape.is_text,
            Telling::Rest(_) | Telling::Done => true,
        };
        let begins = match self.state.last {
            None | Some(Token::Ordinal(_) | Token::Keep) => true,
            Some(Token::Operator(open)) => matches!(open, "(" | "[" | "{"),
            _ => false,
        };
        is_told && !among_characters && begins && !self.legal.shown.is_empty()
    }

    /// Whether an edit may go on with `id` between what is kept.
    fn allows_between(&self, shape: Shape, id: u32, token: Token) -> bool {
        let outside = self.state.open.is_none() && self.state.brackets.is_empty();
        match token {
            Token::Char(_) | Token::Escape(_) | Token::Byte(_) if outside => shape.is_text,
            _ if shape.is_text => matches!(token, Token::Mark(Mark::Item) | Token::Rest),
            Token::Ordinal(_) | Token::Rest if outside => true,
            _ => self.allows_in_plain(id, token),
        }
    }

    fn allows_in_plain(&self, id: u32, token: Token) -> bool {
        match self.state.open {
            Some(close) => {
                token == close
                    || matches!(token, Token::Char(_) | Token::Escape(_) | Token::Byte(_))
            }
            None => match token {
                Token::Mark(Mark::Item) => {
                    self.state.brackets.is_empty() && !self.value.ids.is_empty()
                }
                Token::Operator(close @ (")" | "]" | "}")) => {
                    let open = self.state.brackets.last();
                    open.is_some_and(|(open, _)| closes(open, close))
                }
                Token::Symbol(_) => self.codec.name(id).is_some(),
                Token::Raw => self.value.ids.is_empty(),
                Token::Digit(_)
                | Token::NumberPart(_)
                | Token::Quote(_)
                | Token::Operator(_)
                | Token::Word(_) => true,
                Token::Ordinal(n) => {
                    let open = self.state.brackets.last();
                    open.is_some_and(|(_, last)| n == (last + 1) % Codec::ORDINALS)
                }
                _ => false,
            },
        }
    }

    /// Takes an allowed token; gives the frame when it is whole.
    pub(super) fn take(&mut self, id: u32, logprob: f64) -> Option<Draft> {
        let token = self.codec.token(id)?;
        let home = home(self.legal.wanted, self.line);
        match std::mem::replace(&mut self.place, home) {
            Place::Start => return self.take_start(id, token),
            Place::DeleteName => self.deleted.extend(self.codec.name(id)),
            Place::CallLine => {
                if let Token::Line(n) = token {
                    self.call_line = n;
                }
                self.place = Place::CallArgument;
            }
            Place::CallArgument => match self.codec.name(id) {
                Some(name) => self.begin(Target::Argument(name)),
                None => {
                    let arguments = std::mem::take(&mut self.arguments);
                    return self.finish(Ending::Call {
                        line: self.call_line,
                        arguments,
                    });
                }
            },
            Place::ResumeLine => {
                if let Token::Line(definition) = token {
                    return self.finish(Ending::Resume { definition });
                }
            }
            Place::Arrival | Place::Back | Place::Earlier => return self.take_landing(id, token),
            Place::Value(target) => {
                self.value.logprob += logprob;
                if token == Token::Mark(Mark::Item) && self.state.open.is_none() {
                    return self.end_value(target);
                }
                self.state.take(token);
                self.value.ids.push(id);
                self.place = Place::Value(target);
            }
        }
        None
    }

    fn take_start(&mut self, id: u32, token: Token) -> Option<Draft> {
        match token {
            Token::Line(n) => return self.finish(Ending::Line(n)),
            Token::Choice(n) => {
                let line = self.legal.next.get(n as usize).copied()?;
                return self.finish(Ending::Line(line));
            }
            Token::Mark(Mark::Unwind) => return self.finish(Ending::Unwind),
            Token::Mark(Mark::Delete) => self.place = Place::DeleteName,
            Token::Mark(Mark::Call) => self.place = Place::CallLine,
            Token::Mark(Mark::Resume) => self.place = Place::ResumeLine,
            Token::Mark(Mark::Work) => self.begin(Target::Step),
            Token::Mark(Mark::Return) => self.begin(Target::Return),
            Token::Mark(Mark::Yield) => self.begin(Target::Yield),
            Token::Mark(Mark::Exception) => self.begin(Target::Exception),
            _ => {
                let name = self.codec.name(id)?;
                self.begin(Target::Change(name));
            }
        }
        None
    }

    fn begin(&mut self, target: Target) {
        let before = match &target {
            Target::Change(name) => self.legal.values.get(name),
            // What is known of a later state may tell what was passed in.
            Target::Argument(name) if self.legal.is_back() => self.legal.values.get(name),
            _ => None,
        };
        self.value = DraftValue::default();
        self.state = ValueState {
            shape: before.and_then(|text| self.codec.shape(text)),
            ..ValueState::default()
        };
        self.place = Place::Value(target);
    }

    fn end_value(&mut self, target: Target) -> Option<Draft> {
        let value = std::mem::take(&mut self.value);
        match target {
            Target::Step => self.working.push(value),
            Target::Change(name) => self.changes.push((name, value)),
            Target::Argument(name) => {
                self.arguments.push((name, value));
                self.place = Place::CallArgument;
            }
            Target::Return => return self.finish(Ending::Return(value)),
            Target::Yield => return self.finish(Ending::Yield(value)),
            Target::Exception => return self.finish(Ending::Exception(value)),
        }
        None
    }

    fn finish(&mut self, ending: Ending) -> Option<Draft> {
        Some(Draft {
            working: std::mem::take(&mut self.working),
            changes: std::mem::take(&mut self.changes),
            deleted: std::mem::take(&mut self.deleted),
            line: self.line,
            ending,
        })
    }
}

/// Where the telling begins, and goes on behind each variable.
fn home(wanted: Wanted, line: Option<u32>) -> Place {
    match (wanted, line) {
        (Wanted::Frame | Wanted::Over | Wanted::Leave | Wanted::Value, _) => Place::Start,
        (Wanted::Arrival | Wanted::Exit, _) => Place::Arrival,
        (Wanted::Before | Wanted::Into, None) => Place::Back,
        (Wanted::Before | Wanted::Into, Some(_)) => Place::Earlier,
        (Wanted::Input, _) => Place::CallArgument,
    }
}

fn closes(open: &str, close: &str) -> bool {
    matches!((open, close), ("(", ")") | ("[", "]") | ("{", "}"))
}

impl ValueState {
    /// Whether the token ends what is open, or the value where nothing is.
    fn closes(&self, token: Token) -> bool {
        match (self.open, self.brackets.last()) {
            (Some(close), _) => token == close,
            (None, Some((open, _))) => {
                matches!(token, Token::Operator(close) if closes(open, close))
            }
            (None, None) => token == Token::Mark(Mark::Item),
        }
    }

    fn take(&mut self, token: Token) {
        self.telling = match (self.telling, token) {
            (Telling::Rest(_), _) => Telling::Done,
            (Telling::Whole, Token::Keep) => self.shape.map_or(Telling::Done, Telling::Kept),
            (Telling::Kept(shape) | Telling::Between(shape), Token::Rest) => Telling::Rest(shape),
            (Telling::Kept(shape), _) => Telling::Between(shape),
            (telling, _) => telling,
        };
        self.is_named = self.last == Some(Token::Same);
        self.last = Some(token);
        match (self.open, token) {
            (Some(close), _) if token == close => self.open = None,
            (Some(_), _) => {}
            (None, Token::Quote(_) | Token::Raw) => self.open = Some(token),
            (None, Token::Operator(open @ ("(" | "[" | "{"))) => self.brackets.push((open, 0)),
            (None, Token::Operator(")" | "]" | "}")) => {
                self.brackets.pop();
            }
            (None, Token::Ordinal(n)) => {
                if let Some((_, last)) = self.brackets.last_mut() {
                    *last = n;
                }
            }
            (None, _) => {}
        }
    }
}
