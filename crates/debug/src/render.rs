//! Replies as text for people.
//!
//! The text is stable, one fact a line, and complete without colour: a
//! changed variable has a `*`, a doubtful probability a `?`, the current line
//! an arrow. Colour, where asked for, only repeats that. Control characters
//! in predicted or observed text are escaped, so that a value cannot write to
//! the terminal in its own name.

use std::fmt::Write as _;

use cwm_trace::EventKind;

use crate::breakpoint::Breakpoint;
use crate::compare::{Aspect, Divergence, place};
use crate::debugger::Fork;
use crate::frame::{Frame, Origin, Variable, is_doubtful};
use crate::jump::JumpReply;
use crate::reply::{
    FrameReply, HelpEntry, Reply, SourceLine, StackPlace, VariablesReply, Verified, Why,
};

/// Longest value shown inside a frame, in characters; `print` shows all.
const SHOWN_CHARS: usize = 160;

/// A frame with more variables than this shows only what changed.
const SHOWN_VARIABLES: usize = 16;

/// Whether text may carry ANSI colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Text only.
    Plain,
    /// Text with ANSI colour sequences.
    Ansi,
}

/// An ANSI "select graphic rendition" code.
#[derive(Clone, Copy)]
enum Paint {
    Bold = 1,
    Dim = 2,
    Red = 31,
    Green = 32,
    Yellow = 33,
}

impl Style {
    fn paint(self, paint: Paint, text: impl AsRef<str>) -> String {
        let text = text.as_ref();
        match self {
            Self::Plain => text.into(),
            Self::Ansi => format!("\x1b[{}m{text}\x1b[0m", paint as u8),
        }
    }
}

/// A reply as text: whole lines, or nothing.
pub fn render(reply: &Reply, style: Style) -> String {
    match reply {
        Reply::Frame(reply) => frame_reply(reply, style),
        Reply::Jump(reply) => jump_reply(reply, style),
        Reply::Variables(reply) => variables_reply(reply, style),
        Reply::Stack { places } => stack(places, style),
        Reply::Source { lines } => listing(lines, style),
        Reply::Breakpoints { breakpoints } => breakpoint_list(breakpoints),
        Reply::Forks { forks } => fork_list(forks),
        Reply::Verified(verified) => verification(verified, style),
        Reply::Help { commands } => help(commands, style),
        Reply::Done { message } => format!("{}\n", printable(message)),
        Reply::Refused { message } => {
            format!(
                "{} {}\n",
                style.paint(Paint::Red, "error:"),
                printable(message)
            )
        }
        Reply::Quit => String::new(),
    }
}

/// A frame as text: its place, its source line, its variables and value.
pub fn render_frame(frame: &Frame, index: usize, source: Option<&str>, style: Style) -> String {
    let mut text = header(frame, index, 0, style);
    text.push_str(&body(frame, source, style));
    text
}

fn header(frame: &Frame, index: usize, fork: usize, style: Style) -> String {
    let mut text = style.paint(Paint::Bold, printable(&place(frame)));
    let _ = write!(text, "  (depth {})  frame {index}", frame.depth);
    if fork != 0 {
        let _ = write!(text, "  fork {fork}");
    }
    if let Some(p) = frame.probability {
        let _ = write!(text, "  {}", probability(p, style));
    }
    text + "\n"
}

fn body(frame: &Frame, source: Option<&str>, style: Style) -> String {
    let mut text = String::new();
    if !frame.working.is_empty() {
        let steps = shorten(&frame.working.join("; "), SHOWN_CHARS);
        let _ = writeln!(
            text,
            "   {}",
            style.paint(Paint::Dim, format!("from {steps}"))
        );
    }
    if let Some(source) = source {
        let arrow = style.paint(Paint::Green, "->");
        let _ = writeln!(
            text,
            "{arrow} {} | {}",
            frame.line,
            printable(source.trim_end())
        );
    }
    let crowded = frame.locals.len() > SHOWN_VARIABLES;
    let shown = frame.locals.iter().filter(|v| v.changed || !crowded);
    let mut hidden = frame.locals.len();
    for variable in shown {
        text.push_str(&variable_line(variable, Some(SHOWN_CHARS), style));
        hidden -= 1;
    }
    if hidden > 0 {
        let _ = writeln!(text, "    ({hidden} more; `locals` shows all)");
    }
    if let Some((value, origin)) = &frame.value {
        let verb = match frame.kind {
            EventKind::Yield => "yielded",
            EventKind::Unwind | EventKind::Exception => "raised",
            _ => "returned",
        };
        let (value, origin) = (shorten(value, SHOWN_CHARS), origin_text(*origin, style));
        let _ = writeln!(text, "    {verb} {value}  {origin}");
    }
    text
}

fn frame_reply(reply: &FrameReply, style: Style) -> String {
    let mut text = match &reply.why {
        Why::Start { entry, file } => {
            let what = if entry == file {
                file.clone()
            } else {
                format!("{entry} in {file}")
            };
            format!(
                "predicting {}: nothing is executed unless you type `verify`\n",
                printable(&what)
            )
        }
        Why::Breakpoint { breakpoint } => format!("breakpoint {breakpoint}\n"),
        Why::Ended if reply.passed == 0 => {
            "the run ends here; `back`, `reset`, `set` and `switch` still work\n".into()
        }
        Why::Ended => "the run ended\n".into(),
        Why::Budget { budget } => format!(
            "stopped after {budget} frames, as many as one command may take; repeat it to go on\n"
        ),
        Why::Failed { error } => {
            let label = style.paint(Paint::Red, "error:");
            format!("{label} {}\n", printable(error))
        }
        Why::Set { name } => {
            let name = printable(name);
            format!(
                "set {name} on new fork {}; the old run is kept\n",
                reply.fork
            )
        }
        Why::Leapt => format!(
            "over the calls of the line, on fork {}; what happened in them is not known\n",
            reply.fork
        ),
        Why::Switched if reply.fork == 0 => "on the original run\n".into(),
        Why::Switched => format!("on fork {}\n", reply.fork),
        Why::Arrived | Why::Back | Why::Reset => String::new(),
    };
    text.push_str(&header(&reply.frame, reply.index, reply.fork, style));
    text.push_str(&body(&reply.frame, reply.source.as_deref(), style));
    text
}

fn jump_reply(reply: &JumpReply, style: Style) -> String {
    let mut text = format!(
        "jump {}: {}  {}\n",
        reply.action,
        style.paint(Paint::Bold, printable(&reply.place())),
        probability(reply.probability, style),
    );
    if let (Some(line), Some(source)) = (reply.line, &reply.source) {
        let _ = writeln!(text, "   {line} | {}", printable(source.trim_end()));
    }
    for (name, value) in &reply.locals {
        let value = shorten(value, SHOWN_CHARS);
        let _ = writeln!(text, "    {} = {value}", printable(name));
    }
    if let Some(value) = &reply.value {
        let _ = writeln!(text, "    {}", shorten(value, SHOWN_CHARS));
    }
    text.push_str("(named at once, without a step on the way; you stay)\n");
    text
}

fn variables_reply(reply: &VariablesReply, style: Style) -> String {
    let mut text = String::new();
    if let Some(line) = reply.as_of {
        let function = printable(&reply.function);
        let _ = writeln!(text, "  (as before line {line} of {function} ran)");
    }
    if reply.variables.is_empty() {
        let _ = writeln!(text, "{} has no variables yet", printable(&reply.function));
    }
    let limit = (!reply.single).then_some(SHOWN_CHARS);
    for variable in &reply.variables {
        text.push_str(&variable_line(variable, limit, style));
    }
    text
}

fn variable_line(variable: &Variable, limit: Option<usize>, style: Style) -> String {
    let Variable {
        name,
        value,
        origin,
        changed,
    } = variable;
    let value = limit.map_or_else(|| printable(value), |limit| shorten(value, limit));
    let assignment = format!(
        "{} {} = {value}",
        if *changed { '*' } else { ' ' },
        printable(name)
    );
    let assignment = if *changed {
        style.paint(Paint::Yellow, assignment)
    } else {
        assignment
    };
    format!("  {assignment}  {}\n", origin_text(*origin, style))
}

fn origin_text(origin: Origin, style: Style) -> String {
    match origin {
        Origin::Predicted { probability: p } => format!("({})", probability(p, style)),
        Origin::Observed => "(observed)".into(),
        Origin::Given => "(given)".into(),
    }
}

fn probability(p: f32, style: Style) -> String {
    if is_doubtful(p) {
        style.paint(Paint::Red, format!("p {p:.2} ?"))
    } else {
        style.paint(Paint::Dim, format!("p {p:.2}"))
    }
}

fn stack(places: &[StackPlace], style: Style) -> String {
    let mut text = String::new();
    for (index, place) in places.iter().enumerate() {
        let arrow = if index == 0 {
            style.paint(Paint::Green, "->")
        } else {
            "  ".into()
        };
        let StackPlace {
            function,
            line,
            source,
            ..
        } = place;
        let source = source
            .as_deref()
            .map_or(String::new(), |s| format!("  | {}", printable(s)));
        let _ = writeln!(
            text,
            "{arrow} line {line} in {}{source}",
            printable(function)
        );
    }
    text
}

fn listing(lines: &[SourceLine], style: Style) -> String {
    let width = lines.last().map_or(1, |line| line.number.to_string().len());
    let mut text = String::new();
    for line in lines {
        let arrow = if line.current {
            style.paint(Paint::Green, "->")
        } else {
            "  ".into()
        };
        let mark = if line.breakpoint {
            style.paint(Paint::Red, "b")
        } else {
            " ".into()
        };
        let source = printable(&line.text);
        let shown = format!("{arrow}{mark} {:>width$} | {source}", line.number);
        let _ = writeln!(text, "{}", shown.trim_end());
    }
    text
}

fn breakpoint_list(breakpoints: &[Breakpoint]) -> String {
    if breakpoints.is_empty() {
        return "no breakpoints; `break LINE` adds one\n".into();
    }
    let mut text = String::new();
    for Breakpoint {
        id,
        line,
        condition,
    } in breakpoints
    {
        let condition = condition
            .as_ref()
            .map_or(String::new(), |c| format!(" if {c}"));
        let _ = writeln!(text, "{id}: line {line}{}", printable(&condition));
    }
    text
}

fn fork_list(forks: &[Fork]) -> String {
    let mut text = String::new();
    for fork in forks {
        let mark = if fork.current { "->" } else { "  " };
        let named = |number| match number {
            0 => "the original run".to_owned(),
            _ => format!("fork {number}"),
        };
        let origin = match (&fork.edit, &fork.leap) {
            (Some(edit), _) => format!(
                "{} = {} at frame {} (line {}) of {}",
                printable(&edit.name),
                shorten(&edit.value, SHOWN_CHARS),
                edit.frame,
                edit.line,
                named(edit.from),
            ),
            (None, Some(leap)) => format!(
                "leap from frame {} (line {}) of {}",
                leap.frame,
                leap.line,
                named(leap.from)
            ),
            (None, None) => named(0),
        };
        let extent = match (fork.frames, fork.ended) {
            (frames, true) => format!("{}, ended", counted(frames, "frame")),
            (frames, false) => format!("{} so far", counted(frames, "frame")),
        };
        let _ = writeln!(text, "{mark} {}: {origin}; {extent}", fork.number);
    }
    text
}

fn verification(verified: &Verified, style: Style) -> String {
    let (file, real) = (
        printable(&verified.file),
        counted(verified.real_frames, "frame"),
    );
    let cut = if verified.real_whole {
        ""
    } else {
        ", cut short"
    };
    let mut text = if verified.executed {
        format!("executed {file} for real: {real} observed{cut}\n")
    } else {
        format!("not executed again: comparing with the {real} observed before{cut}\n")
    };
    if let Some(edited) = verified.edited_at {
        let why = match verified.leapt {
            true => "leaves out frames before frame",
            false => "was set by hand at frame",
        };
        let _ = writeln!(
            text,
            "this fork {why} {edited}, which the real program does not do: only what comes before is \
             compared"
        );
    }
    match &verified.divergence {
        Some(divergence) => text.push_str(&difference(divergence, verified.index, style)),
        None => text.push_str(&agreement(verified, style)),
    }
    text
}

fn agreement(verified: &Verified, style: Style) -> String {
    let agrees = style.paint(Paint::Green, "agrees");
    let compared = counted(verified.compared.min(verified.real_frames), "frame");
    let extent = match (verified.finished, verified.real_whole) {
        (true, true) => "to the end",
        (true, false) => "as far as the real run was recorded",
        (false, _) => "so far",
    };
    let output = verified
        .real_output
        .as_deref()
        .filter(|_| verified.finished);
    let output = output.map_or(String::new(), |output| {
        format!(", which returned {}", shorten(output, SHOWN_CHARS))
    });
    format!("{agrees} {extent}: {compared} as in the real run{output}\n")
}

fn difference(divergence: &Divergence, index: usize, style: Style) -> String {
    let Divergence {
        frame,
        line,
        function,
        aspect,
        ..
    } = divergence;
    let (what, missing) = match aspect {
        Aspect::End => ("one run ends".into(), "the end of the run"),
        Aspect::Place => ("control goes elsewhere".into(), "nothing"),
        Aspect::Variable => {
            let name = divergence.variable.as_deref().unwrap_or("?");
            (format!("variable `{}`", printable(name)), "not bound")
        }
        Aspect::Value => ("the value".into(), "no value"),
    };
    let differs = style.paint(Paint::Red, "differs");
    let place = printable(&format!("line {line} in {function}"));
    let mut text = format!("{differs} first at frame {frame}, {place}: {what}\n");
    let value = |value: &Option<String>| {
        value
            .as_deref()
            .map_or(missing.to_string(), |value| shorten(value, SHOWN_CHARS))
    };
    let doubt = divergence
        .probability
        .map(|p| format!("  ({})", probability(p, style)));
    let predicted = value(&divergence.predicted);
    let _ = writeln!(
        text,
        "  predicted  {predicted}{}",
        doubt.unwrap_or_default()
    );
    let _ = writeln!(text, "  real       {}  (observed)", value(&divergence.real));
    if index < *frame {
        let _ = writeln!(
            text,
            "you are at frame {index}, {} before it",
            frame - index
        );
    } else if index > *frame {
        let _ = writeln!(text, "you are at frame {index}, {} past it", index - frame);
    }
    text
}

fn help(commands: &[HelpEntry], style: Style) -> String {
    let width = commands
        .iter()
        .map(|entry| entry.usage.len())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for HelpEntry {
        usage,
        aliases,
        summary,
    } in commands
    {
        let padding = " ".repeat(width - usage.len());
        let usage = style.paint(Paint::Bold, usage);
        let aliases = match aliases[..] {
            [] => String::new(),
            _ => format!(" ({})", aliases.join(", ")),
        };
        let _ = writeln!(text, "{usage}{padding}  {summary}{aliases}");
    }
    if commands.len() > 1 {
        text.push_str("An empty line repeats the last step, next, out, continue or until.\n");
        text.push_str(
            "* changed by the last line   p probability   ? more likely wrong than right\n",
        );
    }
    text
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// The text without control characters, tabs excepted.
fn printable(text: &str) -> String {
    let unsafe_char = |c: char| c.is_control() && c != '\t';
    if !text.contains(unsafe_char) {
        return text.into();
    }
    let escape = |c: char| {
        if unsafe_char(c) {
            c.escape_default().to_string()
        } else {
            c.to_string()
        }
    };
    text.chars().map(escape).collect()
}

/// [`printable`], with the end left out where it is long.
fn shorten(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        None => printable(text),
        Some((end, _)) => {
            let left = text[end..].chars().count();
            format!("{}… ({left} more characters)", printable(&text[..end]))
        }
    }
}
