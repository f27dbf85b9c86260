//! A predictor that reads its lines from a script, and programs for it.
//!
//! One script line is one frame: `KIND FUNCTION LINE DEPTH ACTIVATION`, then
//! `NAME=VALUE` words, or `-> VALUE`. A value may end in `~P`, its
//! probability, or in `!`, which makes it given. `..` means unchanged.

use std::cell::Cell;
use std::rc::Rc;

use cwm_debug::{
    Console, Frame, Landed, Landing, Options, Origin, PredictError, Predictor, Program, Reality,
    Style, Variable, render,
};
use cwm_trace::live::Jump;
use cwm_trace::{Entry, EventKind};

/// Run and index into it.
pub(crate) type Point = (usize, usize);

/// What happens when `name = value` is set at a point: go on at another one.
#[derive(Clone)]
struct Edit {
    at: Point,
    name: String,
    value: String,
    to: Point,
}

/// The scripted predictor.
#[derive(Clone, Default)]
pub(crate) struct Fake {
    runs: Vec<Vec<Frame>>,
    edits: Vec<Edit>,
    /// Errors that each happen once, after a point.
    faults: Vec<(Point, PredictError)>,
    /// Where jumps lead, wherever they begin.
    jumps: Vec<(Jump, Landing)>,
    /// Where leaps lead; `None` out of the run.
    leaps: Vec<(Point, Option<Point>)>,
    /// Calls of [`Predictor::next`] so far.
    pub(crate) asked: Rc<Cell<usize>>,
}

impl Fake {
    pub(crate) fn new(script: &str) -> Self {
        Self {
            runs: vec![frames(script)],
            ..Self::default()
        }
    }

    /// Setting `name = value` at `at` leads to the first frame of `script`.
    pub(crate) fn with_edit(mut self, at: Point, name: &str, value: &str, script: &str) -> Self {
        let to = (self.runs.len(), 0);
        self.runs.push(frames(script));
        self.edits.push(Edit {
            at,
            name: name.into(),
            value: value.into(),
            to,
        });
        self
    }

    pub(crate) fn with_jump(mut self, jump: Jump, landing: Landing) -> Self {
        self.jumps.push((jump, landing));
        self
    }

    /// A leap at `at` leads to `to`.
    pub(crate) fn with_leap(mut self, at: Point, to: Option<Point>) -> Self {
        self.leaps.push((at, to));
        self
    }

    pub(crate) fn with_fault(mut self, after: Point, error: PredictError) -> Self {
        self.faults.push((after, error));
        self
    }
}

impl Predictor for Fake {
    type Point = Point;

    fn start(&mut self) -> Result<(Point, Frame), PredictError> {
        let first = self.runs[0].first();
        let first = first.ok_or_else(|| PredictError::NothingLegal("empty script".into()))?;
        Ok(((0, 0), first.clone()))
    }

    fn next(&mut self, &at: &Point) -> Result<Option<(Point, Frame)>, PredictError> {
        self.asked.set(self.asked.get() + 1);
        if let Some(index) = self.faults.iter().position(|(after, _)| *after == at) {
            return Err(self.faults.remove(index).1);
        }
        let (run, index) = (at.0, at.1 + 1);
        Ok(self.runs[run]
            .get(index)
            .map(|frame| ((run, index), frame.clone())))
    }

    fn set(
        &mut self,
        &at: &Point,
        _: &Frame,
        name: &str,
        value: &str,
    ) -> Result<(Point, Frame), PredictError> {
        let edit = self
            .edits
            .iter()
            .find(|e| e.at == at && e.name == name && e.value == value);
        let Edit { to, .. } = edit.ok_or_else(|| PredictError::CannotSet {
            name: name.into(),
            reason: format!("`{value}` is not in the script"),
        })?;
        Ok((*to, self.runs[to.0][to.1].clone()))
    }

    fn leap(&mut self, at: &Point) -> Result<Option<(Point, Frame)>, PredictError> {
        self.asked.set(self.asked.get() + 1);
        let found = self.leaps.iter().find(|(from, _)| from == at);
        let (_, to) = found.ok_or_else(|| PredictError::CannotJump("no such leap".into()))?;
        Ok(to.map(|to| (to, self.runs[to.0][to.1].clone())))
    }

    fn jump(&mut self, _: &Point, _: &Frame, jump: Jump) -> Result<Landed, PredictError> {
        let found = self.jumps.iter().find(|(known, _)| *known == jump);
        let (_, landing) = found.ok_or_else(|| PredictError::CannotJump("no such jump".into()))?;
        Ok(Landed {
            landing: landing.clone(),
            probability: 0.75,
        })
    }
}

/// A predictor that calls deeper and deeper, without end.
pub(crate) struct Endless;

impl Predictor for Endless {
    type Point = u32;

    fn start(&mut self) -> Result<(u32, Frame), PredictError> {
        Ok((0, frame("call f 1 0 0")))
    }

    fn next(&mut self, at: &u32) -> Result<Option<(u32, Frame)>, PredictError> {
        let depth = at + 1;
        Ok(Some((depth, frame(&format!("call f 1 {depth} {depth}")))))
    }

    fn set(
        &mut self,
        _: &u32,
        _: &Frame,
        name: &str,
        _: &str,
    ) -> Result<(u32, Frame), PredictError> {
        Err(PredictError::CannotSet {
            name: name.into(),
            reason: "endless".into(),
        })
    }
}

/// A real run that counts how often it is asked for.
#[derive(Clone, Default)]
pub(crate) struct FakeReality {
    pub(crate) result: Option<Result<Vec<Frame>, String>>,
    pub(crate) executions: Rc<Cell<usize>>,
}

impl FakeReality {
    pub(crate) fn new(script: &str) -> Self {
        let mut frames = frames(script);
        let mut earlier: Vec<Frame> = Vec::new();
        for frame in &mut frames {
            let before = earlier
                .iter()
                .rev()
                .find(|f| f.activation == frame.activation && f.has_state());
            frame.settle(before).expect("a settled script");
            frame.probability = None;
            frame
                .locals
                .iter_mut()
                .for_each(|local| local.origin = Origin::Observed);
            frame
                .value
                .iter_mut()
                .for_each(|(_, origin)| *origin = Origin::Observed);
            earlier.push(frame.clone());
        }
        Self {
            result: Some(Ok(frames)),
            ..Self::default()
        }
    }
}

impl Reality for FakeReality {
    fn trace(&mut self) -> Result<Vec<Frame>, String> {
        self.executions.set(self.executions.get() + 1);
        self.result
            .clone()
            .unwrap_or_else(|| Err("there is no real program in this test".into()))
    }
}

pub(crate) fn frames(script: &str) -> Vec<Frame> {
    script
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(frame)
        .collect()
}

pub(crate) fn frame(line: &str) -> Frame {
    let (head, value) = match line.split_once(" -> ") {
        Some((head, value)) => (head, Some(value)),
        None => (line, None),
    };
    let mut words = head.split_whitespace();
    let mut word = || words.next().expect(line).to_string();
    let kind = match &*word() {
        "call" => EventKind::Call,
        "resume" => EventKind::Resume,
        "line" => EventKind::Line,
        "return" => EventKind::Return,
        "yield" => EventKind::Yield,
        "unwind" => EventKind::Unwind,
        "exception" => EventKind::Exception,
        other => panic!("no kind of event: {other}"),
    };
    let function = word();
    let mut number = || word().parse().expect(line);
    let (line_number, depth, activation) = (number(), number(), number());
    let locals = words.map(|word| {
        let (name, value) = word.split_once('=').expect(line);
        let (value, origin) = sourced(value);
        Variable {
            name: name.into(),
            value: value.into(),
            origin,
            changed: false,
        }
    });
    Frame {
        kind,
        function,
        line: line_number,
        depth,
        activation,
        locals: locals.collect(),
        value: value
            .map(sourced)
            .map(|(value, origin)| (value.into(), origin)),
        probability: Some(0.97),
        working: Vec::new(),
    }
}

fn sourced(text: &str) -> (&str, Origin) {
    if let Some(value) = text.strip_suffix('!') {
        return (value, Origin::Given);
    }
    match text.split_once('~') {
        Some((value, p)) => (
            value,
            Origin::Predicted {
                probability: p.parse().expect(text),
            },
        ),
        None => (text, Origin::Predicted { probability: 0.98 }),
    }
}

/// `f(x)` of some source.
pub(crate) fn program(source: &str, function: &str, args: &str) -> Program {
    Program {
        file: "t.py".into(),
        source: source.into(),
        entry: Entry::Call {
            function: function.into(),
            args: args.into(),
        },
    }
}

/// A console over a script, its reality the same script.
pub(crate) fn console(program: Program, fake: Fake) -> Console<Fake, FakeReality> {
    Console::new(program, fake, FakeReality::default(), Options::default()).expect("a first frame")
}

/// The whole dialogue as a user sees it.
pub(crate) fn dialogue<P: Predictor, R: Reality>(
    console: &mut Console<P, R>,
    commands: &[&str],
) -> String {
    let mut text = render(&console.welcome(), Style::Plain);
    for command in commands {
        text.push_str(format!("(cwm) {command}").trim_end());
        text.push('\n');
        text.push_str(&render(&console.execute(command), Style::Plain));
    }
    text
}

/// What one command prints.
pub(crate) fn say<P: Predictor, R: Reality>(console: &mut Console<P, R>, command: &str) -> String {
    render(&console.execute(command), Style::Plain)
}

/// Carries out commands whose answers do not matter.
pub(crate) fn after<P: Predictor, R: Reality>(console: &mut Console<P, R>, commands: &[&str]) {
    for command in commands {
        let reply = console.execute(command);
        assert!(!reply.is_error(), "{command}: {reply:?}");
    }
}

/// `f(3)`: calls `g`, then doubles what it returned.
pub(crate) const CALLS: &str = "\
def g(x):
    y = x + 1
    return y

def f(a):
    b = g(a)
    return b * 2
";

/// The run of [`CALLS`].
pub(crate) const CALLS_RUN: &str = "
    call f 5 0 0 a=3!
    line f 6 0 0 a=..
    call g 1 1 1 x=3
    line g 2 1 1 x=..
    line g 3 1 1 x=.. y=4
    return g 3 1 1 -> 4
    line f 7 0 0 a=.. b=4
    return f 7 0 0 -> 8
";

/// The run of [`CALLS`] from frame 6, after `b = 10` there.
pub(crate) const CALLS_EDITED: &str = "
    line f 7 0 0 a=3! b=10
    return f 7 0 0 -> 20
";

/// [`CALLS`] with its run and one possible edit.
pub(crate) fn calls() -> Console<Fake, FakeReality> {
    let fake = Fake::new(CALLS_RUN).with_edit((0, 6), "b", "10", CALLS_EDITED);
    let program = program(CALLS, "f", "3");
    let reality = FakeReality::new(CALLS_RUN);
    Console::new(program, fake, reality, Options::default()).expect("a first frame")
}
