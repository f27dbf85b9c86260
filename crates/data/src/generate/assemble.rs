//! Turns a [`Block`] into a whole program: a script, or functions with a call to trace.

use cwm_trace::Entry;

use super::block::Block;
use super::context::Context;
use super::names::{COMMENTS, DOCSTRINGS};

/// Source text and the scope to record.
#[derive(Debug)]
pub(crate) struct Assembled {
    pub(crate) source: String,
    pub(crate) entry: Entry,
}

/// The pieces of a source text, joined at the end with the program's own habits of spacing.
#[derive(Default)]
struct Pieces {
    definitions: Vec<String>,
    script: Vec<String>,
}

/// Chooses a shape for `block` and writes it out.
pub(crate) fn assemble(block: &Block, context: &mut Context) -> Assembled {
    let script_possible = !block.only_function;
    // 45% of programs are a call of a function; the others are scripts, some without a function.
    let (entry, pieces) = if context.rng.chance(0.45) {
        as_call(block, context)
    } else if script_possible && context.rng.chance(0.4) {
        (Entry::Module, as_script(block, context))
    } else {
        (Entry::Module, as_script_with_function(block, context))
    };
    Assembled {
        source: join(pieces, context),
        entry,
    }
}

fn as_call(block: &Block, context: &mut Context) -> (Entry, Pieces) {
    let (parameters, arguments) = parameters_and_arguments(block, context);
    let mut definitions = block.definitions.clone();
    definitions.push(block.as_function(&parameters));
    let entry = Entry::Call {
        function: block.function.clone(),
        args: arguments.join(", "),
    };
    (
        entry,
        Pieces {
            definitions,
            script: Vec::new(),
        },
    )
}

/// The block's statements at module level, after assignments of its inputs.
fn as_script(block: &Block, context: &mut Context) -> Pieces {
    let mut script: Vec<String> = block
        .inputs
        .iter()
        .zip(&block.values)
        .map(|(input, value)| format!("{} = {value}", input.name))
        .collect();
    script.extend(block.body.iter().cloned());
    if let Some(result) = &block.result {
        hand_out(result, &mut script, context);
    }
    Pieces {
        definitions: block.definitions.clone(),
        script,
    }
}

/// Lines that show `result` at the end of a script.
fn hand_out(result: &str, script: &mut Vec<String>, context: &mut Context) {
    let is_name = result
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || c == '_');
    match context.rng.below(10) {
        0..=1 if is_name => {}
        2..=4 if !is_name => {
            let name = context.name("r");
            script.push(format!("{name} = {result}"));
            if context.rng.chance(0.6) {
                script.push(format!("print({name})"));
            }
        }
        _ => script.push(format!("print({result})")),
    }
}

/// A function and module-level statements that call it.
fn as_script_with_function(block: &Block, context: &mut Context) -> Pieces {
    let (parameters, arguments) = parameters_and_arguments(block, context);
    let mut definitions = block.definitions.clone();
    definitions.push(block.as_function(&parameters));
    let call = |arguments: &[String]| format!("{}({})", block.function, arguments.join(", "));
    let mut script = Vec::new();
    let hands_out = block.result.is_some()
        || block
            .body
            .iter()
            .any(|line| line.trim_start().starts_with("return"));
    let first = call(&arguments);
    match context.rng.below(20) {
        _ if !hands_out => script.push(first),
        0..=5 => {
            let name = context.name("r");
            script.push(format!("{name} = {first}"));
            script.push(format!("print({name})"));
        }
        6..=10 => script.push(format!("print({first})")),
        11..=13 if !arguments.is_empty() => {
            // The first argument by name, as scripts that start from data do.
            let name = context.name("data");
            let mut named = arguments.clone();
            script.push(format!(
                "{name} = {}",
                std::mem::replace(&mut named[0], name.clone())
            ));
            let result = context.name("r");
            script.push(format!("{result} = {}", call(&named)));
            if context.rng.chance(0.7) {
                script.push(format!("print({result})"));
            }
        }
        14..=16 if !arguments.is_empty() => {
            let (a, b) = (context.name("r1"), context.name("r2"));
            let again = block.draw_inputs(context);
            script.push(format!("{a} = {first}"));
            script.push(format!("{b} = {}", call(&again)));
            script.push(format!("print({a}, {b})"));
        }
        17..=18 if block.inputs.len() == 1 => {
            let name = context.name("each");
            let values: Vec<String> = (0..context.rng.range(2, 3))
                .map(|_| block.draw_inputs(context).concat())
                .collect();
            script.push(format!("for {name} in [{}]:", values.join(", ")));
            script.push(format!("    print({})", call(&[name])));
        }
        _ => {
            let name = context.name("r");
            script.push(format!("{name} = {first}"));
        }
    }
    Pieces {
        definitions,
        script,
    }
}

/// Parameter declarations and matching arguments; now and then the last has a default.
fn parameters_and_arguments(block: &Block, context: &mut Context) -> (Vec<String>, Vec<String>) {
    let mut parameters: Vec<String> = block.inputs.iter().map(|i| i.name.clone()).collect();
    let mut arguments = block.values.clone();
    let immutable = |text: &String| !text.starts_with(['[', '{']);
    let (Some(last), Some(parameter)) = (arguments.last().cloned(), parameters.last_mut()) else {
        return (parameters, arguments);
    };
    if arguments.len() > 1 && immutable(&last) {
        match context.rng.below(25) {
            0 => {
                *parameter = format!("{parameter}={last}");
                arguments.pop();
            }
            1 => {
                if let Some(argument) = arguments.last_mut() {
                    *argument = format!("{parameter}={last}");
                }
            }
            2 => {
                let default = block.draw_inputs(context).pop().unwrap_or(last);
                *parameter = format!("{parameter}={default}");
            }
            _ => {}
        }
    }
    (parameters, arguments)
}

/// Adds what carries no meaning but occurs in real code: blank lines between methods, now and then a
/// docstring.
fn dress(definition: &str, airy: bool, context: &mut Context) -> String {
    if definition.starts_with("class") && airy && context.rng.chance(0.6) {
        return separated(definition);
    }
    if definition.starts_with("def") && context.rng.chance(0.02) {
        let docstring = *context.rng.pick(DOCSTRINGS);
        return definition.replacen(":\n", &format!(":\n    \"\"\"{docstring}\"\"\"\n"), 1);
    }
    definition.to_owned()
}

/// A class with blank lines between its methods; the first one follows the class line directly.
fn separated(class: &str) -> String {
    let mut out = String::with_capacity(class.len() + 8);
    let mut before = "";
    for line in class.lines() {
        let begins = line.starts_with("    def ") || line.starts_with("    @");
        if begins && !before.ends_with(':') && !before.starts_with("    @") {
            out.push('\n');
        }
        out.push_str(line);
        out.push('\n');
        before = line;
    }
    out
}

fn join(pieces: Pieces, context: &mut Context) -> String {
    let gap = "\n".repeat([0, 1, 2][context.rng.weighted(&[2, 5, 3])]);
    let mut out = String::new();
    if context.rng.chance(0.1) {
        for _ in 0..context.rng.range(1, 3) {
            let comment: &&str = context.rng.pick(COMMENTS);
            out.push_str(comment);
            out.push('\n');
        }
        if context.rng.chance(0.3) {
            out.push('\n');
        }
    }
    let definitions: Vec<String> = pieces
        .definitions
        .iter()
        .map(|text| dress(text, !gap.is_empty(), context))
        .collect();
    out.push_str(&definitions.join(&gap));
    if !pieces.definitions.is_empty() && !pieces.script.is_empty() {
        out.push_str(&gap);
    }
    for line in pieces.script {
        out.push_str(&line);
        out.push('\n');
    }
    out
}
