//! Definitions that a program of the grammar for level 5 may have, from `idioms/helpers.txt`.
//!
//! A header gives the weight, the type of what a call takes, the type of what it gives, and calls to choose
//! from, in which `§` is a variable of the first type. The definition follows.

use std::sync::OnceLock;

use super::operations::Ty;
use crate::generate::template::{Template, parse};

const FILE: &str = include_str!("../../../idioms/helpers.txt");

/// Functions or classes, and how they are called.
#[derive(Clone, Debug)]
pub(super) struct Helper {
    pub(super) weight: u32,
    pub(super) subject: Ty,
    pub(super) result: Ty,
    pub(super) calls: Vec<Template>,
    pub(super) definition: Template,
}

/// All helpers.
pub(super) fn library() -> &'static [Helper] {
    static LIBRARY: OnceLock<Vec<Helper>> = OnceLock::new();
    LIBRARY.get_or_init(|| read(FILE).expect("the helpers are part of the crate and tested"))
}

fn read(file: &str) -> Result<Vec<Helper>, String> {
    file.split("\n== ")
        .skip(1)
        .map(|chunk| {
            read_one(chunk).map_err(|error| format!("helper {:?}: {error}", chunk.lines().next()))
        })
        .collect()
}

fn read_one(chunk: &str) -> Result<Helper, String> {
    let (header, definition) = chunk.split_once('\n').ok_or("no definition")?;
    let mut words = header.splitn(4, ' ');
    let mut word = || {
        words
            .next()
            .ok_or("a header is a weight, two types and calls")
    };
    let weight = word()?.parse().map_err(|_| "no weight")?;
    let subject = Ty::parse(word()?).ok_or("an unknown type")?;
    let result = Ty::parse(word()?).ok_or("an unknown type")?;
    let calls: Result<Vec<_>, _> = word()?.split(" | ").map(parse).collect();
    Ok(Helper {
        weight,
        subject,
        result,
        calls: calls?,
        definition: parse(definition)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_helpers_parse() {
        let helpers = read(FILE).unwrap_or_else(|error| panic!("{error}"));
        assert!(helpers.len() > 30, "{}", helpers.len());
    }

    #[test]
    fn mistakes_are_reported_with_the_helper() {
        for broken in [
            "\n== x int int f(§)\n",
            "\n== 1 in int f(§)\ndef",
            "\n== 1 int int\n@nosuch",
        ] {
            let error = read(broken).expect_err(broken);
            assert!(error.starts_with("helper"), "{error}");
        }
    }
}
