//! Functions with tests, as MBPP and HumanEval have them, and the calls that their tests make.
//!
//! A problem becomes calls of one function: those that the tests write out. A call whose arguments are no text of
//! their own (they name a variable of the test) is found out by running it and is left out then.

use cwm_trace::{Entry, Trace};
use cwm_tracer::{Interpreter, Limits, Request, Worker};
use serde::Deserialize;

/// A program and calls of a function of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The program.
    pub source: String,
    /// The function that is called.
    pub function: String,
    /// Argument lists, as Python source.
    pub calls: Vec<String>,
}

/// Why a file of problems cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "line {line} is no problem (MBPP: keys code, test_list; HumanEval: prompt, canonical_solution, entry_point, test): {reason}"
)]
pub struct NotAProblem {
    /// 1-based line.
    pub line: usize,
    /// What is wrong.
    pub reason: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Row {
    Mbpp {
        code: String,
        test_list: Vec<String>,
        #[serde(default)]
        test_setup_code: String,
    },
    HumanEval {
        prompt: String,
        canonical_solution: String,
        entry_point: String,
        test: String,
    },
}

/// Reads problems, one JSON object a line.
///
/// # Errors
/// [`NotAProblem`] at the first line that is none.
pub fn read(text: &str) -> Result<Vec<Problem>, NotAProblem> {
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, l)| !l.trim().is_empty());
    lines
        .map(|(index, line)| {
            let row = serde_json::from_str(line).map_err(|e| NotAProblem {
                line: index + 1,
                reason: e.to_string(),
            })?;
            Ok(problem(row))
        })
        .collect()
}

fn problem(row: Row) -> Problem {
    match row {
        Row::Mbpp {
            code,
            test_list,
            test_setup_code,
        } => {
            let code = code.replace("\r\n", "\n");
            let source = match &*test_setup_code {
                "" => code,
                setup => format!("{setup}\n{code}"),
            };
            let (function, calls) = tested(&source, &test_list);
            Problem {
                source,
                function,
                calls,
            }
        }
        Row::HumanEval {
            prompt,
            canonical_solution,
            entry_point,
            test,
        } => Problem {
            source: format!("{prompt}{canonical_solution}"),
            function: entry_point,
            calls: test
                .lines()
                .filter(|line| line.trim_start().starts_with("assert"))
                .filter_map(|line| arguments(line, "candidate"))
                .map(str::to_owned)
                .collect(),
        },
    }
}

/// The function of `source` that the tests call, and how.
fn tested(source: &str, tests: &[String]) -> (String, Vec<String>) {
    let defined = source.lines().filter_map(|line| {
        let name = line.strip_prefix("def ")?.split('(').next()?;
        Some(name.trim())
    });
    let calls_of = |name: &str| -> Vec<String> {
        let found = tests.iter().filter_map(|test| arguments(test, name));
        found.map(str::to_owned).collect()
    };
    // A helper may be called in a test too, but not in more of them.
    let mut best = (String::new(), Vec::new());
    for name in defined {
        let calls = calls_of(name);
        if calls.len() > best.1.len() {
            best = (name.to_owned(), calls);
        }
    }
    best
}

/// What stands between the brackets of the first call of `name` in `text`.
fn arguments<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    let found = text.match_indices(name).find(|(at, _)| {
        let rest = &text[at + name.len()..];
        rest.starts_with('(') && !text[..*at].ends_with(is_name)
    });
    let start = found?.0 + name.len() + 1;
    let (mut depth, mut quote, mut is_escaped) = (0_usize, None, false);
    for (at, c) in text[start..].char_indices() {
        match (quote, c) {
            (Some(_), _) if is_escaped => is_escaped = false,
            (Some(_), '\\') => is_escaped = true,
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')') if depth == 0 => return Some(&text[start..start + at]),
            (None, ')' | ']' | '}') => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    None
}

/// Real runs of problems, and how many calls have none, by reason.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// The runs.
    pub runs: Vec<Trace>,
    /// Calls that cannot be run, or problems without a call.
    pub refused: usize,
    /// Runs with more events than wanted.
    pub long: usize,
}

/// Runs at most `calls` calls of each problem for real, and keeps runs of at most `max_events` events.
///
/// # Errors
/// When the interpreter cannot be started or is lost.
pub fn record(
    problems: &[Problem],
    calls: usize,
    max_events: usize,
    interpreter: &Interpreter,
) -> Result<Recorded, cwm_tracer::Error> {
    let mut worker = Worker::start(interpreter, &Limits::default())?;
    let mut recorded = Recorded::default();
    for problem in problems {
        recorded.refused += usize::from(problem.calls.is_empty());
        for args in problem.calls.iter().take(calls) {
            let request = Request {
                file: "problem.py",
                source: &problem.source,
                entry: Entry::Call {
                    function: problem.function.clone(),
                    args: args.clone(),
                },
                stdin: b"",
                arguments: &[],
            };
            match worker.trace(&request) {
                Ok(trace) if !trace.end.is_complete() => recorded.refused += 1,
                Ok(trace) if trace.events.len() > max_events => recorded.long += 1,
                Ok(trace) => recorded.runs.push(trace),
                Err(
                    cwm_tracer::Error::NotPython { .. }
                    | cwm_tracer::Error::MissingEntry { .. }
                    | cwm_tracer::Error::BadArguments { .. },
                ) => recorded.refused += 1,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(recorded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_found_in_tests() {
        let found = |text, name| arguments(text, name);
        assert_eq!(
            found("assert f((1, ')'), x=[2]) == 3", "f"),
            Some("(1, ')'), x=[2]")
        );
        assert_eq!(
            found("assert set(similar('a\\'(')) == 1", "similar"),
            Some("'a\\'('")
        );
        assert_eq!(found("assert of(1) == off(2)", "f"), None);
        assert_eq!(found("assert f(1", "f"), None);
        assert_eq!(found("assert f(1])", "f"), None);
    }

    #[test]
    fn problems_of_both_kinds_are_read() {
        let text = "\
{\"code\": \"def h(a):\\r\\n  return a\\r\\ndef f(a):\\r\\n  return h(a)\", \"test_list\": [\"assert f(1) == h(1)\", \"assert f(2) == 2\"]}

{\"prompt\": \"def g(a):\\n\", \"canonical_solution\": \"    return a\\n\", \"entry_point\": \"g\", \"test\": \"def check(candidate):\\n    assert candidate('x') == 'x'\\n    assert True\\n\"}
";
        let problems = read(text).unwrap();
        assert_eq!(problems[0].function, "f");
        assert_eq!(problems[0].calls, ["1", "2"]);
        assert!(!problems[0].source.contains('\r'));
        assert_eq!(
            (&*problems[1].function, &*problems[1].calls[0]),
            ("g", "'x'")
        );
        let error = read("\n{\"code\": \"\"}").unwrap_err();
        assert!(
            error.to_string().starts_with("line 2 is no problem"),
            "{error}"
        );
    }
}
