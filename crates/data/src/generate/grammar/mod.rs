//! The statement grammar: random typed programs, steered by data flow.
//!
//! Each statement prefers variables that nothing has read yet, and the result is made of those that
//! are still unread at the end, so that nearly every statement matters. Loops run over data or count
//! to a constant, so every program ends.

mod loops;

use super::block::{Block, Input};
use super::context::Context;
use super::exprs;
use super::template::parse;

/// Types of variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ty {
    Int,
    Text,
    /// A text of exactly one character.
    Char,
    Ints,
    Words,
    Dict,
    Bool,
}

#[derive(Clone, Debug)]
struct Var {
    name: String,
    ty: Ty,
    /// Whether nothing has read its present value.
    unread: bool,
    /// A length the sequence has at least.
    size: usize,
}

/// A program under construction.
struct Writer<'c> {
    context: &'c mut Context,
    vars: Vec<Var>,
    definitions: Vec<String>,
    /// Helper functions of one int parameter that return an int.
    helpers: Vec<String>,
    lines: Vec<String>,
    indent: usize,
    serial: usize,
}

/// Roles of new variables by type; see [`super::names::pool`].
fn role(ty: Ty) -> &'static str {
    match ty {
        Ty::Int => "x",
        Ty::Text => "s",
        Ty::Char => "ch",
        Ty::Ints => "xs",
        Ty::Words => "ws",
        Ty::Dict => "d",
        Ty::Bool => "flag",
    }
}

/// Writes a random block of the given level.
pub(crate) fn write(level: u8, context: &mut Context) -> Block {
    let function = context.name("f");
    let mut writer = Writer {
        context,
        vars: Vec::new(),
        definitions: Vec::new(),
        helpers: Vec::new(),
        lines: Vec::new(),
        indent: 0,
        serial: 0,
    };
    let (inputs, values) = writer.inputs();
    if level >= 3 && writer.context.rng.chance(0.5) || level == 2 && writer.context.rng.chance(0.2)
    {
        writer.helper();
    }
    // A loop makes a trace long by itself, so programs with loops get fewer other statements.
    let budget = writer.context.rng.range(2, 3 + i64::from(level.min(2)));
    let mut left = budget;
    while left > 0 {
        left -= writer.statement(level);
    }
    let result = writer.result();
    let Writer {
        lines,
        mut definitions,
        helpers,
        ..
    } = writer;
    let called = |name: &String| {
        let call = format!("{name}(");
        result.contains(&call) || lines.iter().any(|line| line.contains(&call))
    };
    if !helpers.iter().any(called) {
        definitions.clear();
    }
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
        let count = 1 + self.context.rng.weighted(&[11, 8, 1]);
        let mut inputs = Vec::new();
        let mut values = Vec::new();
        for _ in 0..count {
            let (ty, hole, size) = [
                (Ty::Int, "@int", 0),
                (Ty::Text, "«@word(3,7)|@word(3,8)|@mixed(3,7)|@str(3,6)»", 3),
                (Ty::Ints, "«@ints(2,5)|@smalls(3,5)|@ints(3,4)»", 2),
                (Ty::Words, "@words(2,4)", 2),
                (Ty::Dict, "«@dict(2,3)|@letters(2,3)»", 2),
            ][self.context.rng.weighted(&[34, 30, 26, 10, 6])];
            let value = parse(hole).unwrap_or_default();
            let name = self.declare(ty, size);
            values.push(super::template::expand(&value, self.context));
            inputs.push(Input { name, value });
        }
        (inputs, values)
    }

    /// A new variable with a fresh name.
    fn declare(&mut self, ty: Ty, size: usize) -> String {
        self.declare_as(role(ty), ty, size)
    }

    fn declare_as(&mut self, role: &str, ty: Ty, size: usize) -> String {
        self.serial += 1;
        let name = self.context.name(&format!("{role}{}", self.serial));
        self.vars.push(Var {
            name: name.clone(),
            ty,
            unread: true,
            size,
        });
        name
    }

    fn line(&mut self, text: impl AsRef<str>) {
        self.lines
            .push(format!("{}{}", "    ".repeat(self.indent), text.as_ref()));
    }

    /// Position of a variable that satisfies `fits`, mostly one not read yet.
    fn find(&mut self, fits: impl Fn(&Var) -> bool) -> Option<usize> {
        let all: Vec<usize> = (0..self.vars.len())
            .filter(|&i| fits(&self.vars[i]))
            .collect();
        let unread: Vec<usize> = all
            .iter()
            .copied()
            .filter(|&i| self.vars[i].unread)
            .collect();
        let pool = if !unread.is_empty() && self.context.rng.chance(0.8) {
            unread
        } else {
            all
        };
        if pool.is_empty() {
            None
        } else {
            Some(*self.context.rng.pick(&pool))
        }
    }

    /// Name of a variable of type `ty` and at least that length, now read.
    fn read(&mut self, ty: Ty, size: usize) -> Option<String> {
        let at = self.find(|var| var.ty == ty && var.size >= size)?;
        self.vars[at].unread = false;
        Some(self.vars[at].name.clone())
    }

    /// Up to two int variables as operands.
    fn operands(&mut self) -> Vec<String> {
        let Some(first) = self.read(Ty::Int, 0) else {
            return Vec::new();
        };
        let mut operands = vec![first];
        if self.context.rng.chance(0.5)
            && let Some(second) = self.read(Ty::Int, 0)
            && second != operands[0]
        {
            operands.push(second);
        }
        operands
    }

    /// An int expression over what is there.
    fn int(&mut self) -> String {
        let form = self.context.rng.weighted(&[50, 20, 20, 6, 10]);
        let made = match form {
            1 => self
                .read(Ty::Ints, 1)
                .map(|xs| exprs::reduce(&xs, self.context)),
            2 => self
                .read(Ty::Text, 0)
                .map(|s| exprs::measure(&s, self.context)),
            3 => self.read(Ty::Words, 0).map(|ws| format!("len({ws})")),
            4 if !self.helpers.is_empty() => self.read(Ty::Int, 0).map(|x| {
                let helper = self.context.rng.pick(&self.helpers);
                format!("{helper}({x})")
            }),
            _ => None,
        };
        if let Some(made) = made {
            return made;
        }
        let operands = self.operands();
        if operands.is_empty() {
            return match (self.read(Ty::Ints, 1), self.read(Ty::Text, 0)) {
                (Some(xs), _) => exprs::reduce(&xs, self.context),
                (None, Some(s)) => exprs::measure(&s, self.context),
                (None, None) => self.context.rng.range(1, 12).to_string(),
            };
        }
        let names: Vec<&str> = operands.iter().map(String::as_str).collect();
        exprs::int(&names, self.context)
    }

    fn text(&mut self) -> String {
        let form = self.context.rng.weighted(&[60, 12, 12, 8, 8]);
        match form {
            1 => {
                if let (Some(a), Some(b)) = (self.read(Ty::Text, 0), self.read(Ty::Text, 0)) {
                    return format!("{a} + {b}");
                }
            }
            2 => {
                if let Some(x) = self.read(Ty::Int, 0) {
                    return match (self.context.rng.below(3), self.read(Ty::Text, 0)) {
                        (0, Some(s)) => format!("f{0}{{{s}}}{{{x}}}{0}", self.context.quote),
                        (1, Some(s)) => format!("{s} + str({x})"),
                        _ => format!("str({x})"),
                    };
                }
            }
            3 => {
                if let Some(ws) = self.read(Ty::Words, 1) {
                    let mark = *self.context.rng.pick(&["-", " ", "", ","]);
                    let mark = self.context.quoted(mark);
                    return match self.context.rng.below(3) {
                        0 => format!("{ws}[{}]", self.context.rng.pick(&["0", "-1"])),
                        1 => format!("{mark}.join({ws})"),
                        _ => format!("{ws}[0] + {ws}[-1]"),
                    };
                }
            }
            4 => {
                if let Some(s) = self.read(Ty::Text, 2) {
                    return format!("{s}[0] + {s}[-1]");
                }
            }
            _ => {}
        }
        match self.read(Ty::Text, 0) {
            Some(s) => exprs::text(&s, self.context),
            None => {
                let x = self.int();
                format!("str({x})")
            }
        }
    }

    fn condition(&mut self) -> String {
        if self.context.rng.chance(0.35) {
            if let Some(s) = self.read(Ty::Text, 0) {
                return exprs::text_condition(&s, self.context);
            }
        } else if self.context.rng.chance(0.3) {
            if let Some(flag) = self.read(Ty::Bool, 0) {
                return if self.context.rng.chance(0.3) {
                    format!("not {flag}")
                } else {
                    flag
                };
            }
            if let Some(xs) = self.read(Ty::Ints, 2) {
                let item = self.context.rng.range(0, 9);
                return match self.context.rng.below(4) {
                    0 => format!("{item} in {xs}"),
                    1 => format!("len({xs}) > {}", self.context.rng.range(1, 4)),
                    2 => format!("{xs}[0] < {xs}[-1]"),
                    _ => format!("sum({xs}) > {}", self.context.rng.range(5, 30)),
                };
            }
        }
        let operands = self.operands();
        if operands.is_empty() {
            let measured = self.int();
            return format!("{measured} > {}", self.context.rng.range(1, 5));
        }
        let names: Vec<&str> = operands.iter().map(String::as_str).collect();
        exprs::condition(&names, self.context)
    }

    /// A value of type `ty` and the length it surely has.
    fn value(&mut self, ty: Ty) -> (String, usize) {
        match ty {
            Ty::Int => (self.int(), 0),
            Ty::Text => (self.text(), 0),
            Ty::Bool => (self.condition(), 0),
            Ty::Char => (self.context.letter_literal(), 1),
            Ty::Ints => self.ints(),
            Ty::Words => match self.read(Ty::Text, 0) {
                Some(s) if self.context.rng.chance(0.5) => (format!("list({s})"), 0),
                _ => match self.read(Ty::Words, 0) {
                    Some(ws) => (format!("sorted({ws})"), 0),
                    None => (
                        super::literal::Kind::Words.draw(&["2", "3"], self.context),
                        2,
                    ),
                },
            },
            Ty::Dict => (
                super::literal::Kind::Dict.draw(&["2", "3"], self.context),
                2,
            ),
        }
    }

    fn ints(&mut self) -> (String, usize) {
        if let Some(xs) = self.read(Ty::Ints, 0) {
            return (exprs::list(&xs, self.context), 0);
        }
        if let (true, Some(ws)) = (self.context.rng.chance(0.5), self.read(Ty::Words, 0)) {
            let w = self.context.name("w");
            return (format!("[len({w}) for {w} in {ws}]"), 0);
        }
        match (self.read(Ty::Int, 0), self.read(Ty::Int, 0)) {
            (Some(x), Some(y)) => {
                let other = self.context.rng.range(0, 9);
                (format!("[{x}, {other}, {y}]"), 3)
            }
            _ => (
                super::literal::Kind::Ints.draw(&["2", "4"], self.context),
                2,
            ),
        }
    }

    /// Writes one statement; the answer is what it costs of the program's budget.
    fn statement(&mut self, level: u8) -> i64 {
        let loop_weight = [30, 60, 70, 60][usize::from(level.clamp(1, 4)) - 1];
        let while_weight = [4, 22, 24, 20][usize::from(level.clamp(1, 4)) - 1];
        match self
            .context
            .rng
            .weighted(&[40, 22, 26, 16, 6, 8, loop_weight, while_weight])
        {
            0 => self.assign(),
            1 => self.augment(),
            2 => self.branch(level),
            3 => self.mutate(),
            4 => self.swap(),
            5 => self.table(),
            6 => {
                self.for_loop(level);
                return 3;
            }
            _ => {
                self.while_loop(level);
                return 3;
            }
        }
        1
    }

    fn assign(&mut self) {
        let ty = [Ty::Int, Ty::Text, Ty::Ints, Ty::Bool, Ty::Words]
            [self.context.rng.weighted(&[42, 26, 18, 8, 4])];
        let (value, size) = self.value(ty);
        if self.context.rng.chance(0.35)
            && matches!(ty, Ty::Int | Ty::Text)
            && let Some(at) = self.find(|var| var.ty == ty && !var.unread)
        {
            self.vars[at].unread = true;
            self.vars[at].size = size;
            let name = self.vars[at].name.clone();
            self.line(format!("{name} = {value}"));
            return;
        }
        let name = self.declare(ty, size);
        self.line(format!("{name} = {value}"));
    }

    fn augment(&mut self) {
        let Some(at) = self.find(|var| matches!(var.ty, Ty::Int | Ty::Text)) else {
            return self.assign();
        };
        let Var { name, ty, .. } = self.vars[at].clone();
        let change = if ty == Ty::Int {
            self.int_change(&name)
        } else {
            self.text_change(&name)
        };
        self.vars[at].unread = true;
        self.line(change);
    }

    fn int_change(&mut self, name: &str) -> String {
        let other = self.find(|var| var.ty == Ty::Int && var.name != name);
        let form = self.context.rng.weighted(&[36, 22, 10, 8, 8]);
        let small = self.context.rng.range(1, 9);
        let constant = super::literal::constant(&mut self.context.rng);
        let operand = match other {
            Some(at) if form < 2 && self.context.rng.chance(0.55) => {
                self.vars[at].unread = false;
                self.vars[at].name.clone()
            }
            _ => small.to_string(),
        };
        match form {
            0 => format!("{name} += {operand}"),
            1 => format!("{name} -= {operand}"),
            2 => format!("{name} *= {}", self.context.rng.range(2, 3)),
            3 => format!("{name} //= {constant}"),
            _ => format!("{name} %= {constant}"),
        }
    }

    fn text_change(&mut self, name: &str) -> String {
        let other = self.find(|var| var.ty == Ty::Text && var.name != name);
        match other {
            Some(at) if self.context.rng.chance(0.4) => {
                self.vars[at].unread = false;
                format!("{name} += {}", self.vars[at].name)
            }
            _ if self.context.rng.chance(0.5) => {
                format!("{name} += {}", self.context.letter_literal())
            }
            _ => format!("{name} = {}", exprs::text(name, self.context)),
        }
    }

    /// An `if` that changes one variable, or makes one, in a way that depends on data.
    fn branch(&mut self, level: u8) {
        let condition = self.condition();
        let target = self.find(|var| matches!(var.ty, Ty::Int | Ty::Text));
        let arms = self
            .context
            .rng
            .weighted(&[4, 5, if level > 1 { 2 } else { 1 }]);
        self.line(format!("if {condition}:"));
        match target {
            Some(at) if self.context.rng.chance(0.6) => {
                self.indent += 1;
                self.change(at);
                for arm in 1..=arms {
                    let again = (arm < arms).then(|| self.condition());
                    self.arm(again);
                    self.change(at);
                }
                self.indent -= 1;
            }
            _ => {
                let ty = if self.context.rng.chance(0.6) {
                    Ty::Int
                } else {
                    Ty::Text
                };
                // All that the arms read is chosen before the new variable can be.
                let last = arms.max(1);
                let mut values: Vec<String> = Vec::new();
                for _ in 0..=last {
                    let mut value = self.value(ty).0;
                    for _ in 0..3 {
                        if values.contains(&value) {
                            value = self.value(ty).0;
                        }
                    }
                    values.push(value);
                }
                let tests: Vec<String> = (1..last).map(|_| self.condition()).collect();
                let mut tests = tests.into_iter();
                let name = self.declare(ty, 0);
                self.indent += 1;
                for (i, value) in values.iter().enumerate() {
                    if i > 0 {
                        self.arm(tests.next());
                    }
                    self.line(format!("{name} = {value}"));
                }
                self.indent -= 1;
            }
        }
    }

    /// `elif` with the condition, or `else`, one level out.
    fn arm(&mut self, again: Option<String>) {
        self.indent -= 1;
        match again {
            Some(condition) => self.line(format!("elif {condition}:")),
            None => self.line("else:"),
        }
        self.indent += 1;
    }

    /// One line that changes the int or text variable at `at`.
    fn change(&mut self, at: usize) {
        let Var { name, ty, .. } = self.vars[at].clone();
        let change = if ty == Ty::Int {
            self.int_change(&name)
        } else {
            self.text_change(&name)
        };
        self.vars[at].unread = true;
        self.vars[at].size = 0;
        self.line(change);
    }

    /// A method call that changes a list.
    fn mutate(&mut self) {
        let Some(at) = self.find(|var| var.ty == Ty::Ints) else {
            return self.augment();
        };
        let Var { name, size, .. } = self.vars[at].clone();
        let form = self.context.rng.weighted(&[26, 10, 10, 10, 14, 10, 6]);
        let needs_item = matches!(form, 3 | 4);
        let (line, growth): (String, i64) = match form {
            1 => {
                let item = self.context.rng.range(0, 12);
                (
                    format!(
                        "{name}.insert({}, {item})",
                        self.context.rng.pick(&[0, 0, 1])
                    ),
                    1,
                )
            }
            2 => (
                format!(
                    "{name}.{}()",
                    self.context.rng.pick(&["sort", "reverse", "sort"])
                ),
                0,
            ),
            3 if size > 0 => {
                let popped = self.declare(Ty::Int, 0);
                let which = *self.context.rng.pick(&["", "", "0"]);
                (format!("{popped} = {name}.pop({which})"), -1)
            }
            4 if size > 0 => {
                let item = self.int();
                let place = *self.context.rng.pick(&["0", "-1"]);
                (format!("{name}[{place}] = {item}"), 0)
            }
            5 => {
                let (a, b) = (self.context.rng.range(0, 9), self.context.rng.range(0, 9));
                (format!("{name}.extend([{a}, {b}])"), 2)
            }
            6 => (format!("{name} = {name}[::-1]"), 0),
            _ => {
                let item = if needs_item {
                    "0".to_owned()
                } else {
                    self.int()
                };
                (format!("{name}.append({item})"), 1)
            }
        };
        self.vars[at].unread = true;
        self.vars[at].size = size.saturating_add_signed(growth as isize);
        self.line(line);
    }

    fn swap(&mut self) {
        let (Some(a), Some(b)) = (
            self.find(|v| v.ty == Ty::Int),
            self.find(|v| v.ty == Ty::Int),
        ) else {
            return self.assign();
        };
        if a == b {
            return self.assign();
        }
        let (x, y) = (self.vars[a].name.clone(), self.vars[b].name.clone());
        self.vars[a].unread = true;
        self.vars[b].unread = true;
        let sign = *self.context.rng.pick(&["+", "-"]);
        match self.context.rng.below(3) {
            0 => self.line(format!("{x}, {y} = {y}, {x} {sign} {y}")),
            1 => self.line(format!("{x}, {y} = {x} {sign} {y}, {x}")),
            _ => self.line(format!("{x}, {y} = {y}, {x}")),
        }
    }

    /// Reads from or writes to a dict.
    fn table(&mut self) {
        let Some(at) = self.find(|var| var.ty == Ty::Dict) else {
            return self.assign();
        };
        let d = self.vars[at].name.clone();
        let key = super::literal::Kind::KeyOf.draw(&[], self.context);
        match self.context.rng.below(4) {
            0 => {
                let value = self.int();
                self.line(format!("{d}[{key}] = {value}"));
                self.vars[at].unread = true;
            }
            1 => {
                let change = self.context.rng.range(1, 5);
                self.line(format!("{d}[{key}] = {d}.get({key}, 0) + {change}"));
                self.vars[at].unread = true;
            }
            2 => {
                self.vars[at].unread = false;
                let name = self.declare(Ty::Int, 0);
                let default = self.context.rng.range(-1, 5);
                self.line(format!("{name} = {d}.get({key}, {default})"));
            }
            _ => {
                self.vars[at].unread = false;
                let name = self.declare(Ty::Ints, self.vars[at].size);
                let gather = *self.context.rng.pick(&["list", "sorted"]);
                self.line(format!("{name} = {gather}({d}.values())"));
            }
        }
    }

    /// A function of one int, defined before the block.
    fn helper(&mut self) {
        let name = self.context.name("g");
        let x = self.context.name("a");
        let first = exprs::int(&[&x], self.context);
        let second = exprs::int(&[&x], self.context);
        let test = exprs::condition(&[&x], self.context);
        let body = match self.context.rng.below(4) {
            0 => format!("    return {first}\n"),
            1 => format!("    if {test}:\n        return {first}\n    return {second}\n"),
            2 => format!("    {x} = {first}\n    return {second}\n"),
            _ => format!("    return {first} if {test} else {second}\n"),
        };
        self.definitions.push(format!("def {name}({x}):\n{body}"));
        self.helpers.push(name);
    }

    /// What is left unread, after as much of it as possible has been brought together.
    fn result(&mut self) -> String {
        for _ in 0..4 {
            let unread = self.unread();
            // A second result is fine now and then; more would be programs side by side.
            let enough = if self.context.rng.chance(0.3) { 2 } else { 1 };
            if unread.len() <= enough {
                break;
            }
            self.bring_together(unread[0], unread[1]);
        }
        let mut unread = self.unread();
        unread.reverse();
        unread.truncate(2);
        match unread[..] {
            [] => self
                .vars
                .last()
                .map_or_else(|| "None".to_owned(), |var| var.name.clone()),
            [at] if self.context.rng.chance(0.2) => {
                let Var { name, ty, size, .. } = self.vars[at].clone();
                match ty {
                    Ty::Int => exprs::int(&[&name], self.context),
                    Ty::Text => exprs::text(&name, self.context),
                    Ty::Ints if size > 0 => exprs::reduce(&name, self.context),
                    Ty::Dict => format!("list({name}.items())"),
                    _ => name,
                }
            }
            _ => {
                let names: Vec<&str> = unread
                    .iter()
                    .map(|&at| self.vars[at].name.as_str())
                    .collect();
                names.join(", ")
            }
        }
    }

    fn unread(&self) -> Vec<usize> {
        (0..self.vars.len())
            .filter(|&at| self.vars[at].unread)
            .collect()
    }

    /// One statement that reads one variable into the other, the later one where types allow.
    fn bring_together(&mut self, earlier: usize, later: usize) {
        let (from, into) = match (self.vars[earlier].ty, self.vars[later].ty) {
            (Ty::Int | Ty::Text | Ty::Ints, Ty::Bool | Ty::Char) => (later, earlier),
            _ => (earlier, later),
        };
        let (source, target) = (self.vars[from].clone(), self.vars[into].clone());
        let (s, t) = (&source.name, &target.name);
        let line = match (source.ty, target.ty) {
            (Ty::Int, Ty::Int) => match self.context.rng.below(5) {
                0 => format!("{t} -= {s}"),
                1 => format!("{t} = max({s}, {t})"),
                2 => format!("{t} = {s} - {t}"),
                _ => format!("{t} += {s}"),
            },
            (Ty::Bool, Ty::Int) => {
                let amount = self.context.rng.range(1, 5);
                self.line(format!("if {s}:"));
                format!("    {t} += {amount}")
            }
            (Ty::Bool, Ty::Text) => {
                self.line(format!("if {s}:"));
                format!("    {t} = {t}.upper()")
            }
            (Ty::Text | Ty::Char, Ty::Text) => match self.context.rng.below(3) {
                0 => format!("{t} = {s} + {t}"),
                _ => format!("{t} += {s}"),
            },
            (Ty::Int, Ty::Text) => format!("{t} += str({s})"),
            (Ty::Int, Ty::Ints) => match self.context.rng.below(3) {
                0 => format!("{t}.insert(0, {s})"),
                _ => format!("{t}.append({s})"),
            },
            (Ty::Ints, Ty::Ints) | (Ty::Words, Ty::Words) => format!("{t} = {s} + {t}"),
            (Ty::Text | Ty::Char, Ty::Words) => format!("{t}.append({s})"),
            (Ty::Text | Ty::Ints | Ty::Words | Ty::Dict, Ty::Int) => format!("{t} += len({s})"),
            (Ty::Bool, Ty::Ints) => format!("{t}.append(int({s}))"),
            (_, Ty::Ints) => format!("{t}.append(len({s}))"),
            (_, Ty::Dict) => {
                let key = super::literal::Kind::KeyOf.draw(&[], self.context);
                match source.ty {
                    Ty::Int | Ty::Bool => format!("{t}[{key}] = {s}"),
                    _ => format!("{t}[{key}] = len({s})"),
                }
            }
            (_, Ty::Text) => format!("{t} += str(len({s}))"),
            (_, Ty::Words) => format!("{t}.append(str({s}))"),
            (Ty::Bool, Ty::Bool) => match self.context.rng.below(3) {
                0 => format!("{t} = {s} and {t}"),
                1 => format!("{t} = {s} or {t}"),
                _ => format!("{t} = {s} != {t}"),
            },
            (_, Ty::Bool | Ty::Char) => {
                format!("{t} = {t} and len({s}) > {}", self.context.rng.range(1, 4))
            }
            (Ty::Char, Ty::Int) => format!("{t} += len({s})"),
        };
        self.vars[from].unread = false;
        self.vars[into].unread = true;
        self.line(line);
    }
}
