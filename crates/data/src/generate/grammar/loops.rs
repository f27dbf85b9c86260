//! Loops of the statement grammar: something is gathered from what the loop variable takes on.

use super::{Ty, Var, Writer};
use crate::generate::exprs;

/// What a loop header offers to its body.
struct Header {
    text: String,
    vars: Vec<(String, Ty)>,
}

/// A variable that the loop builds up.
#[derive(Clone)]
struct Gathered {
    name: String,
    ty: Ty,
}

impl Writer<'_> {
    pub(super) fn for_loop(&mut self, level: u8) {
        let header = self.header(level);
        let mut gathered = vec![self.start(&header.vars)];
        if self.context.rng.chance(0.25) {
            gathered.push(self.start(&header.vars));
        }
        self.line(&header.text);
        self.indent += 1;
        if level >= 2 && self.context.rng.chance(0.16) {
            let leave = *self.context.rng.pick(&["continue", "continue", "break"]);
            let test = self.test(&header.vars);
            self.line(format!("if {test}:"));
            self.indent += 1;
            self.line(leave);
            self.indent -= 1;
        }
        if level >= 3 && self.context.rng.chance(0.25) {
            self.inner_loop(&header.vars, &gathered[0]);
        } else {
            for variable in &gathered {
                self.gather(&header.vars, variable, level);
            }
        }
        self.indent -= 1;
        self.finish(&gathered);
    }

    /// A second loop in the body of the first.
    fn inner_loop(&mut self, outer: &[(String, Ty)], gathered: &Gathered) {
        let j = self.context.name("j");
        let stop = match outer.iter().find(|(_, ty)| *ty == Ty::Int) {
            Some((i, _)) if self.context.rng.chance(0.3) => format!("{i} % 3 + 1"),
            _ => self.context.rng.range(2, 3).to_string(),
        };
        self.line(format!("for {j} in range({stop}):"));
        self.indent += 1;
        let mut vars: Vec<(String, Ty)> = outer.to_vec();
        vars.push((j, Ty::Int));
        self.gather(&vars, gathered, 2);
        self.indent -= 1;
    }

    pub(super) fn while_loop(&mut self, level: u8) {
        match self.context.rng.weighted(&[30, 26, 18, 14, 12]) {
            1 => self.shrink(level),
            2 => self.drain(level),
            3 => self.grow_number(),
            4 => self.grow_text(),
            _ => self.count(level),
        }
    }

    /// `i = 0`, then `while i < k` with `i += 1` at the end.
    fn count(&mut self, level: u8) {
        let i = self.context.name("i");
        let gathered = self.start(&[]);
        let indexed = match self.find(|var| var.ty == Ty::Ints) {
            Some(at) if self.context.rng.chance(0.5) => {
                self.vars[at].unread = false;
                Some(self.vars[at].name.clone())
            }
            _ => None,
        };
        let down = indexed.is_none() && self.context.rng.chance(0.3);
        let step = self.context.rng.weighted(&[8, 2]) + 1;
        let bound = self.context.rng.range(3, 6);
        if down {
            self.line(format!("{i} = {bound}"));
            self.line(format!("while {i} > 0:"));
        } else {
            let start = if indexed.is_some() {
                0
            } else {
                self.context.rng.below(2)
            };
            self.line(format!("{i} = {start}"));
            match &indexed {
                Some(xs) => self.line(format!("while {i} < len({xs}):")),
                None => self.line(format!("while {i} < {bound}:")),
            }
        }
        self.indent += 1;
        let variable = match &indexed {
            Some(xs) => format!("{xs}[{i}]"),
            None => i.clone(),
        };
        self.gather(&[(variable, Ty::Int)], &gathered, level);
        self.line(format!("{i} {} {step}", if down { "-=" } else { "+=" }));
        self.indent -= 1;
        self.finish(&[gathered]);
    }

    /// Takes a number apart by division or subtraction.
    fn shrink(&mut self, level: u8) {
        let n = self.context.name("n");
        let start = self.context.rng.range(11, 199);
        let gathered = self.start(&[]);
        let (divide, by) = match self.context.rng.below(3) {
            0 => (true, 10),
            1 => (true, *self.context.rng.pick(&[2, 3, 4])),
            _ => (false, (start / self.context.rng.range(3, 5)).max(1)),
        };
        self.line(format!("{n} = {start}"));
        let floor = if divide {
            0
        } else {
            self.context.rng.range(0, by)
        };
        self.line(format!("while {n} > {floor}:"));
        self.indent += 1;
        let offered = if divide && self.context.rng.chance(0.7) {
            let digit = self.context.name("digit");
            self.line(format!("{digit} = {n} % {by}"));
            digit
        } else {
            n.clone()
        };
        self.gather(&[(offered, Ty::Int)], &gathered, level.min(2));
        self.line(format!("{n} {} {by}", if divide { "//=" } else { "-=" }));
        self.indent -= 1;
        self.finish(&[gathered]);
    }

    /// Pops a list until it is empty.
    fn drain(&mut self, level: u8) {
        let Some(at) = self.find(|var| var.ty == Ty::Ints) else {
            return self.count(level);
        };
        let xs = self.vars[at].name.clone();
        self.vars[at].unread = false;
        self.vars[at].size = 0;
        let x = self.context.name("x");
        let gathered = self.start(&[]);
        let floor = self.context.rng.weighted(&[6, 2]);
        self.line(if floor == 0 {
            format!("while {xs}:")
        } else {
            format!("while len({xs}) > 1:")
        });
        self.indent += 1;
        let place = *self.context.rng.pick(&["", "", "0"]);
        self.line(format!("{x} = {xs}.pop({place})"));
        self.gather(&[(x, Ty::Int)], &gathered, level);
        self.indent -= 1;
        self.finish(&[gathered]);
    }

    /// Adds or multiplies until a bound is passed, counting the steps.
    fn grow_number(&mut self) {
        let total = self.context.name("acc0");
        let steps = self.context.name("cnt0");
        let bound = self.context.rng.range(15, 90);
        let start = self.context.rng.range(1, 5);
        self.line(format!("{total} = {start}"));
        self.line(format!("{steps} = 0"));
        self.line(format!("while {total} < {bound}:"));
        self.indent += 1;
        let factor = self.context.rng.range(2, 3);
        match self.context.rng.below(3) {
            0 => self.line(format!("{total} *= {factor}")),
            1 => self.line(format!("{total} += {} + {steps}", bound / 5)),
            _ => {
                let addend = bound / self.context.rng.range(3, 5);
                self.line(format!("{total} += {addend}"));
            }
        }
        self.line(format!("{steps} += 1"));
        self.indent -= 1;
        for name in [total, steps] {
            self.vars.push(Var {
                name,
                ty: Ty::Int,
                unread: true,
                size: 0,
            });
        }
    }

    /// Lengthens a text up to a fixed length.
    fn grow_text(&mut self) {
        let Some(at) = self.find(|var| var.ty == Ty::Text) else {
            return self.grow_number();
        };
        let s = self.vars[at].name.clone();
        let goal = self.context.rng.range(6, 10);
        let piece = self.context.letter_literal();
        self.line(format!("while len({s}) < {goal}:"));
        self.indent += 1;
        match self.context.rng.below(3) {
            0 => self.line(format!("{s} = {piece} + {s}")),
            1 => self.line(format!("{s} += str(len({s}))")),
            _ => self.line(format!("{s} += {piece}")),
        }
        self.indent -= 1;
        self.vars[at].unread = true;
        self.vars[at].size = 6;
    }

    /// A loop over data where there is some, else over a range.
    fn header(&mut self, level: u8) -> Header {
        for _ in 0..3 {
            let form = self.context.rng.weighted(&[24, 22, 12, 12, 7, 6, 12]);
            let header = match form {
                0 => self.over(Ty::Ints, "x", Ty::Int),
                1 => self.over(Ty::Text, "ch", Ty::Char),
                2 => self.over(Ty::Words, "w", Ty::Text),
                3 => self.over_enumerated(),
                4 => self.over_items(),
                5 if level >= 2 => self.over_pairs(),
                _ => Some(self.counted_header()),
            };
            if let Some(header) = header {
                return header;
            }
        }
        self.counted_header()
    }

    fn over(&mut self, sequence: Ty, role: &str, item: Ty) -> Option<Header> {
        let name = self.read(sequence, 1)?;
        let item_name = self.context.name(role);
        Some(header(
            format!("for {item_name} in {name}:"),
            [(item_name, item)],
        ))
    }

    fn over_enumerated(&mut self) -> Option<Header> {
        let (name, role, item) = match self.read(Ty::Ints, 1) {
            Some(name) => (name, "x", Ty::Int),
            None => (self.read(Ty::Text, 2)?, "ch", Ty::Char),
        };
        let (i, item_name) = (self.context.name("i"), self.context.name(role));
        let start = if self.context.rng.chance(0.2) {
            ", 1"
        } else {
            ""
        };
        let text = format!("for {i}, {item_name} in enumerate({name}{start}):");
        Some(header(text, [(i, Ty::Int), (item_name, item)]))
    }

    fn over_items(&mut self) -> Option<Header> {
        let name = self.read(Ty::Dict, 1)?;
        let (key, value) = (self.context.name("key"), self.context.name("val"));
        let text = format!("for {key}, {value} in {name}.items():");
        Some(header(text, [(key, Ty::Text), (value, Ty::Int)]))
    }

    fn over_pairs(&mut self) -> Option<Header> {
        let (xs, s) = (self.read(Ty::Ints, 1)?, self.read(Ty::Text, 2)?);
        let (x, ch) = (self.context.name("x"), self.context.name("ch"));
        let text = format!("for {x}, {ch} in zip({xs}, {s}):");
        Some(header(text, [(x, Ty::Int), (ch, Ty::Char)]))
    }

    fn counted_header(&mut self) -> Header {
        let i = self.context.name("i");
        let rng = &mut self.context.rng;
        let low = rng.range(1, 4);
        let text = match rng.weighted(&[5, 5, 2, 2]) {
            0 => format!("for {i} in range({}):", rng.range(3, 6)),
            1 => format!("for {i} in range({low}, {}):", low + rng.range(3, 5)),
            2 => {
                let step = rng.range(2, 4);
                format!(
                    "for {i} in range({low}, {}, {step}):",
                    low + step * rng.range(2, 4)
                )
            }
            _ => format!(
                "for {i} in range({}, {}, -1):",
                low + rng.range(2, 4),
                low - 1
            ),
        };
        header(text, [(i, Ty::Int)])
    }

    /// Binds a variable to gather into; it joins the readable ones when the loop is over.
    /// Without loop variables that are known yet, they are taken to be ints.
    fn start(&mut self, vars: &[(String, Ty)]) -> Gathered {
        let over_ints = vars.is_empty() || vars.iter().any(|(_, ty)| *ty == Ty::Int);
        let list = if over_ints { Ty::Ints } else { Ty::Words };
        let (role, ty, value) = [
            ("acc", Ty::Int, None),
            ("out", list, Some("[]")),
            ("out", Ty::Text, Some("''")),
            ("d", Ty::Dict, Some("{}")),
        ][self.context.rng.weighted(&[44, 26, 20, 10])];
        self.serial += 1;
        let name = self.context.name(&format!("{role}{}", self.serial));
        let start = match value {
            Some("''") => self.context.quoted(""),
            Some(empty) => empty.to_owned(),
            None if self.context.rng.chance(0.75) => "0".to_owned(),
            None => self.context.rng.range(1, 10).to_string(),
        };
        self.line(format!("{name} = {start}"));
        Gathered { name, ty }
    }

    fn finish(&mut self, gathered: &[Gathered]) {
        for Gathered { name, ty } in gathered {
            self.vars.push(Var {
                name: name.clone(),
                ty: *ty,
                unread: true,
                size: 0,
            });
        }
    }

    /// Statements that change `gathered`, always or by case.
    fn gather(&mut self, vars: &[(String, Ty)], gathered: &Gathered, level: u8) {
        let arms = self
            .context
            .rng
            .weighted(&[45, 30, 22, if level > 1 { 8 } else { 0 }]);
        if arms == 0 {
            let update = self.update(vars, gathered);
            return self.line(update);
        }
        let mut earlier = String::new();
        for arm in 0..arms {
            let mut update = self.update(vars, gathered);
            for _ in 0..3 {
                if update == earlier {
                    update = self.update(vars, gathered);
                }
            }
            earlier.clone_from(&update);
            if arm > 0 && arm + 1 == arms {
                self.line("else:");
            } else {
                let test = self.test(vars);
                self.line(format!("{} {test}:", if arm == 0 { "if" } else { "elif" }));
            }
            self.indent += 1;
            self.line(update);
            self.indent -= 1;
        }
    }

    /// A condition on the loop's variables.
    fn test(&mut self, vars: &[(String, Ty)]) -> String {
        let (name, ty) = self.context.rng.pick(vars).clone();
        match ty {
            Ty::Char => exprs::char_condition(&name, self.context),
            Ty::Text => exprs::text_condition(&name, self.context),
            _ => {
                let outer = if self.context.rng.chance(0.25) {
                    self.read(Ty::Int, 0)
                } else {
                    None
                };
                let operands: Vec<&str> = [Some(&name), outer.as_ref()]
                    .into_iter()
                    .flatten()
                    .map(String::as_str)
                    .collect();
                // A counter is compared with small numbers, not with those of the data.
                let counter = [self.context.name("i"), self.context.name("j")].contains(&name);
                let data = std::mem::take(&mut self.context.recall.ints);
                if !counter {
                    self.context.recall.ints.clone_from(&data);
                }
                let condition = exprs::condition(&operands, self.context);
                self.context.recall.ints = data;
                condition
            }
        }
    }

    /// One line that folds the loop's variables into `gathered`.
    fn update(&mut self, vars: &[(String, Ty)], gathered: &Gathered) -> String {
        let name = &gathered.name;
        match gathered.ty {
            Ty::Int => {
                let item = self.item_int(vars);
                match self.context.rng.weighted(&[46, 14, 12, 6, 5]) {
                    1 => format!("{name} -= {}", parenthesised(&item)),
                    2 => format!("{name} += {}", self.context.rng.range(1, 3)),
                    3 => format!(
                        "{name} = {}({name}, {item})",
                        self.context.rng.pick(&["max", "min"])
                    ),
                    4 => {
                        let modulus = *self.context.rng.pick(&[10, 50, 97, 100]);
                        format!("{name} = ({name} * 2 + {item}) % {modulus}")
                    }
                    _ => format!("{name} += {item}"),
                }
            }
            Ty::Text => {
                let item = self.item_text(vars);
                if self.context.rng.chance(0.25) {
                    format!("{name} = {item} + {name}")
                } else {
                    format!("{name} += {item}")
                }
            }
            Ty::Dict => {
                let key = vars[0].0.clone();
                match self.context.rng.below(3) {
                    0 => format!("{name}[{key}] = {name}.get({key}, 0) + 1"),
                    1 => {
                        let value = self.item_int(vars);
                        format!("{name}[{key}] = {value}")
                    }
                    _ => {
                        let value = self.item_int(&vars[vars.len() - 1..]);
                        format!(
                            "{name}[{key}] = {name}.get({key}, 0) + {}",
                            parenthesised(&value)
                        )
                    }
                }
            }
            _ => {
                let item = if gathered.ty == Ty::Ints {
                    self.item_int(vars)
                } else {
                    self.item_text(vars)
                };
                match self.context.rng.weighted(&[8, 2]) {
                    0 => format!("{name}.append({item})"),
                    _ => format!("{name}.insert(0, {item})"),
                }
            }
        }
    }

    fn item_int(&mut self, vars: &[(String, Ty)]) -> String {
        let ints: Vec<&str> = vars
            .iter()
            .filter(|(_, ty)| *ty == Ty::Int)
            .map(|(name, _)| name.as_str())
            .collect();
        if let (true, Some(i)) = (self.context.rng.chance(0.3), ints.first()) {
            return (*i).to_owned();
        }
        if !ints.is_empty() {
            if !self.helpers.is_empty() && self.context.rng.chance(0.5) {
                return format!("{}({})", self.context.rng.pick(&self.helpers), ints[0]);
            }
            return exprs::int(&ints, self.context);
        }
        let (name, ty) = &vars[0];
        match (ty, self.context.rng.below(5)) {
            (Ty::Text, 0..=2) => format!("len({name})"),
            (Ty::Text, _) => format!("len({name}) * 2"),
            (_, 0) => {
                let a = self.context.quoted("a");
                format!("ord({name}) - ord({a})")
            }
            _ => self.context.rng.range(1, 5).to_string(),
        }
    }

    fn item_text(&mut self, vars: &[(String, Ty)]) -> String {
        let (name, ty) = self.context.rng.pick(vars).clone();
        match (ty, self.context.rng.below(3)) {
            (Ty::Char, 0) => name,
            (Ty::Char, _) => exprs::char_text(&name, self.context),
            (Ty::Text, 0) => format!("{name}[0]"),
            (Ty::Text, 1) => format!("{name}[-1]"),
            (Ty::Text, _) => format!("{name}[:2]"),
            (_, 0) => format!("str({name} % {})", self.context.rng.range(2, 5)),
            (_, 1) => format!("str({name})"),
            _ => {
                let mark = *self.context.rng.pick(&["-", ",", "x", "."]);
                format!("str({name}) + {}", self.context.quoted(mark))
            }
        }
    }
}

fn header<const N: usize>(text: String, vars: [(String, Ty); N]) -> Header {
    Header {
        text,
        vars: vars.into(),
    }
}

/// `text`, in parentheses where an operator before it would bind only its first operand.
fn parenthesised(text: &str) -> String {
    if text.contains(" - ") || text.contains(" + ") {
        format!("({text})")
    } else {
        text.to_owned()
    }
}
