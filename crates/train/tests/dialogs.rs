//! What is learned from dialogs.

use std::collections::BTreeMap;
use std::sync::Arc;

use cwm_tokenizer::llama::Llama;
use cwm_train::packed::{Packed, PackedStats};
use cwm_train::sources::dialogs::{Dialogs, Lesson, Speaker, Think, read_line};
use cwm_train::{Dataset, Example};

const LINE: &str = r#"{"messages": [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "1+1?"},
    {"role": "assistant", "content": "<think>\none and one\n</think>\n<tool: sum>\n1 1\n</tool>"},
    {"role": "tool: sum", "content": "2"},
    {"role": "assistant", "content": "2"}]}"#;

fn rows(line: &str, lesson: Lesson, row_tokens: usize) -> (Packed, PackedStats) {
    let mut stats = PackedStats::default();
    let mut dialogs = Dialogs::new(Arc::new(Llama::bytes()), lesson);
    dialogs.push(read_line(line).expect("a dialog"), row_tokens, &mut stats);
    (
        Packed::new(Box::new(dialogs), row_tokens, BTreeMap::new()),
        stats,
    )
}

fn learned(row: &Example) -> String {
    let ids: Vec<u32> = row.targets.iter().map(|target| target.id).collect();
    Llama::bytes().decode(&ids).expect("known ids")
}

fn whole(row: &Example) -> String {
    Llama::bytes().decode(&row.ids).expect("known ids")
}

#[test]
fn the_assistant_is_learned_to_the_end_of_turn() {
    let (rows, stats) = rows(LINE, Lesson::default(), 1024);
    assert_eq!(stats, PackedStats::default());
    let row = rows.example(0);
    assert!(whole(&row).starts_with(
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nbe brief<|eot_id|>"
    ));
    assert_eq!(
        learned(&row),
        "<think>\none and one\n</think>\n<tool: sum>\n1 1\n</tool><|eot_id|>2<|eot_id|>"
    );
    assert!(
        row.kinds
            .iter()
            .all(|&kind| rows.kinds()[usize::from(kind)] == "assistant")
    );
    for target in &row.targets {
        assert_eq!(row.ids[target.row as usize + 1], target.id);
    }
}

#[test]
fn an_opening_token_of_thought_is_never_learned() {
    let lesson = Lesson {
        think: Some(Think::Tokens),
        ..Lesson::default()
    };
    let (rows_of_tokens, _) = rows(LINE, lesson, 1024);
    let row = rows_of_tokens.example(0);
    assert!(
        whole(&row)
            .contains("<|reasoning_thinking_start|>\none and one\n<|reasoning_thinking_end|>")
    );
    assert!(learned(&row).starts_with("\none and one\n<|reasoning_thinking_end|>\n"));

    let written = LINE
        .replace("<think>", "<|reasoning_thinking_start|>")
        .replace("</think>", "<|reasoning_thinking_end|>");
    let lesson = Lesson {
        think: Some(Think::Text),
        ..Lesson::default()
    };
    let (rows_of_text, _) = rows(&written, lesson, 1024);
    assert!(learned(&rows_of_text.example(0)).starts_with("<think>\none and one\n</think>\n"));
}

#[test]
fn a_share_of_what_tools_say_is_learned() {
    let reply = |tool_share, seed| {
        let mut stats = PackedStats::default();
        let lesson = Lesson {
            learn: vec![Speaker::Tool],
            tool_share,
            seed,
            think: None,
        };
        let mut dialogs = Dialogs::new(Arc::new(Llama::bytes()), lesson);
        for _ in 0..400 {
            dialogs.push(read_line(LINE).expect("a dialog"), 1024, &mut stats);
        }
        400 - stats.dropped.values().sum::<u64>()
    };
    assert_eq!(reply(1.0, 1), 400);
    assert_eq!(reply(0.0, 1), 0);
    // Expected 200, standard deviation 10.
    let half = reply(0.5, 1);
    assert!((150..250).contains(&half), "{half}");
    assert_eq!(half, reply(0.5, 1));
}

#[test]
fn a_long_dialog_ends_behind_a_turn() {
    let fits = whole(&rows(LINE, Lesson::default(), 1024).0.example(0));
    let (cut, stats) = rows(LINE, Lesson::default(), 110);
    let text = whole(&cut.example(0));
    assert!(
        text.ends_with("</tool><|eot_id|>") && fits.starts_with(&text),
        "{text}"
    );
    assert_eq!(stats.dropped.get("turn behind the row"), Some(&2));
    let (none, stats) = rows(LINE, Lesson::default(), 40);
    assert!(none.is_empty());
    assert_eq!(
        stats.dropped.get("dialog without a turn to learn from"),
        Some(&1)
    );
}

#[test]
fn wrong_lines_are_refused_by_what_is_wrong() {
    for (line, part) in [
        (r#"{"messages": [], "id": 3}"#, "unknown field `id`"),
        (
            r#"{"messages": [{"role": "user", "content": "x", "name": "y"}]}"#,
            "unknown field `name`",
        ),
        (
            r#"{"messages": [{"role": "tool", "content": "x"}]}"#,
            "role `tool` is none of",
        ),
        (
            r#"{"messages": [{"role": "user"}]}"#,
            "missing field `content`",
        ),
        ("[]", "invalid length"),
    ] {
        let error = read_line(line).expect_err(line);
        assert!(error.contains(part), "{error}");
    }
}
