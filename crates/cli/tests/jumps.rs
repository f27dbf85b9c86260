//! Jumps in the debugger, with the shipped model, as a program that reads its replies would use them.

mod common;

use std::path::Path;

use common::run_in;

#[test]
fn the_debugger_names_at_once_where_actions_lead() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let commands =
        b"step\nstep\njump over\njump out\njump to 8\njump end\njump before\nj sideways\nwhere\n";
    let run = run_in(
        &root,
        &["debug", "--json", "examples/strawberry.py"],
        commands,
    );
    let text = run.stdout();
    let replies: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("a reply a line"))
        .collect();
    let jumps: Vec<(&str, &str)> = replies
        .iter()
        .filter(|reply| reply["reply"] == "jump")
        .map(|reply| {
            let probability = reply["probability"].as_f64().expect("a probability");
            assert!((0.0..=1.0).contains(&probability), "{reply}");
            let [action, kind] = ["action", "kind"].map(|key| reply[key].as_str().expect("a text"));
            (action, kind)
        })
        .collect();
    let actions: Vec<&str> = jumps.iter().map(|(action, _)| *action).collect();
    assert_eq!(actions, ["over", "out", "to 8", "end", "before"], "{text}");
    assert!(["normal", "error"].contains(&jumps[3].1), "{text}");
    assert!(text.contains("`sideways` is no action"), "{text}");
    // Nothing has moved: the stack is that of the second step.
    assert_eq!(
        replies.last().map(|reply| &reply["reply"]),
        Some(&"stack".into()),
        "{text}"
    );
}
