//! Sources side by side.

use std::collections::BTreeMap;
use std::sync::Arc;

use cwm_tokenizer::llama::Llama;
use cwm_train::packed::{Packed, PackedStats};
use cwm_train::sources::dialogs::{Dialogs, Lesson, read_line};
use cwm_train::sources::texts::Texts;
use cwm_train::{Dataset, Mixture};

const DIALOG: &str =
    r#"{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}"#;

fn mixture(text: &str, share: f64) -> Mixture {
    let llama = Arc::new(Llama::bytes());
    let mut stats = PackedStats::default();
    let mut texts = Texts::new(llama.clone(), &BTreeMap::new());
    texts.push("", text, 16, &mut stats);
    let mut dialogs = Dialogs::new(llama, Lesson::default());
    dialogs.push(read_line(DIALOG).expect("a dialog"), 64, &mut stats);
    let texts = Packed::new(Box::new(texts), 16, BTreeMap::new());
    let dialogs = Packed::new(Box::new(dialogs), 64, BTreeMap::new());
    Mixture::new(
        vec![
            ("t".to_owned(), 1.0, texts),
            ("d".to_owned(), share, dialogs),
        ],
        64,
    )
}

#[test]
fn examples_know_their_source_and_kinds() {
    let data = mixture(&"a".repeat(40), 0.5);
    let parts = data.parts();
    assert_eq!(
        (parts[0].examples.clone(), parts[1].examples.clone()),
        (0..3, 3..4)
    );
    assert_eq!(data.sources(), ["t", "d"]);
    let kinds = data.kinds();
    for index in 0..data.len() {
        let row = data.example(index);
        assert_eq!(usize::from(row.source), usize::from(index == 3));
        let expected = if index == 3 { "assistant" } else { "text" };
        assert!(
            row.kinds
                .iter()
                .all(|&kind| kinds[usize::from(kind)] == expected)
        );
        assert_eq!(row.kinds.len(), row.targets.len());
    }
}

#[test]
fn the_fingerprint_is_that_of_data_and_shares() {
    let found = |text: &str, share| mixture(text, share).fingerprint();
    assert_eq!(found("abc", 0.5), found("abc", 0.5));
    assert_ne!(found("abc", 0.5), found("abd", 0.5));
    assert_ne!(found("abc", 0.5), found("abc", 0.6));
}
