//! The functions of a source text, as far as its lines tell.

use std::sync::Arc;

use cwm_trace::live::{LineKind, Outline, defined_name};

use super::arguments::Signature;

/// A `def`, or the module itself.
#[derive(Clone, Debug)]
pub(super) struct Definition {
    /// Line of its call events: that of the first decorator, if there are
    /// any; 0 for the module.
    pub(super) line: u32,
    pub(super) name: String,
    /// As Python spells it: `f`, `Class.method`, `f.<locals>.inner`.
    pub(super) qualname: String,
    /// `None` for the module, and for a `def` that is not whole.
    pub(super) signature: Option<Signature>,
}

impl Definition {
    /// Names of the parameters in the order of the interpreter's slots.
    pub(super) fn parameters(&self) -> Vec<Arc<str>> {
        self.signature
            .iter()
            .flat_map(Signature::names)
            .map(Arc::from)
            .collect()
    }
}

/// The module, then every `def` in order of its line.
pub(super) fn definitions(source: &str, outline: &Outline) -> Vec<Definition> {
    let module = Definition {
        line: 0,
        name: "<module>".to_owned(),
        qualname: "<module>".to_owned(),
        signature: None,
    };
    let lines: Vec<&str> = source.lines().collect();
    let defs = outline.definitions().map(|(line, number)| {
        let name = defined_name(lines.get(number as usize - 1).unwrap_or(&""));
        Definition {
            line,
            qualname: qualified(name, number, outline, &lines),
            name: name.to_owned(),
            signature: Signature::read(source, number),
        }
    });
    std::iter::once(module).chain(defs).collect()
}

fn qualified(name: &str, line: u32, outline: &Outline, lines: &[&str]) -> String {
    let scope = outline.line(line).map_or(0, |l| l.scope);
    if scope == 0 {
        return name.to_owned();
    }
    let outer = defined_name(lines.get(scope as usize - 1).unwrap_or(&""));
    let outer = qualified(outer, scope, outline, lines);
    match outline.line(scope).map(|l| l.kind) {
        Some(LineKind::Class) => format!("{outer}.{name}"),
        _ => format!("{outer}.<locals>.{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_def_has_its_name_and_line() {
        let source = "\
class A:
    def f(self, x=1):
        def inner(): pass
        return inner

@cache
@other(
    1)
async  def  f(x):
    pass
def broken(
";
        let found = definitions(source, &Outline::new(source));
        let shown: Vec<_> = found
            .iter()
            .map(|d| format!("{} {} {}", d.line, d.qualname, d.parameters().join(",")))
            .collect();
        assert_eq!(
            shown,
            [
                "0 <module> ",
                "2 A.f self,x",
                "3 A.f.<locals>.inner ",
                "6 f x",
                "11 broken ",
            ]
        );
    }
}
