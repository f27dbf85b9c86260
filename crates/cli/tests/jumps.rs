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

#[test]
fn the_debugger_goes_over_calls_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let program =
        "def double(n):\n    m = n + n\n    return m\n\n\nx = 4\ny = double(x)\nz = y + 1\n";
    let path = folder.path().join("p.py");
    std::fs::write(&path, program).expect("written");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let path = path.to_str().expect("a path");
    let commands = b"until 7\nleap\nforks\nstep\nback\nback\nleap\nverify\n";
    let run = run_in(&root, &["debug", "--json", path], commands);
    let text = run.stdout();
    let replies: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("a reply a line"))
        .collect();
    let leaps: Vec<_> = replies
        .iter()
        .filter(|reply| reply["why"] == "leapt")
        .collect();
    assert_eq!(leaps.len(), 2, "{text}");
    assert_eq!(leaps[0], leaps[1], "what is known is not predicted again");
    let frame = &leaps[0]["frame"];
    assert_eq!(
        (&frame["kind"], &frame["depth"]),
        (&"line".into(), &0.into()),
        "{text}"
    );
    assert_eq!(leaps[0]["fork"], 1, "{text}");
    let forks = replies
        .iter()
        .find(|reply| reply["reply"] == "forks")
        .expect("forks");
    assert_eq!(forks["forks"][1]["leap"]["line"], 7, "{text}");
    let at = replies
        .iter()
        .position(|reply| reply["reply"] == "forks")
        .expect("forks");
    assert_eq!(
        replies[at + 1]["why"],
        "arrived",
        "one can go on from there: {text}"
    );
    let verified = replies.last().expect("a reply");
    assert_eq!(verified["leapt"], true, "{text}");
}
