//! Placeholders in texts.

/// A part of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// As it stands.
    Plain(&'a str),
    /// The step's folder.
    Out,
    /// The step's file.
    File,
    /// An input.
    Input(&'a str),
    /// The folder of another step.
    Step(&'a str),
    /// A count that a rehearsal makes smaller.
    Scaled(u64),
}

/// The parts of a text; an error is a reason to be told of the step.
pub(super) fn pieces(text: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(begin) = rest.find('{') {
        let end = rest[begin..].find('}');
        let end = end.ok_or_else(|| format!("has a `{{` without `}}` in `{text}`"))? + begin;
        if begin > 0 {
            pieces.push(Piece::Plain(&rest[..begin]));
        }
        let unknown = || {
            format!(
                "has the placeholder `{}`, which is none of `{{out}}`, `{{file}}`, `{{input:NAME}}`, `{{step:NAME}}` \
                 and `{{scaled:N}}`",
                &rest[begin..=end]
            )
        };
        pieces.push(placeholder(&rest[begin + 1..end]).ok_or_else(unknown)?);
        rest = &rest[end + 1..];
    }
    if !rest.is_empty() || pieces.is_empty() {
        pieces.push(Piece::Plain(rest));
    }
    Ok(pieces)
}

fn placeholder(text: &str) -> Option<Piece<'_>> {
    Some(match text.split_once(':') {
        None if text == "out" => Piece::Out,
        None if text == "file" => Piece::File,
        Some(("input", name)) => Piece::Input(name),
        Some(("step", name)) => Piece::Step(name),
        Some(("scaled", count)) => Piece::Scaled(count.parse().ok()?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_refused_or_made_of_its_pieces(text in "(\\{(out|file|input:a|step:b|scaled:[1-9]|x)\\}|[ab/{}]){0,6}|.*") {
            let Ok(found) = pieces(&text) else {
                return Ok(());
            };
            let written = found.iter().map(|piece| match piece {
                Piece::Plain(plain) => (*plain).to_owned(),
                Piece::Out => "{out}".to_owned(),
                Piece::File => "{file}".to_owned(),
                Piece::Input(name) => format!("{{input:{name}}}"),
                Piece::Step(name) => format!("{{step:{name}}}"),
                Piece::Scaled(count) => format!("{{scaled:{count}}}"),
            });
            prop_assert_eq!(written.collect::<String>(), text);
        }
    }

    #[test]
    fn a_text_is_taken_apart() {
        let found = pieces("a{out}/{step:b}{scaled:20}c").expect("placeholders");
        let expected = [
            Piece::Plain("a"),
            Piece::Out,
            Piece::Plain("/"),
            Piece::Step("b"),
            Piece::Scaled(20),
            Piece::Plain("c"),
        ];
        assert_eq!(found, expected);
        assert_eq!(pieces(""), Ok(vec![Piece::Plain("")]));
        for wrong in [
            "{",
            "a{out",
            "{}",
            "{in}",
            "{scaled:x}",
            "{scaled:-1}",
            "{out:a}",
        ] {
            assert!(pieces(wrong).is_err(), "{wrong}");
        }
    }
}
