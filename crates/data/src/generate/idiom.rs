//! Idioms: parametrised pieces of textbook code, read from the text files in `idioms/`.
//!
//! An idiom looks like this, in the language of [`super::template`]:
//!
//! ```text
//! == count_char 1 x3
//! ~f: count_char | tally
//! in $s = @word
//! in $c = @letterof
//! $acc = 0
//! for $ch in $s:
//!     if $ch == $c:
//!         $acc += 1
//! => $acc
//! ```
//!
//! The header names it and gives its level, then optionally its weight and `raises` when an exception
//! may leave it. `~role:` gives a role its own names (or any texts to choose from). Definitions come
//! before a line `--`. `in` lines are inputs, `=>` is the result. Lines starting with `#` before the
//! first header are notes.

use std::sync::OnceLock;

use super::block::{Block, open_inputs};
use super::context::Context;
use super::template::{Template, expand, parse};

const FILES: &[&str] = &[
    include_str!("../../idioms/basics.txt"),
    include_str!("../../idioms/text.txt"),
    include_str!("../../idioms/collections.txt"),
    include_str!("../../idioms/algorithms.txt"),
    include_str!("../../idioms/functions.txt"),
    include_str!("../../idioms/objects.txt"),
    include_str!("../../idioms/wide_text.txt"),
    include_str!("../../idioms/wide_numbers.txt"),
    include_str!("../../idioms/wide_collections.txt"),
    include_str!("../../idioms/wide_functions.txt"),
    include_str!("../../idioms/wide_objects.txt"),
    include_str!("../../idioms/wide_algorithms.txt"),
    include_str!("../../idioms/wide_faults.txt"),
    include_str!("../../idioms/long_sorting.txt"),
    include_str!("../../idioms/long_numbers.txt"),
    include_str!("../../idioms/long_loops.txt"),
    include_str!("../../idioms/long_tables.txt"),
    include_str!("../../idioms/long_graphs.txt"),
    include_str!("../../idioms/long_machines.txt"),
    include_str!("../../idioms/long_text.txt"),
    include_str!("../../idioms/long_recursion.txt"),
];

/// One parsed idiom.
#[derive(Clone, Debug)]
pub(crate) struct Idiom {
    pub(crate) name: String,
    pub(crate) level: u8,
    pub(crate) weight: u32,
    raises: bool,
    pools: Vec<(String, Vec<String>)>,
    definitions: Template,
    inputs: Vec<(Template, Template)>,
    body: Template,
    result: Option<Template>,
}

/// All idioms that ship with the crate.
pub(crate) fn library() -> &'static [Idiom] {
    static LIBRARY: OnceLock<Vec<Idiom>> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        FILES
            .iter()
            .flat_map(|file| read(file).expect("idiom files are part of the crate and tested"))
            .collect()
    })
}

/// Reads the idioms of one file; the error says which idiom is wrong and how.
fn read(file: &str) -> Result<Vec<Idiom>, String> {
    let mut idioms = Vec::new();
    for chunk in format!("\n{file}").split("\n== ").skip(1) {
        let header = chunk.lines().next().unwrap_or_default();
        idioms.push(read_one(chunk).map_err(|error| format!("idiom {header:?}: {error}"))?);
    }
    Ok(idioms)
}

fn read_one(chunk: &str) -> Result<Idiom, String> {
    let (header, text) = chunk.split_once('\n').ok_or("no body")?;
    let mut words = header.split_whitespace();
    let name = words.next().ok_or("no name")?.to_owned();
    let level = words
        .next()
        .and_then(|w| w.parse().ok())
        .ok_or("no level")?;
    let mut idiom = Idiom {
        name,
        level,
        weight: 2,
        raises: false,
        pools: Vec::new(),
        definitions: Template::new(),
        inputs: Vec::new(),
        body: Template::new(),
        result: None,
    };
    for word in words {
        match word.strip_prefix('x').map(str::parse) {
            Some(Ok(weight)) => idiom.weight = weight,
            _ if word == "raises" => idiom.raises = true,
            _ => return Err(format!("unknown word {word:?}")),
        }
    }
    let (definitions, statements) = match text.split_once("\n--\n") {
        Some((before, after)) => (before, after),
        None => ("", text),
    };
    let mut kept = Vec::new();
    for line in definitions.lines() {
        idiom.header_line(line, &mut kept)?;
    }
    idiom.definitions = parse(&kept.join("\n"))?;
    kept.clear();
    for line in statements.lines() {
        idiom.header_line(line, &mut kept)?;
    }
    idiom.body = parse(&kept.join("\n"))?;
    Ok(idiom)
}

impl Idiom {
    /// Takes in a `~`, `in` or `=>` line; other lines go to `kept`.
    fn header_line<'a>(&mut self, line: &'a str, kept: &mut Vec<&'a str>) -> Result<(), String> {
        if let Some(pool) = line.strip_prefix('~') {
            let (role, names) = pool.split_once(':').ok_or("a ~ line lacks its colon")?;
            let names = names
                .split(" | ")
                .map(|name| name.trim().to_owned())
                .collect();
            self.pools.push((role.trim().to_owned(), names));
        } else if let Some(input) = line.strip_prefix("in ") {
            let (name, value) = input.split_once(" = ").ok_or("an in line lacks its =")?;
            self.inputs.push((parse(name)?, parse(value)?));
        } else if let Some(result) = line.strip_prefix("=> ") {
            self.result = Some(parse(result)?);
        } else {
            kept.push(line);
        }
        Ok(())
    }

    /// Fills the idiom's holes.
    pub(crate) fn expand(&self, context: &mut Context) -> Block {
        for (role, candidates) in &self.pools {
            context.define(role, candidates);
        }
        let function = context.name("f");
        // Inputs are drawn before the body so that the body's literals can refer to them.
        let (inputs, values) = open_inputs(&self.inputs, context);
        let definitions = lines(&expand(&self.definitions, context));
        let body = lines(&expand(&self.body, context));
        let result = self.result.as_ref().map(|result| expand(result, context));
        let only_function = body.iter().any(|line| {
            let code = line.trim_start();
            code.starts_with("return")
                || line.contains("yield")
                || line.contains(&format!("{function}("))
                || code.starts_with("nonlocal")
        });
        Block {
            function,
            definitions: split_definitions(&definitions),
            inputs,
            values,
            body,
            result,
            only_function,
            may_raise: self.raises,
        }
    }
}

/// The lines of `text` that are not blank.
fn lines(text: &str) -> Vec<String> {
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(str::to_owned)
        .collect()
}

/// Groups lines into top-level definitions, each ending with a newline.
pub(crate) fn split_definitions(lines: &[String]) -> Vec<String> {
    let mut definitions: Vec<String> = Vec::new();
    let mut decorated = false;
    for line in lines {
        let starts = !line.starts_with(' ') && !decorated;
        decorated = line.starts_with('@');
        match definitions.last_mut() {
            Some(last) if !starts => {
                last.push_str(line);
                last.push('\n');
            }
            _ => definitions.push(format!("{line}\n")),
        }
    }
    definitions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_file_parses() {
        for file in FILES {
            let idioms = read(file).unwrap_or_else(|error| panic!("{error}"));
            assert!(idioms.iter().all(|idiom| (1..=6).contains(&idiom.level)));
        }
    }

    #[test]
    fn names_of_idioms_are_unique() {
        let mut names: Vec<&str> = library().iter().map(|idiom| idiom.name.as_str()).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn mistakes_are_reported_with_the_idiom() {
        let error = read("== bad 1\n$x = @nosuch\n").expect_err("unknown hole");
        assert!(error.contains("bad") && error.contains("nosuch"), "{error}");
        assert!(read("== bad\n").is_err());
        assert!(read("== bad 2 often\nx = 1\n").is_err());
    }

    #[test]
    fn definitions_are_split_at_the_margin() {
        let text = ["class A:", "    pass", "@wraps", "def f():", "    pass"].map(str::to_owned);
        assert_eq!(split_definitions(&text).len(), 2);
    }
}
