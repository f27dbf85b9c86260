//! Control structures of the grammar for level 5.

use super::operations::{Operation, Ty};
use super::{Var, Writer, helpers, template};
use crate::generate::template::expand;

/// What a loop builds up.
#[derive(Clone, Debug)]
struct Gathered {
    name: String,
    ty: Ty,
}

impl Writer<'_> {
    /// An `if` whose arms give one new variable a value each, or change one that is there.
    pub(super) fn branch(&mut self) {
        let arms = 2 + self.context.rng.weighted(&[5, 3]);
        let ty = [Ty::Int, Ty::Text, Ty::Ints, Ty::Float][self.context.rng.weighted(&[5, 5, 2, 1])];
        let mut values: Vec<String> = Vec::new();
        for _ in 0..arms {
            let another = self.other_value(ty, &values);
            values.push(another);
        }
        let tests: Vec<String> = (1..arms).map(|_| self.condition()).collect();
        let is_used = |name: &String| values.contains(name);
        let existing = self.find(|var| var.ty == ty && !var.held && !is_used(&var.name));
        let name = match existing {
            Some(at) if self.context.rng.chance(0.35) => {
                self.vars[at].unread = true;
                self.vars[at].size = 0;
                self.vars[at].name.clone()
            }
            _ => self.declare(ty, 0),
        };
        for (arm, value) in values.iter().enumerate() {
            match tests.get(arm) {
                Some(test) if arm == 0 => self.line(format!("if {test}:")),
                Some(test) => self.line(format!("elif {test}:")),
                None => self.line("else:"),
            }
            self.line(format!("    {name} = {value}"));
        }
    }

    /// A value of type `ty` that is none of `others`, if one comes soon.
    fn other_value(&mut self, ty: Ty, others: &[String]) -> String {
        let mut value = self.any_value(ty);
        for _ in 0..4 {
            if !others.contains(&value) {
                break;
            }
            value = self.any_value(ty);
        }
        value
    }

    /// `if (n := ...) > ...:` with a use of what was named.
    pub(super) fn walrus(&mut self) {
        let value = self.any_value(Ty::Int);
        let into = self.find(|var| var.ty == Ty::Text && !var.held);
        let name = self.declare(Ty::Int, 0);
        let bound = self.context.rng.range(1, 9);
        let compare = *self.context.rng.pick(&[">", "<", ">=", "!=", "%"]);
        self.line(format!("if ({name} := {value}) {compare} {bound}:"));
        match into {
            Some(at) => {
                let text = self.vars[at].name.clone();
                self.vars[at].unread = true;
                self.line(format!("    {text} += str({name})"));
            }
            None => self.line(format!("    {name} *= 2")),
        }
    }

    pub(super) fn for_loop(&mut self) {
        let before = self.vars.len();
        let is_sequence = |var: &Var| {
            !matches!(
                var.ty,
                Ty::Int | Ty::Float | Ty::Bool | Ty::Bytes | Ty::Table | Ty::Any
            )
        };
        let at = self.find(is_sequence);
        let was_held = at.is_some_and(|at| self.vars[at].held);
        let header = self.header(at);
        // What the loop builds up is there before it, and stays.
        let own = self.vars.split_off(before);
        let gathered = self.start();
        let first = self.vars.len();
        self.vars.extend(own);
        self.line(header);
        self.indent += 1;
        let leaves = self.leave(first);
        if self.context.rng.chance(0.3) {
            self.local(first);
        }
        self.gather(&gathered, first);
        self.indent -= 1;
        if leaves && self.context.rng.chance(0.5) {
            self.otherwise(&gathered);
        }
        self.vars.truncate(first);
        if let Some(at) = at {
            self.vars[at].held = was_held;
        }
    }

    /// The header of a loop over the variable at `at`, or over numbers; declares its variables.
    fn header(&mut self, at: Option<usize>) -> String {
        let Some(at) = at else {
            let bound = self.context.rng.range(3, 6);
            let i = self.declare(Ty::Int, 0);
            let start = self.context.rng.pick(&["", "1, ", "0, "]).to_string();
            return format!("for {i} in range({start}{bound}):");
        };
        self.vars[at].unread = false;
        self.vars[at].held = true;
        let Var { name, ty, .. } = self.vars[at].clone();
        let form = self.context.rng.below(8);
        let one = |writer: &mut Self, ty: Ty, what: String| {
            let x = writer.declare(ty, if ty == Ty::Text { 1 } else { 0 });
            format!("for {x} in {what}:")
        };
        let two = |writer: &mut Self, types: [Ty; 2], what: String| {
            let [a, b] = types.map(|ty| writer.declare(ty, 0));
            format!("for {a}, {b} in {what}:")
        };
        match (ty, form) {
            (Ty::Ints | Ty::Tuple | Ty::Deque, 0) => {
                two(self, [Ty::Int, Ty::Int], format!("enumerate({name})"))
            }
            (Ty::Ints | Ty::Tuple, 1) => {
                let other = self.operand(Ty::Ints, &name);
                two(self, [Ty::Int, Ty::Int], format!("zip({name}, {other})"))
            }
            (Ty::Ints | Ty::Tuple, 2) => one(self, Ty::Int, format!("reversed({name})")),
            (Ty::Ints | Ty::Tuple | Ty::Deque, _) => one(self, Ty::Int, name),
            (Ty::Set, _) => one(self, Ty::Int, format!("sorted({name})")),
            (Ty::Floats, _) => one(self, Ty::Float, name),
            (Ty::Words, 0..=1) => two(self, [Ty::Int, Ty::Text], format!("enumerate({name}, 1)")),
            (Ty::Words, _) => {
                let x = self.declare(Ty::Text, 0);
                format!("for {x} in {name}:")
            }
            (Ty::Digits, _) => one(self, Ty::Digits, name),
            (Ty::Text, 0..=1) => two(self, [Ty::Int, Ty::Text], format!("enumerate({name})")),
            (Ty::Text, 2) => one(self, Ty::Text, format!("{name}.split()")),
            (Ty::Text, _) => one(self, Ty::Text, name),
            (Ty::Points, _) => two(self, [Ty::Int, Ty::Int], name),
            (Ty::Pairs, _) => two(self, [Ty::Text, Ty::Int], name),
            (Ty::Dict, 0..=1) => one(self, Ty::Text, name),
            (Ty::Dict | Ty::Counter, 2..=3) => {
                two(self, [Ty::Text, Ty::Int], format!("sorted({name}.items())"))
            }
            _ => two(self, [Ty::Text, Ty::Int], format!("{name}.items()")),
        }
    }

    /// A variable for a loop to build up, with the line that starts it.
    fn start(&mut self) -> Gathered {
        const TYPES: [(Ty, &str, u32); 8] = [
            (Ty::Int, "acc", 30),
            (Ty::Ints, "out", 22),
            (Ty::Text, "out", 18),
            (Ty::Words, "out", 12),
            (Ty::Dict, "d", 14),
            (Ty::Set, "seen", 5),
            (Ty::Float, "acc", 5),
            (Ty::Deque, "queue", 3),
        ];
        let (ty, role, _) = TYPES[self.context.rng.weighted(&TYPES.map(|(.., weight)| weight))];
        let start = match ty {
            Ty::Int => ["0", "0", "1", "10"][self.context.rng.below(4)],
            Ty::Text => "''",
            Ty::Dict => ["{}", "defaultdict(int)"][self.context.rng.weighted(&[4, 1])],
            Ty::Set => "set()",
            Ty::Float => "0.0",
            Ty::Deque => ["deque()", "deque(maxlen=2)"][self.context.rng.below(2)],
            _ => "[]",
        };
        self.serial += 1;
        let name = self.context.name(&format!("{role}{}", self.serial));
        self.line(format!("{name} = {start}"));
        self.vars.push(Var {
            name: name.clone(),
            ty,
            unread: true,
            size: 0,
            held: false,
        });
        Gathered { name, ty }
    }

    /// `continue` or `break` on a condition on what the loop gives; whether it is a `break`.
    fn leave(&mut self, first: usize) -> bool {
        if !self.context.rng.chance(0.35) {
            return false;
        }
        let Some(test) = self.inner(Ty::Bool, first) else {
            return false;
        };
        let word = *self.context.rng.pick(&["continue", "break", "continue"]);
        self.line(format!("if {test}:"));
        self.line(format!("    {word}"));
        word == "break"
    }

    /// A variable of the body's own.
    fn local(&mut self, first: usize) {
        let ty = [Ty::Int, Ty::Text, Ty::Bool][self.context.rng.weighted(&[4, 4, 1])];
        if let Some(value) = self.inner(ty, first) {
            let name = self.declare(ty, 0);
            self.line(format!("{name} = {value}"));
        }
    }

    /// A value over variables of the loop, those at `first` and behind.
    fn inner(&mut self, ty: Ty, first: usize) -> Option<String> {
        let own: Vec<String> = self.vars[first..]
            .iter()
            .map(|var| var.name.clone())
            .collect();
        self.value(ty, |var| own.contains(&var.name))
    }

    /// The statement by which a loop builds up its variable.
    fn gather(&mut self, gathered: &Gathered, first: usize) {
        let Gathered { name, ty } = gathered;
        let form = self.context.rng.below(6);
        let item = match ty {
            Ty::Ints | Ty::Set | Ty::Deque | Ty::Int => Ty::Int,
            Ty::Words | Ty::Text | Ty::Dict => Ty::Text,
            other => *other,
        };
        let value = match self.inner(item, first) {
            Some(value) => value,
            None => expand(item.literal(), self.context),
        };
        let statement = match ty {
            Ty::Int | Ty::Float if form == 0 => format!("{name} -= {value}"),
            Ty::Int if form == 1 => format!("{name} = max({name}, {value})"),
            Ty::Int | Ty::Float => format!("{name} += {value}"),
            Ty::Text if form == 0 => format!("{name} = {value} + {name}"),
            Ty::Text => format!("{name} += {value}"),
            Ty::Set => format!("{name}.add({value})"),
            Ty::Dict => {
                let amount = self.inner(Ty::Int, first);
                let amount = amount
                    .filter(|_| form > 2)
                    .unwrap_or_else(|| "1".to_owned());
                format!("{name}[{value}] = {name}.get({value}, 0) + {amount}")
            }
            Ty::Deque if form == 0 => format!("{name}.appendleft({value})"),
            Ty::Ints | Ty::Words if form == 0 => format!("{name}.insert(0, {value})"),
            _ => format!("{name}.append({value})"),
        };
        let guarded = self.context.rng.chance(0.3);
        let test = if guarded {
            self.inner(Ty::Bool, first)
        } else {
            None
        };
        match test {
            Some(test) => {
                self.line(format!("if {test}:"));
                self.line(format!("    {statement}"));
            }
            None => self.line(statement),
        }
    }

    /// `else` of a loop that may be left.
    fn otherwise(&mut self, gathered: &Gathered) {
        let Gathered { name, ty } = gathered;
        let number = self.context.rng.range(1, 9);
        let statement = match ty {
            Ty::Int | Ty::Float => format!("{name} += {number}"),
            Ty::Text => format!("{name} += '!'"),
            Ty::Ints | Ty::Deque => format!("{name}.append({number})"),
            Ty::Set => format!("{name}.add({number})"),
            Ty::Dict => format!("{name}['end'] = {number}"),
            _ => format!("{name}.append('end')"),
        };
        self.line("else:");
        self.line(format!("    {statement}"));
    }

    /// A `while` over what shrinks, or that counts: from what is there, or from something new.
    pub(super) fn while_loop(&mut self) {
        const NUMBER: (Ty, &str, &str) = (Ty::Int, "abs(§) % 60 + @int(5,20)", "@int(12,90)");
        const LIST: (Ty, &str, &str) = (
            Ty::Ints,
            "«§[:]|list(§)|sorted(§)|[*§, @int(1,9)]»",
            "@smalls(3,5)",
        );
        const TEXT: (Ty, &str, &str) = (Ty::Text, "§«|.strip()|.lower()»", "@word(4,7)");
        // What it starts from stands for `START`; the variable at the end has the type beside it.
        let forms = [
            (
                NUMBER,
                "$acc",
                Ty::Int,
                "$n = START\n$acc = @int(0,2)\nwhile $n > 0:\n    $n, $r = divmod($n, «10|2|3|4»)\n    $acc «+=|+= 2 *|-=» $r",
            ),
            (
                NUMBER,
                "$out",
                Ty::Ints,
                "$n = START\n$out = []\nwhile $n > 1 and len($out) < «6|5|4»:\n    $n = $n // 2 if $n % 2 == 0 else «$n - 1|$n * 3 + 1|$n - 3»\n    $out.append($n)",
            ),
            (
                LIST,
                "$out",
                Ty::Ints,
                "$queue = deque(START)\n$out = []\nwhile $queue:\n    $y = $queue.«popleft|pop»()\n    if @cond($y) and len($queue) > 1:\n        $queue.popleft()\n    $out.append($y)",
            ),
            (
                LIST,
                "$acc",
                Ty::Int,
                "$stack = START\n$acc = 0\nwhile $stack:\n    $acc «+=|+=|-=» $stack.pop(«|0»)\n    if $acc > @int(5,20):\n        break\n«else:\n    $acc = -$acc\n|»",
            ),
            (
                NUMBER,
                "$acc",
                Ty::Int,
                "$lo, $hi = 0, START % 8\n$acc = 0\nwhile $lo < $hi:\n    $acc += $hi «-|*|+» $lo\n    $lo += 1\n    $hi -= «1|1|2»",
            ),
            (
                LIST,
                "$acc",
                Ty::Int,
                "$it = iter(START)\n$acc = 0\nwhile ($y := next($it, None)) is not None:\n    $acc «+= $y|= $y - $acc»",
            ),
            (
                TEXT,
                "$out",
                Ty::Words,
                "$t = START\n$out = []\nwhile $t:\n    $out.append($t[«0|-1»])\n    $t = $t[«1:-1|2:|1:|:-1»]",
            ),
            (
                NUMBER,
                "$cnt",
                Ty::Int,
                "$z = (START) / «4|8|10»\n$cnt = 0\nwhile $z < @int(12,30):\n    $z «*= 2|+= 1.5|+= 4»\n    $cnt += 1",
            ),
            (
                NUMBER,
                "$a",
                Ty::Int,
                "$a, $b = START, @int(2,9) * @int(2,6)\nwhile $b:\n    $a, $b = $b, $a % $b",
            ),
        ];
        let ((from, taken, drawn), role, ty, text) = self.context.rng.pick(&forms);
        let start = match self.find(|var| var.ty == *from) {
            Some(at) if self.context.rng.chance(0.7) => {
                self.vars[at].unread = false;
                expand(&template(taken), self.context).replace('§', &self.vars[at].name)
            }
            _ => expand(&template(drawn), self.context),
        };
        let lines = expand(&template(text), self.context).replace("START", &start);
        self.line(
            lines
                .lines()
                .filter(|line| !line.trim().is_empty())
                .collect::<Vec<_>>()
                .join("\n"),
        );
        let name = self.context.name(role.trim_start_matches('$'));
        match self.vars.iter_mut().find(|var| var.name == name) {
            Some(var) => (var.unread, var.size) = (true, 0),
            None => self.vars.push(Var {
                name,
                ty: *ty,
                unread: true,
                size: 0,
                held: false,
            }),
        }
    }

    /// Something that may raise, in a `try`.
    pub(super) fn guarded(&mut self) {
        let may_raise = |o: &Operation| o.raises.is_some();
        for _ in 0..4 {
            let Some(at) = self.find(|_| true) else {
                continue;
            };
            let Var {
                name: subject, ty, ..
            } = self.vars[at].clone();
            let Some(operation) = self.choose(ty, 0, may_raise) else {
                continue;
            };
            self.vars[at].unread = false;
            let text = self.text(operation, &subject);
            let raised = operation.raises.clone().unwrap_or_default();
            let caught = self.caught(&raised);
            let made = operation.made.first().map_or(Ty::Int, |made| made.ty);
            let name = self.declare(made, 0);
            self.line("try:");
            self.line(format!("    {name} = {text}"));
            self.handler(&caught, &name, made);
            return;
        }
        self.derive();
    }

    /// What an `except` names to catch this exception.
    fn caught(&mut self, raised: &str) -> String {
        let base = match raised {
            "IndexError" | "KeyError" => "LookupError",
            "ZeroDivisionError" | "OverflowError" => "ArithmeticError",
            _ => "Exception",
        };
        match self.context.rng.below(8) {
            0 => base.to_owned(),
            1 => format!("({raised}, RuntimeError)"),
            2 => "Exception".to_owned(),
            _ => raised.to_owned(),
        }
    }

    /// What happens when it is raised. The variable may then have a value of another type.
    fn handler(&mut self, caught: &str, name: &str, ty: Ty) {
        let default = match ty {
            Ty::Int => ["0", "-1", "None"][self.context.rng.below(3)],
            Ty::Text => "''",
            Ty::Float => "0.0",
            _ => "None",
        };
        let stays_number = ty == Ty::Int && default != "None";
        let (given, after) = match self.context.rng.below(5) {
            0 => {
                let e = self.context.name("e");
                let shown = [
                    format!("str({e})"),
                    format!("type({e}).__name__"),
                    format!("repr({e})"),
                ];
                let shown = self.context.rng.pick(&shown);
                self.line(format!("except {caught} as {e}:\n    {name} = {shown}"));
                return self.retype(name);
            }
            1 if stays_number => (default, "else:\n    NAME += 1"),
            2 if stays_number => (default, "finally:\n    NAME = NAME * 2"),
            _ => (default, ""),
        };
        self.line(format!("except {caught}:\n    {name} = {given}"));
        self.line(after.replace("NAME", name));
        if default == "None" {
            self.retype(name);
        }
    }

    /// After a `try` a variable may be of another type.
    fn retype(&mut self, name: &str) {
        if let Some(var) = self.vars.iter_mut().find(|var| var.name == name) {
            var.ty = Ty::Any;
            var.size = 0;
        }
    }

    /// A function or class of the program's own, and a call of it.
    pub(super) fn helper(&mut self) {
        if !self.definitions.is_empty() {
            return self.derive();
        }
        let helpers = helpers::library();
        let known: Vec<Ty> = self.vars.iter().map(|var| var.ty).collect();
        let weights = helpers.iter().map(|helper| {
            let usable = known.contains(&helper.subject);
            if usable { helper.weight } else { 0 }
        });
        let weights: Vec<u32> = weights.collect();
        if weights.iter().all(|&weight| weight == 0) {
            return self.derive();
        }
        let helper = &helpers[self.context.rng.weighted(&weights)];
        let Some(at) = self.find(|var| var.ty == helper.subject) else {
            return self.derive();
        };
        let definition = expand(&helper.definition, self.context);
        let lines: Vec<String> = definition
            .lines()
            .filter(|line| !line.trim().is_empty())
            .map(str::to_owned)
            .collect();
        self.definitions = crate::generate::idiom::split_definitions(&lines);
        self.vars[at].unread = false;
        let subject = self.vars[at].name.clone();
        let call = self.context.rng.pick(&helper.calls).clone();
        let call = expand(&call, self.context).replace('§', &subject);
        let name = self.declare(helper.result, 0);
        self.line(format!("{name} = {call}"));
    }
}
