//! Drills: straight runs of single operations on values drawn anew.
//!
//! In programs as people write them most frames ask for little: a loop goes on, a constant is bound.
//! Sums, comparisons, indexing and methods are where a small model errs, and they are rare. A drill
//! is a function of such statements alone, so that a token of training pays for more of them. Drills
//! are for training only: no level contains them unless a plan asks for it.
//!
//! `idioms/drills.txt` holds the themes, in the language of [`super::template`]: `in` lines, `~`
//! pools, definitions before `--` and the result as idioms have them ([`super::idiom`]); `let %name =
//! text` shortens what follows; each statement begins with its weight, `first` marks one that every
//! drill of the theme begins with.

use std::sync::OnceLock;

use cwm_trace::Entry;

use super::block::{Block, open_inputs};
use super::context::Context;
use super::idiom::split_definitions;
use super::template::{Template, expand, parse};

const FILE: &str = include_str!("../../idioms/drills.txt");

/// Statements about values of one kind.
#[derive(Debug, Default)]
struct Theme {
    weight: u32,
    pools: Vec<(String, Vec<String>)>,
    definitions: Template,
    inputs: Vec<(Template, Template)>,
    first: Option<Template>,
    weights: Vec<u32>,
    statements: Vec<Template>,
    result: Template,
}

/// A drill: its source and the scope to record.
pub(crate) fn write(context: &mut Context) -> (String, Entry) {
    let themes = themes();
    let weights: Vec<u32> = themes.iter().map(|theme| theme.weight).collect();
    let theme = &themes[context.rng.weighted(&weights)];
    let block = theme.expand(context);
    let parameters: Vec<String> = block.inputs.iter().map(|i| i.name.clone()).collect();
    let mut source = block.definitions.concat();
    source.push_str(&block.as_function(&parameters));
    if context.rng.chance(0.4) {
        let (function, args) = (block.function, block.values.join(", "));
        return (source, Entry::Call { function, args });
    }
    // Several calls share the cost of reading the source.
    for _ in 0..context.rng.range(2, 4) {
        let values = block.draw_inputs(context).join(", ");
        source.push_str(&format!("{}({values})\n", block.function));
    }
    (source, Entry::Module)
}

impl Theme {
    fn expand(&self, context: &mut Context) -> Block {
        for (role, candidates) in &self.pools {
            context.define(role, candidates);
        }
        let function = context.name("f");
        let (inputs, values) = open_inputs(&self.inputs, context);
        let definitions = expand(&self.definitions, context);
        let definitions: Vec<String> = definitions.lines().map(str::to_owned).collect();
        let count = context.rng.range(4, 8);
        let mut body = Vec::new();
        let mut add = |statement: &Template, context: &mut Context| {
            body.extend(expand(statement, context).lines().map(str::to_owned));
        };
        if let Some(first) = &self.first {
            add(first, context);
        }
        for _ in 0..count {
            let chosen = context.rng.weighted(&self.weights);
            add(&self.statements[chosen], context);
        }
        Block {
            function,
            definitions: split_definitions(&definitions),
            inputs,
            values,
            body,
            result: Some(expand(&self.result, context)),
            only_function: true,
            may_raise: false,
        }
    }
}

fn themes() -> &'static [Theme] {
    static THEMES: OnceLock<Vec<Theme>> = OnceLock::new();
    THEMES.get_or_init(|| read(FILE).expect("the drills are part of the crate and tested"))
}

/// Reads the themes of a file; the error says which theme is wrong and how.
fn read(file: &str) -> Result<Vec<Theme>, String> {
    file.split("\n== ")
        .skip(1)
        .map(|chunk| {
            let header = chunk.lines().next().unwrap_or_default();
            read_theme(chunk).map_err(|error| format!("theme {header:?}: {error}"))
        })
        .collect()
}

fn read_theme(chunk: &str) -> Result<Theme, String> {
    let (header, text) = chunk.split_once('\n').ok_or("no statements")?;
    let weight = header.split_whitespace().nth(1).ok_or("no weight")?;
    let mut theme = Theme {
        weight: weight.parse().map_err(|_| "its weight is no number")?,
        ..Theme::default()
    };
    let text = match text.split_once("\n--\n") {
        Some((before, after)) => {
            let (pools, definitions): (Vec<&str>, Vec<&str>) =
                before.lines().partition(|line| line.starts_with('~'));
            theme.definitions = parse(&definitions.join("\n"))?;
            format!("{}\n{after}", pools.join("\n"))
        }
        None => text.to_owned(),
    };
    let mut short: Vec<(String, String)> = Vec::new();
    for entry in entries(&text) {
        let long = short
            .iter()
            .rev()
            .fold(entry, |text, (name, meaning)| text.replace(name, meaning));
        let (word, rest) = long.split_once(' ').ok_or("a line is a single word")?;
        match word {
            "let" => {
                let (name, meaning) = rest.split_once(" = ").ok_or("a let line lacks its =")?;
                short.push((name.to_owned(), meaning.to_owned()));
            }
            "in" => {
                let (name, value) = rest.split_once(" = ").ok_or("an in line lacks its =")?;
                theme.inputs.push((parse(name)?, parse(value)?));
            }
            "=>" => theme.result = parse(rest)?,
            "first" => theme.first = Some(parse(rest)?),
            pool if pool.starts_with('~') => {
                let role = pool.trim_matches(['~', ':']).to_owned();
                let names = rest.split(" | ").map(|name| name.trim().to_owned());
                theme.pools.push((role, names.collect()));
            }
            number => {
                let weight = number.parse().map_err(|_| format!("what is {number:?}?"))?;
                theme.weights.push(weight);
                theme.statements.push(parse(rest)?);
            }
        }
    }
    if theme.statements.is_empty() || theme.result.is_empty() {
        return Err("statements and a result are needed".into());
    }
    Ok(theme)
}

/// The lines of a theme, each with the indented ones that follow it, less their extra indentation.
fn entries(text: &str) -> Vec<String> {
    let mut entries: Vec<String> = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        match (entries.last_mut(), line.strip_prefix("  ")) {
            (Some(last), Some(inner)) => {
                last.push('\n');
                last.push_str(inner);
            }
            _ => entries.push(line.to_owned()),
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_themes_parse() {
        let themes = read(FILE).unwrap_or_else(|error| panic!("{error}"));
        assert!(themes.len() > 5);
        assert!(themes.iter().all(|theme| !theme.inputs.is_empty()));
    }

    #[test]
    fn a_statement_keeps_its_inner_lines_and_short_names() {
        let theme = read_theme("t 1\nin $x = 1\nlet %n = «5»\n2 if $x:\n      $x += %n\n=> $x")
            .expect("a theme");
        let block = theme.expand(&mut Context::new(1, 2, 3));
        let name = &block.inputs[0].name;
        assert_eq!(block.body[0], format!("if {name}:"));
        assert_eq!(block.body[1], format!("    {name} += 5"));
    }

    #[test]
    fn mistakes_are_reported_with_the_theme() {
        for broken in [
            "\n== t\n1 x\n",
            "\n== t 1\nlets go\n",
            "\n== t 1\n1 $x = @nosuch\n=> 1",
        ] {
            let error = read(broken).expect_err("broken");
            assert!(error.contains("theme \"t"), "{error}");
        }
    }
}
