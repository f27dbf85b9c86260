//! A [`Block`]: what a piece of a program computes from which inputs, before it is decided whether it
//! becomes a function that is called or lines of a script.

use super::context::Context;
use super::template::{Template, expand};

/// A variable that the block starts from.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub(crate) name: String,
    /// How to draw a value for it.
    pub(crate) value: Template,
}

/// Names the inputs of a block and draws a value for each, in order.
pub(crate) fn open_inputs(
    inputs: &[(Template, Template)],
    context: &mut Context,
) -> (Vec<Input>, Vec<String>) {
    let inputs: Vec<Input> = inputs
        .iter()
        .map(|(name, value)| Input {
            name: expand(name, context),
            value: value.clone(),
        })
        .collect();
    let values = inputs
        .iter()
        .map(|input| expand(&input.value, context))
        .collect();
    (inputs, values)
}

/// Inputs, statements and a result, with the definitions they need.
#[derive(Clone, Debug, Default)]
pub(crate) struct Block {
    /// Name of the function, where it becomes one.
    pub(crate) function: String,
    /// Definitions (functions, classes) the statements use, in order.
    pub(crate) definitions: Vec<String>,
    pub(crate) inputs: Vec<Input>,
    /// The values drawn for the inputs while the block was made; literals in it may refer to them.
    pub(crate) values: Vec<String>,
    /// Statements, unindented.
    pub(crate) body: Vec<String>,
    /// Expression handed out at the end.
    pub(crate) result: Option<String>,
    /// Whether the statements make sense only inside a function (`return`, `yield`, recursion).
    pub(crate) only_function: bool,
    /// Whether an exception may leave it, on purpose.
    pub(crate) may_raise: bool,
}

impl Block {
    /// Another literal per input, in order.
    pub(crate) fn draw_inputs(&self, context: &mut Context) -> Vec<String> {
        self.inputs
            .iter()
            .map(|input| expand(&input.value, context))
            .collect()
    }

    /// The block as the text of a function definition.
    pub(crate) fn as_function(&self, parameters: &[String]) -> String {
        let mut text = format!("def {}({}):\n", self.function, parameters.join(", "));
        for line in &self.body {
            text.push_str("    ");
            text.push_str(line);
            text.push('\n');
        }
        if let Some(result) = &self.result {
            text.push_str("    return ");
            text.push_str(result);
            text.push('\n');
        }
        text
    }
}
