//! The clauses, each a pattern of words with named slots.

use super::super::facts::Fact;
use super::QUOTED;
use super::scan::{self, CODE, Clause, LIST, NUMBER, PAIRS, Slot};

/// What a clause says. The same words may be about a line alone, or about a line and a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    In,
    Called,
    Resumed,
    Ran,
    Becomes,
    Unbound,
    RanBecomes,
    RanUnbound,
    Repeats,
    Took,
    Left,
    Returned,
    Yielded,
    Raised,
    Escaped,
}

/// One way to say something.
#[derive(Debug)]
pub(super) struct Form {
    pub(super) about: About,
    pub(super) pattern: &'static str,
}

const fn form(about: About, pattern: &'static str) -> Form {
    Form { about, pattern }
}

use About::{
    Becomes, Called, Escaped, In, Left, Raised, Ran, RanBecomes, RanUnbound, Repeats, Resumed,
    Returned, Took, Unbound, Yielded,
};

/// All of them. `{no}` and `{yes}` are no slots for values: they say what a condition came to.
pub(super) const FORMS: &[Form] = &[
    form(In, "the run is in {function} again"),
    form(Called, "{function} is called"),
    form(Called, "the run enters {function}"),
    form(Called, "{function} is called with {pairs}"),
    form(Called, "the run enters {function} with {pairs}"),
    form(Called, "{function} begins with {pairs}"),
    form(Called, "line {line} calls {function}"),
    form(Called, "on line {line} the function {function} is called"),
    form(Called, "line {line} calls {function} with {pairs}"),
    form(Called, "line {line} starts {function} with {pairs}"),
    form(
        Called,
        "on line {line} the function {function} is called with {pairs}",
    ),
    form(
        Called,
        "to go on, line {line} needs {function} with {pairs}",
    ),
    form(Resumed, "{function} goes on where it had stopped"),
    form(Resumed, "control comes back to {function}"),
    form(Resumed, "{function} is resumed"),
    form(Ran, "line {line} runs"),
    form(Ran, "line {line} is done"),
    form(Ran, "line {line} runs: {code}"),
    form(Ran, "then comes line {line}: {code}"),
    form(Ran, "the program executes line {line} with {code}"),
    form(Ran, "after line {line} the run goes to line {next}"),
    form(Ran, "line {line} with {code} leads on to line {next}"),
    form(Ran, "the condition on line {line} holds{yes}"),
    form(Ran, "the condition on line {line} fails{no}"),
    form(Ran, "the test {code} on line {line} is true{yes}"),
    form(Ran, "the test {code} on line {line} is false{no}"),
    form(
        Ran,
        "line {line} finds its condition true{yes} so that line {next} is next",
    ),
    form(
        Ran,
        "line {line} finds its condition false{no} so that line {next} is next",
    ),
    form(
        Ran,
        "since the condition of line {line} holds{yes} the run goes to line {next}",
    ),
    form(
        Ran,
        "since the condition of line {line} does not hold{no} the run goes to line {next}",
    ),
    form(Becomes, "{name} becomes {value}"),
    form(Becomes, "{name} is now {value}"),
    form(Becomes, "it makes {name} equal to {value}"),
    form(Becomes, "{name} changes from {from} to {value}"),
    form(Becomes, "{name}, which was {from}, is {value} from here on"),
    form(Unbound, "{name} is gone"),
    form(Unbound, "{name} no longer exists"),
    form(RanBecomes, "line {line} sets {name} to {value}"),
    form(RanBecomes, "on line {line} {name} becomes {value}"),
    form(RanBecomes, "line {line} gives {name} the value {value}"),
    form(
        RanBecomes,
        "after line {line} the value of {name} is {value}",
    ),
    form(
        RanBecomes,
        "the statement {code} on line {line} sets {name} to {value}",
    ),
    form(
        RanBecomes,
        "line {line} executes {code} so {name} is {value}",
    ),
    form(
        RanBecomes,
        "with {code} on line {line} the variable {name} becomes {value}",
    ),
    form(
        RanBecomes,
        "line {line} changes {name} from {from} to {value}",
    ),
    form(
        RanBecomes,
        "on line {line} {name} goes from {from} to {value}",
    ),
    form(
        RanBecomes,
        "line {line} turns {name} from {from} into {value} by {code}",
    ),
    form(RanUnbound, "line {line} removes {name}"),
    form(RanUnbound, "after line {line} there is no {name} any more"),
    form(
        Repeats,
        "the loop of line {line} then goes round {times} more times",
    ),
    form(
        Repeats,
        "the same happens {times} more times in the loop that starts on line {line}",
    ),
    form(
        Repeats,
        "there are {times} further rounds of the loop on line {line}",
    ),
    form(Took, "in these {name} is {list} in turn"),
    form(Took, "meanwhile {name} takes the values {list}"),
    form(Left, "at the end of them {pairs}"),
    form(Left, "this leaves {pairs}"),
    form(Left, "after these rounds {pairs}"),
    form(Returned, "{function} returns {value}"),
    form(Returned, "{function} ends with the value {value}"),
    form(Returned, "the call of {function} comes to {value}"),
    form(Returned, "{function} is done and gives back {value}"),
    form(Yielded, "{function} yields {value}"),
    form(Yielded, "{function} hands out {value} and waits"),
    form(Raised, "line {line} raises {value}"),
    form(Raised, "on line {line} the exception {value} comes up"),
    form(Raised, "line {line} meets the exception {value}"),
    form(Escaped, "{function} ends by this exception"),
    form(Escaped, "the exception leaves {function}"),
];

/// The contents of the slots.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    line: Option<u32>,
    next: Option<u32>,
    times: Option<u32>,
    holds: Option<bool>,
    name: Option<String>,
    value: Option<String>,
    from: Option<String>,
    function: Option<String>,
    code: Option<String>,
    pairs: Vec<(String, String)>,
    list: Vec<String>,
}

impl Said {
    pub(super) fn of(fact: &Fact) -> Self {
        let mut said = Self::default();
        match fact.clone() {
            Fact::In { function } | Fact::Resumed { function } | Fact::Escaped { function } => {
                said.function = Some(function);
            }
            Fact::Called {
                line,
                function,
                arguments,
            } => {
                said.line = line;
                said.function = Some(function);
                said.pairs = arguments;
            }
            Fact::Ran {
                line,
                code,
                holds,
                next,
            } => {
                said.line = Some(line);
                said.code = code.filter(|code| code.len() <= QUOTED);
                (said.holds, said.next) = (holds, next);
            }
            Fact::Becomes { name, value, from } => {
                (said.name, said.value, said.from) = (Some(name), Some(value), from);
            }
            Fact::Unbound { name } => said.name = Some(name),
            Fact::Repeats { line, times } => {
                (said.line, said.times) = (Some(line), Some(times));
            }
            Fact::Took { name, values } => (said.name, said.list) = (Some(name), values),
            Fact::Left { variables } => said.pairs = variables,
            Fact::Returned { function, value } | Fact::Yielded { function, value } => {
                (said.function, said.value) = (Some(function), Some(value));
            }
            Fact::Raised { line, value } => {
                (said.line, said.value) = (Some(line), Some(value));
            }
        }
        said
    }

    /// A line and what it changed.
    pub(super) fn and(self, change: Self) -> Self {
        Self {
            name: change.name,
            value: change.value,
            from: change.from,
            ..self
        }
    }

    pub(super) fn forms_of(&self, fact: &Fact) -> impl Iterator<Item = &'static Form> + use<> {
        let about = match fact {
            Fact::In { .. } => In,
            Fact::Called { .. } => Called,
            Fact::Resumed { .. } => Resumed,
            Fact::Ran { .. } => Ran,
            Fact::Becomes { .. } => Becomes,
            Fact::Unbound { .. } => Unbound,
            Fact::Repeats { .. } => Repeats,
            Fact::Took { .. } => Took,
            Fact::Left { .. } => Left,
            Fact::Returned { .. } => Returned,
            Fact::Yielded { .. } => Yielded,
            Fact::Raised { .. } => Raised,
            Fact::Escaped { .. } => Escaped,
        };
        FORMS.iter().filter(move |form| form.about == about)
    }

    pub(super) fn forms_of_both(
        &self,
        change: &Fact,
    ) -> impl Iterator<Item = &'static Form> + use<> {
        let about = match change {
            Fact::Unbound { .. } => RanUnbound,
            _ => RanBecomes,
        };
        FORMS.iter().filter(move |form| form.about == about)
    }

    fn has(&self, slot: &str) -> bool {
        match slot {
            "line" => self.line.is_some(),
            "next" => self.next.is_some(),
            "times" => self.times.is_some(),
            "yes" => self.holds == Some(true),
            "no" => self.holds == Some(false),
            "name" => self.name.is_some(),
            "value" => self.value.is_some(),
            "from" => self.from.is_some(),
            "function" => self.function.is_some(),
            "code" => self.code.is_some(),
            "pairs" => !self.pairs.is_empty(),
            // Fewer are no list.
            _ => self.list.len() >= 3,
        }
    }

    fn write(&self, slot: &str) -> String {
        let number = |number: Option<u32>| number.map_or(String::new(), |n| n.to_string());
        let span = |text: &Option<String>| text.as_deref().map_or(String::new(), scan::span);
        match slot {
            "line" => number(self.line),
            "next" => number(self.next),
            "times" => number(self.times),
            "yes" | "no" => String::new(),
            "name" => span(&self.name),
            "value" => span(&self.value),
            "from" => span(&self.from),
            "function" => span(&self.function),
            "code" => span(&self.code),
            "pairs" => scan::pairs(&self.pairs),
            _ => scan::list(&self.list),
        }
    }

    fn set(&mut self, slot: &str, found: &Slot) -> Option<()> {
        match (slot, found) {
            ("line", Slot::Number(number)) => self.line = Some(*number),
            ("next", Slot::Number(number)) => self.next = Some(*number),
            ("times", Slot::Number(number)) => self.times = Some(*number),
            ("name", Slot::Code(text)) => self.name = Some(text.clone()),
            ("value", Slot::Code(text)) => self.value = Some(text.clone()),
            ("from", Slot::Code(text)) => self.from = Some(text.clone()),
            ("function", Slot::Code(text)) => self.function = Some(text.clone()),
            ("code", Slot::Code(text)) => self.code = Some(text.clone()),
            ("pairs", Slot::Pairs(pairs)) => self.pairs.clone_from(pairs),
            ("list", Slot::List(list)) => self.list.clone_from(list),
            _ => return None,
        }
        Some(())
    }

    fn facts(self, about: About) -> Option<Vec<Fact>> {
        let ran = |said: &Self| {
            Some(Fact::Ran {
                line: said.line?,
                code: said.code.clone(),
                holds: said.holds,
                next: said.next,
            })
        };
        let becomes = |said: Self| {
            Some(Fact::Becomes {
                name: said.name?,
                value: said.value?,
                from: said.from,
            })
        };
        let fact = match about {
            RanBecomes => return Some(vec![ran(&self)?, becomes(self)?]),
            RanUnbound => return Some(vec![ran(&self)?, Fact::Unbound { name: self.name? }]),
            Ran => ran(&self)?,
            Becomes => becomes(self)?,
            In => Fact::In {
                function: self.function?,
            },
            Called => Fact::Called {
                line: self.line,
                function: self.function?,
                arguments: self.pairs,
            },
            Resumed => Fact::Resumed {
                function: self.function?,
            },
            Unbound => Fact::Unbound { name: self.name? },
            Repeats => Fact::Repeats {
                line: self.line?,
                times: self.times?,
            },
            Took => Fact::Took {
                name: self.name?,
                values: self.list,
            },
            Left => Fact::Left {
                variables: self.pairs,
            },
            Returned => Fact::Returned {
                function: self.function?,
                value: self.value?,
            },
            Yielded => Fact::Yielded {
                function: self.function?,
                value: self.value?,
            },
            Raised => Fact::Raised {
                line: self.line?,
                value: self.value?,
            },
            Escaped => Fact::Escaped {
                function: self.function?,
            },
        };
        Some(vec![fact])
    }
}

impl Form {
    /// Names of the slots, in order.
    fn slots(&self) -> impl Iterator<Item = &'static str> + use<> {
        let pieces = self.pattern.split('{').skip(1);
        pieces.filter_map(|piece| Some(piece.split_once('}')?.0))
    }

    /// The pattern with its slots written by `write`.
    fn with(&self, mut write: impl FnMut(&str) -> String) -> String {
        let mut pieces = self.pattern.split('{');
        let mut out = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            let (slot, text) = piece.split_once('}').unwrap_or((piece, ""));
            out.push_str(&write(slot));
            out.push_str(text);
        }
        out
    }

    /// Whether all slots can be filled, and nothing is left out that must be said.
    pub(super) fn fits(&self, said: &Said) -> bool {
        let has = |slot: &str| self.slots().any(|own| own == slot);
        let says_caller = self.about != Called || has("line") == said.line.is_some();
        let says_arguments = has("pairs") || said.pairs.is_empty();
        self.slots().all(|slot| said.has(slot)) && says_caller && says_arguments
    }

    /// What a condition came to is worth more than that it ran.
    pub(super) fn weight(&self, said: &Said) -> u32 {
        let says_outcome = self.slots().any(|slot| slot == "yes" || slot == "no");
        if says_outcome || said.holds.is_none() {
            8
        } else {
            1
        }
    }

    pub(super) fn fill(&self, said: &Said) -> String {
        self.with(|slot| said.write(slot))
    }

    /// The pattern with a mark for each kind of slot, as [`Clause::shape`] has them.
    pub(super) fn shape(&self) -> String {
        self.with(|slot| match slot {
            "line" | "next" | "times" => NUMBER.to_string(),
            "yes" | "no" => String::new(),
            "pairs" => PAIRS.to_string(),
            "list" => LIST.to_string(),
            _ => CODE.to_string(),
        })
    }

    /// What a clause of this form says.
    pub(super) fn read(&self, clause: &Clause) -> Option<Vec<Fact>> {
        let mut said = Said::default();
        let mut found = clause.slots.iter();
        for slot in self.slots() {
            match slot {
                "yes" => said.holds = Some(true),
                "no" => said.holds = Some(false),
                slot => said.set(slot, found.next()?)?,
            }
        }
        said.facts(self.about)
    }
}
