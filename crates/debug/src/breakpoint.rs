//! Breakpoints and their conditions.
//!
//! A condition is judged on *predicted text*: nothing is evaluated, so it is
//! one comparison of a variable with a literal.

use std::fmt;

use cwm_trace::EventKind;
use serde::Serialize;

use crate::frame::Frame;

/// Stops the commands that pass over several frames.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Breakpoint {
    /// Number by which the user refers to it, from 1, never reused.
    pub id: u32,
    /// Line it watches.
    pub line: u32,
    /// When it stops; always, if `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<Condition>,
}

impl Breakpoint {
    /// Whether it stops at a frame: its line is about to run, or is the first
    /// line of a function being called, and the condition does not fail.
    pub(crate) fn stops_at(&self, frame: &Frame) -> bool {
        matches!(frame.kind, EventKind::Line | EventKind::Call)
            && frame.line == self.line
            && self
                .condition
                .as_ref()
                .is_none_or(|condition| condition.holds(frame))
    }
}

/// `NAME OPERATOR LITERAL`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// Variable on the left.
    pub name: String,
    /// How it is compared.
    pub operator: Operator,
    /// `repr` text on the right.
    pub value: String,
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Operator {
    /// Same text, or same number.
    #[serde(rename = "==")]
    Equal,
    /// Not [`Operator::Equal`].
    #[serde(rename = "!=")]
    Unequal,
    /// Smaller number.
    #[serde(rename = "<")]
    Less,
    /// Smaller or same number.
    #[serde(rename = "<=")]
    LessOrEqual,
    /// Greater number.
    #[serde(rename = ">")]
    Greater,
    /// Greater or same number.
    #[serde(rename = ">=")]
    GreaterOrEqual,
}

impl Operator {
    /// Every operator; one that begins with another stands before it.
    const ALL: [(&'static str, Self); 6] = [
        ("==", Self::Equal),
        ("!=", Self::Unequal),
        ("<=", Self::LessOrEqual),
        (">=", Self::GreaterOrEqual),
        ("<", Self::Less),
        (">", Self::Greater),
    ];
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let symbol = Self::ALL.iter().find(|(_, operator)| operator == self);
        f.write_str(symbol.map_or("?", |(symbol, _)| symbol))
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.name, self.operator, self.value)
    }
}

impl Condition {
    /// Parses `total >= 3` or `ch == 'r'`. `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let end = text
            .find(|c: char| !(c.is_alphanumeric() || c == '_'))
            .unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        let rest = rest.trim_start();
        let (symbol, operator) = *Operator::ALL
            .iter()
            .find(|(symbol, _)| rest.starts_with(symbol))?;
        let value = rest[symbol.len()..].trim();
        let complete = is_name(name) && !value.is_empty() && !value.starts_with('=');
        complete.then(|| Self {
            name: name.into(),
            operator,
            value: value.into(),
        })
    }

    /// Whether the frame meets the condition. A variable that is not bound
    /// never does; texts that cannot be ordered always do, so that a
    /// condition that makes no sense is seen rather than silently passed.
    fn holds(&self, frame: &Frame) -> bool {
        let Some(variable) = frame.variable(&self.name) else {
            return false;
        };
        let value = &*variable.value;
        let numbers = value
            .parse::<f64>()
            .ok()
            .zip(self.value.parse::<f64>().ok());
        let ordering = match numbers {
            Some((left, right)) => left.partial_cmp(&right),
            None => (value == self.value).then_some(std::cmp::Ordering::Equal),
        };
        match self.operator {
            Operator::Equal => ordering.is_some_and(|o| o.is_eq()),
            Operator::Unequal => ordering.is_none_or(|o| o.is_ne()),
            Operator::Less => ordering.is_none_or(|o| o.is_lt()),
            Operator::LessOrEqual => ordering.is_none_or(|o| o.is_le()),
            Operator::Greater => ordering.is_none_or(|o| o.is_gt()),
            Operator::GreaterOrEqual => ordering.is_none_or(|o| o.is_ge()),
        }
    }
}

/// Whether text is a Python identifier, near enough: letters, digits and
/// underscores, not starting with a digit. Names such as `.0`, by which a
/// comprehension calls its iterator, are not.
pub(crate) fn is_name(text: &str) -> bool {
    text.chars()
        .next()
        .is_some_and(|c| c.is_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Origin, Variable};

    fn holds(condition: &str, value: &str) -> bool {
        let frame = Frame {
            kind: EventKind::Line,
            function: "f".into(),
            line: 1,
            depth: 0,
            activation: 0,
            locals: vec![Variable {
                name: "x".into(),
                value: value.into(),
                origin: Origin::Observed,
                changed: false,
            }],
            value: None,
            probability: None,
            working: Vec::new(),
        };
        Condition::parse(condition).expect(condition).holds(&frame)
    }

    #[test]
    fn numbers_compare_as_numbers_and_texts_as_texts() {
        assert!(holds("x > 9", "10"));
        assert!(holds("x == 1", "1.0"));
        assert!(!holds("x <= 2", "3"));
        assert!(holds("x == 'a b'", "'a b'"));
        assert!(holds("x != 'a'", "'b'"));
        assert!(!holds("x=='a'", "'b'"));
    }

    #[test]
    fn unbound_never_stops_and_nonsense_always_does() {
        assert!(!holds("y == 1", "1"));
        assert!(holds("x < 3", "'b'"));
    }

    #[test]
    fn only_one_comparison_is_a_condition() {
        for text in [
            "",
            "x",
            "x = 3",
            "x ==",
            "f(x) == 3",
            "1 < x",
            "x === 3",
            "== 3",
            "x.y > 1",
        ] {
            assert_eq!(Condition::parse(text), None, "{text}");
        }
    }

    #[test]
    fn conditions_print_as_they_were_read() {
        for (symbol, operator) in Operator::ALL {
            let condition = Condition::parse(&format!("x{symbol}3")).unwrap();
            assert_eq!(condition.operator, operator);
            assert_eq!(condition.to_string(), format!("x {symbol} 3"));
        }
    }
}
