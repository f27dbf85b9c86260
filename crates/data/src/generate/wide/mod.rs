//! The grammar of level 5: random typed programs over a table of operations, steered by data flow.
//!
//! What can be done with a value of each type is data ([`operations`]); this is how statements are made of it.
//! As in the grammar of the other levels, a statement prefers variables that nothing has read yet, and the
//! result is made of what is unread at the end. Loops run over data that their body does not change, or count
//! to a constant, so every program ends.

mod control;
pub(super) mod fault;
mod helpers;
pub(super) mod imports;
mod operations;

use super::block::{Block, Input};
use super::context::Context;
use super::template::{expand, parse};
use operations::{Made, Operation, Ty, operations};

#[derive(Clone, Debug)]
struct Var {
    name: String,
    ty: Ty,
    /// Whether nothing has read its present value.
    unread: bool,
    /// A length it has at least.
    size: usize,
    /// Whether it must stay as it is, because a loop runs over it.
    held: bool,
}

/// A program under construction.
struct Writer<'c> {
    context: &'c mut Context,
    vars: Vec<Var>,
    definitions: Vec<String>,
    lines: Vec<String>,
    indent: usize,
    serial: usize,
    /// How often a control structure may still be opened.
    structures: usize,
}

/// Writes a random block.
pub(super) fn write(context: &mut Context) -> Block {
    let function = context.name("f");
    let mut writer = Writer {
        context,
        vars: Vec::new(),
        definitions: Vec::new(),
        lines: Vec::new(),
        indent: 0,
        serial: 0,
        structures: 2,
    };
    let (inputs, values) = writer.inputs();
    let count = writer.context.rng.range(3, 6);
    for _ in 0..count {
        writer.statement();
    }
    let result = writer.result();
    let Writer {
        lines, definitions, ..
    } = writer;
    Block {
        function,
        definitions,
        inputs,
        values,
        body: lines,
        result: Some(result),
        only_function: false,
        may_raise: false,
    }
}

impl Writer<'_> {
    fn inputs(&mut self) -> (Vec<Input>, Vec<String>) {
        const TYPES: [(Ty, usize, u32); 12] = [
            (Ty::Text, 3, 26),
            (Ty::Ints, 2, 24),
            (Ty::Int, 0, 16),
            (Ty::Words, 2, 12),
            (Ty::Dict, 2, 10),
            (Ty::Float, 0, 6),
            (Ty::Set, 1, 5),
            (Ty::Tuple, 2, 5),
            (Ty::Pairs, 2, 5),
            (Ty::Digits, 2, 4),
            (Ty::Bytes, 2, 2),
            (Ty::Floats, 2, 4),
        ];
        let count = 1 + self.context.rng.weighted(&[10, 9, 2]);
        let mut inputs = Vec::new();
        let mut values = Vec::new();
        for _ in 0..count {
            let (ty, size, _) = TYPES[self.context.rng.weighted(&TYPES.map(|(.., weight)| weight))];
            let value = ty.literal().clone();
            let name = self.declare(ty, size);
            values.push(expand(&value, self.context));
            inputs.push(Input { name, value });
        }
        (inputs, values)
    }

    /// A new variable with a fresh name.
    fn declare(&mut self, ty: Ty, size: usize) -> String {
        self.serial += 1;
        let name = self.context.name(&format!("{}{}", ty.role(), self.serial));
        self.vars.push(Var {
            name: name.clone(),
            ty,
            unread: true,
            size,
            held: false,
        });
        name
    }

    fn line(&mut self, text: impl AsRef<str>) {
        let margin = "    ".repeat(self.indent);
        let lines = text.as_ref().lines();
        self.lines
            .extend(lines.map(|line| format!("{margin}{line}")));
    }

    /// Position of a variable that satisfies `fits`, mostly one not read yet.
    fn find(&mut self, fits: impl Fn(&Var) -> bool) -> Option<usize> {
        let all: Vec<usize> = (0..self.vars.len())
            .filter(|&at| fits(&self.vars[at]))
            .collect();
        let unread = all.iter().copied().filter(|&at| self.vars[at].unread);
        let unread: Vec<usize> = unread.collect();
        let pool = if !unread.is_empty() && self.context.rng.chance(0.8) {
            unread
        } else {
            all
        };
        (!pool.is_empty()).then(|| *self.context.rng.pick(&pool))
    }

    /// A variable of type `ty` other than `subject`, or a literal.
    fn operand(&mut self, ty: Ty, subject: &str) -> String {
        let is_other = |var: &Var| var.ty == ty && var.name != subject;
        match self.find(is_other) {
            Some(at) if self.context.rng.chance(0.65) => {
                self.vars[at].unread = false;
                self.vars[at].name.clone()
            }
            _ => expand(ty.literal(), self.context),
        }
    }

    /// The text of an operation on `subject`, an expression.
    fn text(&mut self, operation: &Operation, subject: &str) -> String {
        let text = expand(&operation.template, self.context);
        let mut out = String::with_capacity(text.len());
        let mut parts = text.split('§');
        out.extend(parts.next());
        for part in parts {
            let end = part.find(|c: char| !c.is_ascii_lowercase());
            let (name, rest) = part.split_at(end.unwrap_or(part.len()));
            match Ty::parse(name) {
                Some(ty) => out.push_str(&self.operand(ty, subject)),
                // Other letters belong to the text, as in `§if`.
                None => {
                    out.push_str(subject);
                    out.push_str(name);
                }
            }
            out.push_str(rest);
        }
        out
    }

    /// An operation on a variable of that type and length which is `wanted`.
    fn choose(
        &mut self,
        ty: Ty,
        size: usize,
        wanted: impl Fn(&Operation) -> bool,
    ) -> Option<&'static Operation> {
        let operations = operations(ty);
        let weight = |operation: &Operation| {
            let possible = operation.size <= size && wanted(operation);
            if possible { operation.weight } else { 0 }
        };
        let weights: Vec<u32> = operations.iter().map(weight).collect();
        let any = weights.iter().any(|&weight| weight > 0);
        any.then(|| &operations[self.context.rng.weighted(&weights)])
    }

    /// An expression of type `ty` over a variable that satisfies `from`, by one operation or two.
    fn value(&mut self, ty: Ty, from: impl Fn(&Var) -> bool) -> Option<String> {
        for _ in 0..6 {
            let Some(at) = self.find(&from) else {
                continue;
            };
            let Var {
                name,
                ty: subject,
                size,
                ..
            } = self.vars[at].clone();
            if subject == ty && self.context.rng.chance(0.2) {
                self.vars[at].unread = false;
                return Some(name);
            }
            let is_value = |o: &Operation| {
                o.raises.is_none()
                    && o.change.is_none()
                    && matches!(o.made[..], [made] if made.ty == ty)
            };
            if let Some(operation) = self.choose(subject, size, is_value) {
                self.vars[at].unread = false;
                return Some(self.text(operation, &name));
            }
        }
        None
    }

    /// A value of type `ty` from what is there, or a literal.
    fn any_value(&mut self, ty: Ty) -> String {
        let made = self.value(ty, |_| true);
        made.unwrap_or_else(|| expand(ty.literal(), self.context))
    }

    fn condition(&mut self) -> String {
        for _ in 0..8 {
            let made = self.value(Ty::Bool, |_| true);
            // What does not depend on data decides nothing.
            if let Some(made) = made.filter(|text| !text.starts_with("isinstance")) {
                return made;
            }
        }
        "True".to_owned()
    }

    fn statement(&mut self) {
        if self.structures > 0 && self.context.rng.chance(0.45) {
            self.structures -= 1;
            match self.context.rng.weighted(&[22, 26, 12, 14, 10, 9]) {
                0 => self.branch(),
                1 => self.for_loop(),
                2 => self.while_loop(),
                3 => self.guarded(),
                4 => self.helper(),
                _ => self.walrus(),
            }
            return;
        }
        match self.context.rng.weighted(&[60, 18, 8, 4]) {
            1 => self.change(),
            2 => self.conditional(),
            3 => self.show(),
            _ => self.derive(),
        }
    }

    /// New variables by an operation on one that is there.
    fn derive(&mut self) {
        let Some(at) = self.find(|_| true) else {
            return;
        };
        let Var { name, ty, size, .. } = self.vars[at].clone();
        let is_plain = |o: &Operation| o.raises.is_none() && o.change.is_none();
        let Some(first) = self.choose(ty, size, is_plain) else {
            return;
        };
        self.vars[at].unread = false;
        let text = self.text(first, &name);
        let chained = match first.made[..] {
            [made] if self.context.rng.chance(0.25) => {
                let size = made.size.unwrap_or(size);
                let next = |o: &Operation| is_plain(o) && o.chains;
                self.choose(made.ty, size, next).map(|next| (next, size))
            }
            _ => None,
        };
        match chained {
            Some((second, between)) => {
                let whole = self.text(second, &as_subject(&text));
                self.bind(&second.made, between, &whole, None);
            }
            None => self.bind(&first.made, size, &text, Some(at)),
        }
    }

    /// Binds what an operation on a subject of length `size` has made; the subject itself, now and then.
    fn bind(&mut self, made: &[Made], size: usize, text: &str, subject: Option<usize>) {
        if let ([one], Some(at)) = (made, subject)
            && one.ty == self.vars[at].ty
            && !self.vars[at].held
            && self.indent == 0
            && self.context.rng.chance(0.4)
        {
            self.vars[at].unread = true;
            self.vars[at].size = one.size.unwrap_or(size);
            let name = self.vars[at].name.clone();
            return self.line(format!("{name} = {text}"));
        }
        let names: Vec<String> = made
            .iter()
            .map(|one| {
                let name = self.declare(one.ty, one.size.unwrap_or(size));
                format!("{}{name}", if one.starred { "*" } else { "" })
            })
            .collect();
        self.line(format!("{} = {text}", names.join(", ")));
    }

    /// A statement that changes a variable in place.
    fn change(&mut self) {
        let is_change = |o: &Operation| o.raises.is_none() && o.change.is_some();
        for _ in 0..4 {
            let Some(at) = self.find(|var| !var.held) else {
                break;
            };
            let Var { name, ty, size, .. } = self.vars[at].clone();
            let Some(operation) = self.choose(ty, size, is_change) else {
                continue;
            };
            let text = self.text(operation, &name);
            let by = operation.change.unwrap_or_default();
            self.vars[at].unread = true;
            // In a branch it may not happen, in a loop it may happen often.
            self.vars[at].size = if self.indent == 0 {
                size.saturating_add_signed(by)
            } else if by < 0 {
                0
            } else {
                size
            };
            if operation.made.is_empty() {
                return self.line(text);
            }
            return self.bind(&operation.made, 0, &text, None);
        }
        self.derive();
    }

    /// `x = a if condition else b`.
    fn conditional(&mut self) {
        let ty = [Ty::Int, Ty::Text, Ty::Ints][self.context.rng.weighted(&[4, 4, 1])];
        let (first, condition) = (self.any_value(ty), self.condition());
        let second = self.any_value(ty);
        let name = self.declare(ty, 0);
        self.line(format!("{name} = {first} if {condition} else {second}"));
    }

    /// Prints something on the way.
    fn show(&mut self) {
        let Some(at) = self.find(|_| true) else {
            return;
        };
        let name = self.vars[at].name.clone();
        let other = self.any_value(Ty::Int);
        let form = match self.context.rng.below(5) {
            0 => format!("print({name}, {other}, sep='-')"),
            1 => format!("print({name}, end='; ')"),
            2 => format!("print(f'{{{name}}} {{{name}!r}}')"),
            3 => format!("print('{name}:', {name})"),
            _ => format!("print(*[{name}, {other}], sep=', ')"),
        };
        self.line(form);
    }

    /// What is left unread, or the latest variables.
    fn result(&mut self) -> String {
        let unread = self.vars.iter().filter(|var| var.unread);
        let mut names: Vec<&str> = unread.map(|var| var.name.as_str()).collect();
        if names.is_empty() {
            names.extend(self.vars.last().map(|var| var.name.as_str()));
        }
        let names = &names[names.len().saturating_sub(4)..];
        let Self { context, .. } = self;
        match (names, context.rng.below(12)) {
            ([a, b], 0) => format!("{{'{a}': {a}, '{b}': {b}}}"),
            ([_, _, ..], 1) => format!("[{}]", names.join(", ")),
            ([a, b], 2) => format!("f'{{{a}}} {{{b}}}'"),
            ([a], 0) => format!("str({a})"),
            ([a], 1) => format!("({a}, type({a}).__name__)"),
            ([a], 2) => format!("repr({a})"),
            _ => names.join(", "),
        }
    }
}

/// An expression as the subject of another: in brackets, if it needs them.
fn as_subject(text: &str) -> String {
    let mut depth = 0i32;
    let mut in_text = false;
    let mut loose =
        text.starts_with(['-', '~', '\'', '"']) || text.starts_with(|c: char| c.is_ascii_digit());
    for c in text.chars() {
        match c {
            '\'' | '"' => in_text = !in_text,
            '(' | '[' | '{' if !in_text => depth += 1,
            ')' | ']' | '}' if !in_text => depth -= 1,
            ' ' if depth == 0 && !in_text => loose = true,
            _ => {}
        }
    }
    if loose {
        format!("({text})")
    } else {
        text.to_owned()
    }
}

/// A template of this module's own.
fn template(text: &str) -> super::template::Template {
    parse(text).expect("templates in the code are tested")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_get_brackets_where_they_need_them() {
        for (text, expected) in [
            ("s.upper()", "s.upper()"),
            ("f(a, b)[1]", "f(a, b)[1]"),
            ("a + b", "(a + b)"),
            ("-x", "(-x)"),
            ("'a b'.join(ws)", "('a b'.join(ws))"),
        ] {
            assert_eq!(as_subject(text), expected);
        }
    }
}
