//! The documents of `specs/text.md` are read, written and rendered as it says, and their renderings read back.

use std::collections::BTreeSet;

use cwm_data::text::prose::read_facts;
use cwm_data::text::trajectory::Transcript;
use cwm_data::text::{
    CompilerPair, Content, Document, Kernel, LeanProof, LeanStep, LeanTranslation, ParseError,
    PullRequest, TraceProse,
};

const SPEC: &str = include_str!("../specs/text.md");

/// The sections: headings inside of fences are those of renderings.
fn sections() -> Vec<String> {
    let mut sections: Vec<String> = Vec::new();
    let mut is_fenced = false;
    for line in SPEC.lines() {
        is_fenced ^= line.starts_with("`````");
        if !is_fenced && line.starts_with("## ") {
            sections.push(String::new());
        }
        if let Some(section) = sections.last_mut() {
            section.push_str(line);
            section.push('\n');
        }
    }
    sections
}

/// The content of the fenced block of a language.
fn block<'a>(section: &'a str, language: &str) -> &'a str {
    let fence = format!("`````{language}\n");
    let start = section.find(&fence).expect(language) + fence.len();
    let len = section[start..].find("`````").expect("an end");
    &section[start..start + len]
}

/// What can be read of a rendering, rendered again.
fn again(content: &Content, text: &str) -> Result<String, ParseError> {
    Ok(match content {
        Content::TraceProse(_) => TraceProse::parse(text)?.render(),
        Content::Trajectory(_) => Transcript::parse(text)?.render(),
        Content::PullRequest(_) => PullRequest::parse(text)?.render(),
        Content::CompilerPair(_) => CompilerPair::parse(text)?.render(),
        Content::Kernel(_) => Kernel::parse(text)?.render(),
        Content::LeanProof(_) => LeanProof::parse(text)?.render(),
        Content::LeanTranslation(_) => LeanTranslation::parse(text)?.render(),
        Content::LeanStep(_) => LeanStep::parse(text)?.render(),
    })
}

#[test]
fn every_kind_is_stored_and_rendered_as_specified() {
    let mut kinds = BTreeSet::new();
    for section in sections() {
        let title = section.lines().next().unwrap_or_default();
        let document: Document = serde_json::from_str(block(&section, "json")).expect(title);
        let json = serde_json::to_value(&document).expect(title);
        let stored: serde_json::Value = serde_json::from_str(block(&section, "json")).expect(title);
        assert_eq!(json, stored, "{title}");
        let text = document.render();
        assert_eq!(
            text.trim_end(),
            block(&section, "text").trim_end(),
            "{title}"
        );
        assert_eq!(
            again(&document.content, &text).as_ref(),
            Ok(&text),
            "{title}"
        );
        if let Content::TraceProse(prose) = &document.content {
            assert_eq!(read_facts(&prose.text).expect("our own words").len(), 5);
        }
        kinds.insert(document.content.kind());
    }
    assert_eq!(kinds.len(), 8);
}

#[test]
fn unknown_kinds_and_fields_are_refused() {
    for section in sections() {
        let json = block(&section, "json");
        for (known, unknown) in [
            ("\"licence\":", "\"stars\": 5, \"licence\":"),
            ("\"project\":", "\"stars\": 5, \"project\":"),
            ("\"kind\":", "\"stars\": 5, \"kind\":"),
            ("\"kind\": \"", "\"kind\": \"new_"),
        ] {
            let changed = json.replacen(known, unknown, 1);
            assert_ne!(changed, json);
            assert!(
                serde_json::from_str::<Document>(&changed).is_err(),
                "{changed}"
            );
        }
    }
}
