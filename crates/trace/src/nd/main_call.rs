//! The call that a run begins with, as a function of the program that makes it.

use std::borrow::Cow;

use crate::live::{LineKind, Outline};
use crate::{End, Entry, Event, EventKind, Function, Trace, Value};

/// A trace of one call as the trace of a function `main` that makes this call and returns what it gives.
/// So a reader knows the arguments before the call, and can be asked for what comes of it.
///
/// The trace as it is where there is no such function: the entry is a module or a thread; the arguments
/// are not known, or do not fit on a line; the call gives a generator or a coroutine, whose states come
/// only when it is run; or what was recorded is not one run of the function that is named, as for a class
/// or a decorated function. What the arguments themselves call, and what cleans up behind the call, was
/// not recorded and is not there. A decorator that was not recorded is taken to pass on what its function
/// gives.
pub fn with_main(trace: &Trace) -> Cow<'_, Trace> {
    wrapped(trace).map_or(Cow::Borrowed(trace), Cow::Owned)
}

fn wrapped(trace: &Trace) -> Option<Trace> {
    let call = call_text(trace)?;
    let outcome = outcome(trace)?;
    let name = free_name(&trace.source);
    let mut source = trace.source.clone();
    if !source.ends_with(['\n', '\r']) {
        source.push('\n');
    }
    source.push_str(&format!("\ndef {name}():\n    return {call}\n"));
    let last = universal_lines(&source);
    let function = trace.functions.len() as u32;
    let event = |kind, line, value| Event {
        kind,
        activation: 0,
        function,
        line,
        locals: Vec::new(),
        value,
    };
    let mut events = vec![
        event(EventKind::Call, last - 1, None),
        event(EventKind::Line, last, None),
    ];
    events.extend(trace.events.iter().map(|inner| Event {
        activation: inner.activation + 1,
        ..inner.clone()
    }));
    events.extend(
        outcome
            .into_iter()
            .map(|(kind, value)| event(kind, last, value)),
    );
    let mut functions = trace.functions.clone();
    functions.push(Function {
        name: name.clone(),
        qualname: name.clone(),
        first_line: last - 1,
        file: 0,
    });
    Some(Trace {
        python: trace.python.clone(),
        file: trace.file.clone(),
        source,
        other_files: trace.other_files.clone(),
        entry: Entry::Call {
            function: name,
            args: String::new(),
        },
        thread: None,
        functions,
        events,
        end: trace.end.clone(),
        stdout: trace.stdout.clone(),
        stderr: trace.stderr.clone(),
    })
}

/// The call as Python source, if it is known, stands on one line, and is what was recorded.
fn call_text(trace: &Trace) -> Option<String> {
    let (Entry::Call { function, args }, None) = (&trace.entry, &trace.thread) else {
        return None;
    };
    let first = trace.events.first()?;
    let code = trace.functions.get(first.function as usize)?;
    let is_it = function.rsplit('.').next() == Some(&code.name) && is_path(function);
    // A call that was cut out of another run has no arguments; one without locals needs none.
    let is_known = !args.trim().is_empty() || first.locals.is_empty();
    // Behind a `#` the rest of the line could be a comment.
    let is_one_line = !args.contains(['\n', '\r', '#']);
    let is_all = is_it && is_known && is_one_line && runs_at_once(trace, code);
    is_all.then(|| format!("{function}({})", args.trim()))
}

/// Whether a text is names with dots between them.
fn is_path(text: &str) -> bool {
    let is_letter = |c: char| c.is_alphanumeric() || c == '_';
    let is_name = |part: &str| !part.is_empty() && part.chars().all(is_letter);
    text.split('.').all(is_name)
}

/// Whether code is that of a function which has run when its call is over: no generator, no coroutine.
fn runs_at_once(trace: &Trace, code: &Function) -> bool {
    if code.file != 0 {
        return false;
    }
    let outline = Outline::new(&trace.source);
    let first = outline.definition(code.first_line);
    if outline.line(first).map(|line| line.kind) != Some(LineKind::Def) {
        return false;
    }
    let block = first as usize - 1..outline.block_end(first) as usize;
    let mut lines = trace.source.lines().skip(block.start).take(block.len());
    let header = lines.next().unwrap_or_default();
    let is_async = words(header).next() == Some("async");
    !is_async
        && !lines
            .chain([header])
            .any(|line| words(line).any(|word| word == "yield"))
}

/// How the frame of the caller ends. `None` where the recording should say so and does not; nothing where
/// the call did not end.
fn outcome(trace: &Trace) -> Option<Vec<(EventKind, Option<Value>)>> {
    let mut own = trace
        .events
        .iter()
        .rev()
        .filter(|event| event.activation == 0);
    let is_last = trace.events.last()?.activation == 0;
    let last = own.next().filter(|_| is_last);
    match (&trace.end, last.map(|event| event.kind)) {
        (End::Finished, Some(EventKind::Return)) => {
            Some(vec![(EventKind::Return, last?.value.clone())])
        }
        (End::Raised(_) | End::Exited(_), Some(EventKind::Unwind)) => {
            let raised = own.find(|event| event.kind == EventKind::Exception)?;
            let exception = (EventKind::Exception, raised.value.clone());
            Some(vec![exception, (EventKind::Unwind, None)])
        }
        (End::Finished | End::Raised(_) | End::Exited(_), _) => None,
        (End::MaxEvents(_) | End::Timeout(_) | End::OutOfMemory | End::Crashed(_), _) => {
            Some(Vec::new())
        }
    }
}

/// `main`, or the same with as many underscores as it takes for the program not to have it.
fn free_name(source: &str) -> String {
    let mut name = "main".to_owned();
    while words(source).any(|word| word == name) {
        name.push('_');
    }
    name
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.filter(|word| !word.is_empty())
}

/// How many lines a text has for Python, which ends them at carriage returns too.
fn universal_lines(text: &str) -> u32 {
    let returns = text.replace("\r\n", "\n").replace('\r', "\n");
    returns.lines().count() as u32
}
