//! [`Console`]: command lines in, [`Reply`]s out.
//!
//! The whole behaviour of the line-mode debugger lives here, without a
//! terminal: a caller reads lines and prints replies.

use std::collections::BTreeSet;
use std::fmt;

use cwm_trace::live::{Ahead, Jump};

use crate::breakpoint::is_name;
use crate::command::{self, COMMANDS, Command, ParseError, Spec};
use crate::compare::{RunEnd, compare, is_whole, real_output};
use crate::debugger::{CommandError, DEFAULT_BUDGET, Debugger, Motion, Stop};
use crate::frame::{Frame, Variable};
use crate::jump::JumpReply;
use crate::predictor::{PredictError, Predictor, Reality};
use crate::program::Program;
use crate::reply::{
    FrameReply, HelpEntry, Reply, SourceLine, StackPlace, VariablesReply, Verified, Why,
};

/// Lines that a listing shows on either side.
const LISTED_AROUND: u32 = 5;

/// What a caller may decide about a [`Console`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Lines that hold code; `None` where the caller cannot tell, so that
    /// every line that is not blank or a comment counts.
    pub lines: Option<BTreeSet<u32>>,
    /// Frames that one command may pass over.
    pub budget: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lines: None,
            budget: DEFAULT_BUDGET,
        }
    }
}

/// A line-mode debugging session.
pub struct Console<P: Predictor, R> {
    program: Program,
    debugger: Debugger<P>,
    reality: R,
    /// The real run, once it was asked for: a program is executed at most
    /// once per session.
    real: Option<Vec<Frame>>,
    last_motion: Option<(Motion, usize)>,
}

impl<P: Predictor, R> fmt::Debug for Console<P, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console")
            .field("program", &self.program)
            .field("debugger", &self.debugger)
            .finish_non_exhaustive()
    }
}

impl<P: Predictor, R: Reality> Console<P, R> {
    /// Predicts the first frame. Nothing is executed.
    ///
    /// # Errors
    ///
    /// Whatever the predictor fails with: without a first frame there is
    /// nothing to debug.
    pub fn new(
        program: Program,
        predictor: P,
        reality: R,
        options: Options,
    ) -> Result<Self, PredictError> {
        let lines = options.lines.unwrap_or_else(|| program.plausible_lines());
        let debugger = Debugger::new(predictor, lines, options.budget)?;
        Ok(Self {
            program,
            debugger,
            reality,
            real: None,
            last_motion: None,
        })
    }

    /// What to show before the first command.
    pub fn welcome(&self) -> Reply {
        let entry = self.program.entry_text();
        self.here(
            Why::Start {
                entry,
                file: self.program.file.clone(),
            },
            0,
        )
    }

    /// Carries out one line.
    pub fn execute(&mut self, line: &str) -> Reply {
        match command::parse(line) {
            Ok(command) => self.run(command),
            Err(ParseError::Unknown {
                word,
                suggestion: None,
            }) if self.debugger.variable(&word).is_ok() => {
                let suggestion = Some(format!("print {word}"));
                refused(ParseError::Unknown { word, suggestion })
            }
            Err(error) => refused(error),
        }
    }

    /// Carries out one command.
    pub fn run(&mut self, command: Command) -> Reply {
        self.try_run(command).unwrap_or_else(refused)
    }

    fn try_run(&mut self, command: Command) -> Result<Reply, CommandError> {
        Ok(match command {
            Command::Move { motion, count } => self.advance(motion, count)?,
            Command::Repeat => match self.last_motion {
                Some((motion, count)) => self.advance(motion, count)?,
                None => refused("there is no step to repeat yet; `help` lists the commands"),
            },
            Command::Back => {
                self.debugger.back()?;
                self.here(Why::Back, 0)
            }
            Command::Jump(jump) => self.jump(jump)?,
            Command::Leap => {
                self.debugger.leap()?;
                self.here(Why::Leapt, 1)
            }
            Command::Break { line, condition } => {
                let breakpoint = self.debugger.break_at(line, condition)?;
                let condition = breakpoint.condition.as_ref();
                let condition = condition.map_or(String::new(), |c| format!(" if {c}"));
                Reply::Done {
                    message: format!("breakpoint {} at line {line}{condition}", breakpoint.id),
                }
            }
            Command::Breakpoints => Reply::Breakpoints {
                breakpoints: self.debugger.breakpoints().to_vec(),
            },
            Command::Delete(id) => self.delete(id)?,
            Command::Print(Some(name)) => self.print(&name)?,
            Command::Print(None) | Command::Locals => self.locals(),
            Command::Where => self.stack(),
            Command::List(line) => self.list(line),
            Command::Set { name, value } => {
                self.debugger.set(&name, &value)?;
                self.here(Why::Set { name }, 0)
            }
            Command::Forks => Reply::Forks {
                forks: self.debugger.forks(),
            },
            Command::Switch(number) => {
                self.debugger.switch(number)?;
                self.here(Why::Switched, 0)
            }
            Command::Verify => self.verify(),
            Command::Reset => {
                self.debugger.reset();
                self.here(Why::Reset, 0)
            }
            Command::Help(topic) => help(topic.as_deref()),
            Command::Quit => Reply::Quit,
        })
    }

    fn advance(&mut self, motion: Motion, count: usize) -> Result<Reply, CommandError> {
        if let Motion::Until(line) = motion {
            self.debugger.require_code(line)?;
        }
        self.last_motion = Some((motion, count));
        let moved = self.debugger.advance(motion, count);
        let why = match moved.stop {
            Stop::Arrived => Why::Arrived,
            Stop::Breakpoint(breakpoint) => Why::Breakpoint { breakpoint },
            Stop::Ended => Why::Ended,
            Stop::Budget(budget) => Why::Budget { budget },
            Stop::Failed(error) => Why::Failed {
                error: error.to_string(),
            },
        };
        Ok(self.here(why, moved.frames))
    }

    fn jump(&mut self, jump: Jump) -> Result<Reply, CommandError> {
        if let Jump::Ahead(Ahead::Until(line)) = jump {
            self.debugger.require_code(line)?;
        }
        let landed = self.debugger.jump(jump)?;
        let source = |line| self.program.line(line).map(String::from);
        Ok(Reply::Jump(Box::new(JumpReply::new(jump, landed, source))))
    }

    fn here(&self, why: Why, passed: usize) -> Reply {
        let frame = self.debugger.frame().clone();
        Reply::Frame(Box::new(FrameReply {
            why,
            passed,
            index: self.debugger.index(),
            fork: self.debugger.fork(),
            source: self.program.line(frame.line).map(String::from),
            frame,
        }))
    }

    fn delete(&mut self, id: Option<u32>) -> Result<Reply, CommandError> {
        let ids: Vec<u32> = match id {
            Some(id) => vec![id],
            None => self.debugger.breakpoints().iter().map(|b| b.id).collect(),
        };
        for &id in &ids {
            self.debugger.delete(id)?;
        }
        let message = match ids[..] {
            [] => "there are no breakpoints".into(),
            [id] => format!("deleted breakpoint {id}"),
            _ => format!("deleted {} breakpoints", ids.len()),
        };
        Ok(Reply::Done { message })
    }

    fn print(&self, name: &str) -> Result<Reply, CommandError> {
        match self.debugger.variable(name) {
            Ok(variable) => {
                let variable = variable.clone();
                Ok(self.variables(vec![variable], true))
            }
            Err(_) if !is_name(name) => Ok(refused(
                "only a variable can be printed: nothing is executed here, so expressions have \
                 no value",
            )),
            Err(error) => Err(error),
        }
    }

    fn locals(&self) -> Reply {
        self.variables(self.debugger.scope().variables.to_vec(), false)
    }

    fn variables(&self, variables: Vec<Variable>, single: bool) -> Reply {
        Reply::Variables(VariablesReply {
            function: self.debugger.frame().function.clone(),
            as_of: self.debugger.scope().as_of,
            variables,
            single,
        })
    }

    fn stack(&self) -> Reply {
        let place = |frame: &&Frame| StackPlace {
            function: frame.function.clone(),
            line: frame.line,
            depth: frame.depth,
            source: self.program.line(frame.line).map(|text| text.trim().into()),
        };
        Reply::Stack {
            places: self.debugger.stack().iter().map(place).collect(),
        }
    }

    fn list(&self, around: Option<u32>) -> Reply {
        let (current, last) = (self.debugger.frame().line, self.program.last_line());
        let centre = around.unwrap_or(current);
        if centre == 0 || centre > last {
            return refused(format!(
                "line {centre} does not exist; the last line is {last}"
            ));
        }
        let first = centre.saturating_sub(LISTED_AROUND).max(1);
        let end = centre.saturating_add(LISTED_AROUND).min(last);
        let breakpoints: BTreeSet<u32> =
            self.debugger.breakpoints().iter().map(|b| b.line).collect();
        let lines = (first..=end).zip(self.program.source.lines().skip(first as usize - 1));
        let line = |(number, text): (u32, &str)| SourceLine {
            number,
            text: text.into(),
            current: number == current,
            breakpoint: breakpoints.contains(&number),
        };
        Reply::Source {
            lines: lines.map(line).collect(),
        }
    }

    fn verify(&mut self) -> Reply {
        let (mut run, edited_at) = self.debugger.predicted();
        if edited_at == Some(0) {
            return refused(
                "this fork was set by hand at its first frame, which the real program does not \
                 do: there is nothing to compare; `switch 0` goes to the original run",
            );
        }
        if let Some(edited) = edited_at {
            run.frames.truncate(edited);
            run.end = RunEnd::Stopped;
        }
        let leapt = self.debugger.begins_with_leap(edited_at);
        let executed = self.real.is_none();
        let real = match self.real.take() {
            Some(real) => real,
            None => match self.reality.trace() {
                Ok(real) => real,
                Err(error) => return refused(format!("the program could not be run: {error}")),
            },
        };
        let divergence = compare(&run, &real);
        let reply = Verified {
            file: self.program.file.clone(),
            executed,
            real_frames: real.len(),
            real_whole: is_whole(&real),
            real_output: real_output(&real).map(String::from),
            compared: run.frames.len(),
            finished: run.end == RunEnd::Finished,
            edited_at,
            leapt,
            index: self.debugger.index(),
            agrees: divergence.is_none(),
            divergence,
        };
        self.real = Some(real);
        Reply::Verified(Box::new(reply))
    }
}

fn refused(message: impl ToString) -> Reply {
    Reply::Refused {
        message: message.to_string(),
    }
}

fn help(topic: Option<&str>) -> Reply {
    let entry = |spec: &Spec| HelpEntry {
        usage: spec.usage(),
        aliases: spec.names[1..]
            .iter()
            .map(|name| name.to_string())
            .collect(),
        summary: spec.summary.into(),
    };
    match topic {
        None => Reply::Help {
            commands: COMMANDS.iter().map(entry).collect(),
        },
        Some(topic) => match command::find(topic) {
            Some(spec) => Reply::Help {
                commands: vec![entry(spec)],
            },
            None => refused(format!("`{topic}` is no command; `help` lists them")),
        },
    }
}
