//! Trajectories: what is wrong is named, what is right is read back.

use cwm_data::scrub::{Finding, Scrubber};
use cwm_data::text::trajectory::{
    Fault, Observation, Outcome, Provenance, Setting, Step, Stop, TaskKind, Tests, ToolCall,
    Trajectory, Transcript, check, trajectory,
};
use cwm_data::text::{Document, Material, Origin, Skip};
use cwm_tokenizer::chat::Role;
use proptest::prelude::*;

fn seen(text: &str) -> Option<Observation> {
    Some(Observation {
        text: text.into(),
        seconds: 0.5,
    })
}

fn good() -> Trajectory {
    let step = |thought: &str, call, observation| Step {
        thought: thought.into(),
        call,
        observation,
    };
    let bash = ToolCall::Bash {
        command: "pytest -q\ncat a.py".into(),
    };
    let edit = ToolCall::Edit {
        path: "a.py".into(),
        search: "x = 1\n".into(),
        replace: String::new(),
    };
    let create = ToolCall::Create {
        path: "b.py".into(),
        text: "\ny = 1\n".into(),
    };
    let submit = ToolCall::Submit {
        path: "fix.patch".into(),
    };
    Trajectory {
        task_kind: TaskKind::MutateFix,
        setting: Setting {
            repository: "a/b".into(),
            commit: "c0ffee".into(),
            image: String::new(),
        },
        system: "You have tools.".into(),
        task: "Fix the tests.".into(),
        steps: vec![
            step("Look first.", bash, seen("  1 failed <|eot_id|> <\\|x\n")),
            step("", edit, seen("done")),
            step("One more.", create, seen("")),
            step("That is it.", submit, None),
        ],
        stop: Stop::Submitted,
        outcome: Outcome {
            before: Tests {
                passed: 3,
                failed: 1,
            },
            after: Tests {
                passed: 4,
                failed: 0,
            },
            reward: Some(1.0),
            patch: "diff --git a/a.py b/a.py\n".into(),
        },
        made_by: Provenance {
            model: "m".into(),
            agent: "agent 1.0".into(),
            seed: 7,
        },
    }
}

fn material() -> Material {
    Material {
        licence: "MIT".into(),
        origin: Origin {
            project: "a/b".into(),
            version: "c0ffee".into(),
            path: String::new(),
        },
    }
}

#[test]
fn a_trajectory_is_shown_in_the_chat_format() {
    let mut short = good();
    short.steps.truncate(2);
    assert_eq!(
        short.render(),
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nYou have tools.<|eot_id|>\
         <|start_header_id|>user<|end_header_id|>\n\nFix the tests.<|eot_id|>\
         <|start_header_id|>assistant<|end_header_id|>\n\n<think>\nLook first.\n</think>\n\
         <tool: bash>\npytest -q\ncat a.py\n</tool><|eot_id|>\
         <|start_header_id|>tool: bash<|end_header_id|>\n\n  1 failed <\\|eot_id|> <\\\\|x\n<|eot_id|>\
         <|start_header_id|>assistant<|end_header_id|>\n\n\
         <tool: edit>\na.py\n<<<<<<< SEARCH\nx = 1\n\n=======\n\n>>>>>>> REPLACE\n</tool><|eot_id|>\
         <|start_header_id|>tool: edit<|end_header_id|>\n\ndone<|eot_id|>"
    );
    let roles: Vec<Role> = short
        .dialog()
        .into_iter()
        .map(|message| message.role)
        .collect();
    let tool = |name: &str| Role::Tool(name.into());
    assert_eq!(
        roles,
        [
            Role::System,
            Role::User,
            Role::Assistant,
            tool("bash"),
            Role::Assistant,
            tool("edit")
        ]
    );
}

#[test]
fn renderings_and_json_are_read_back() {
    let trajectory = good();
    assert_eq!(
        Transcript::parse(&trajectory.render()),
        Ok(trajectory.transcript())
    );
    let json = serde_json::to_string(&trajectory).expect("JSON");
    let found: Trajectory = serde_json::from_str(&json).expect("JSON");
    assert_eq!(found, trajectory);
    for (good, bad) in [
        ("\"tool\":\"submit\"", "\"tool\":\"deploy\""),
        ("\"seed\":7", "\"seed\":7,\"x\":1"),
        ("\"path\":\"b.py\"", "\"path\":\"b.py\",\"mode\":1"),
        ("\"stop\":\"submitted\"", "\"stop\":\"bored\""),
    ] {
        assert!(json.contains(good), "{good}");
        let changed = json.replacen(good, bad, 1);
        assert!(
            serde_json::from_str::<Trajectory>(&changed).is_err(),
            "{bad}"
        );
    }
}

#[test]
fn what_is_wrong_is_named() {
    let fault = |change: &dyn Fn(&mut Trajectory)| {
        let mut trajectory = good();
        change(&mut trajectory);
        check(&trajectory).err()
    };
    let bash = |t: &mut Trajectory, command: &str| {
        let command = command.to_owned();
        t.steps[0].call = ToolCall::Bash { command };
    };
    assert_eq!(fault(&|_| {}), None);
    assert_eq!(fault(&|t| t.steps.clear()), Some(Fault::Empty));
    assert_eq!(fault(&|t| t.task = " ".into()), Some(Fault::NoTask));
    assert_eq!(fault(&|t| t.task.push('\n')), Some(Fault::Blanks("task")));
    assert_eq!(
        fault(&|t| t.steps[1].observation = None),
        Some(Fault::Unanswered(2))
    );
    assert_eq!(fault(&|t| t.steps.swap(2, 3)), Some(Fault::AfterSubmit(3)));
    assert_eq!(fault(&|t| t.stop = Stop::Turns), Some(Fault::Stop));
    assert_eq!(fault(&|t| t.steps.truncate(2)), Some(Fault::Stop));
    assert_eq!(fault(&|t| bash(t, " \n")), Some(Fault::Incomplete(1)));
    assert_eq!(fault(&|t| bash(t, "echo '</tool>'")), Some(Fault::Marks(1)));
    assert_eq!(
        fault(&|t| t.steps[3].thought = "<think>".into()),
        Some(Fault::Marks(4))
    );
    assert_eq!(
        fault(&|t| t.outcome.reward = Some(f64::NAN)),
        Some(Fault::Number("reward"))
    );
    assert_eq!(
        fault(&|t| t.steps[0].observation.as_mut().expect("one").seconds = -1.0),
        Some(Fault::Number("seconds"))
    );
    let marked = |t: &mut Trajectory| {
        t.steps[1].call = ToolCall::Edit {
            path: "a".into(),
            search: "x\n=======\ny".into(),
            replace: String::new(),
        };
    };
    assert_eq!(fault(&marked), Some(Fault::Incomplete(2)));
    let mut turns = good();
    turns.steps.truncate(2);
    turns.stop = Stop::Turns;
    assert_eq!(check(&turns), Ok(()));
}

#[test]
fn documents_are_scrubbed_and_checked() {
    let mut secret = good();
    let token = format!("ghp_{}", "a1".repeat(18));
    secret.steps[0].call = ToolCall::Bash {
        command: format!("git push https://{token}@github.com/a/b"),
    };
    secret.steps[0].observation = seen(&format!("pushed with {token}"));
    let mut copy = secret.clone();
    assert_eq!(
        copy.scrub(&Scrubber::default()).get(&Finding::ServiceToken),
        Some(&1)
    );
    let document = trajectory(secret, &material(), &Scrubber::default()).expect("a sound one");
    assert!(!document.render().contains(&token));
    let json = serde_json::to_string(&document).expect("JSON");
    assert!(!json.contains(&token));
    assert_eq!(
        serde_json::from_str::<Document>(&json).expect("JSON"),
        document
    );
    let mut bad = good();
    bad.steps.clear();
    let refused = trajectory(bad, &material(), &Scrubber::default());
    assert_eq!(refused, Err(Skip::Malformed));
}

#[test]
fn near_copies_differ_in_thoughts_and_observations_only() {
    let mut other = good();
    other.steps[0].thought = "Hm.".into();
    other.steps[0].observation = seen("2 failed");
    assert_eq!(other.actions(), good().actions());
    other.steps.remove(1);
    assert_ne!(other.actions(), good().actions());
}

fn text() -> impl Strategy<Value = String> {
    "(<\\|eot_id\\|>|<|\\||\\\\|\n|a|assistant|\\PC){0,8}"
}

fn call() -> impl Strategy<Value = ToolCall> {
    prop_oneof![
        text().prop_map(|command| ToolCall::Bash { command }),
        ("[a-z/.]{1,6}", text(), text()).prop_map(|(path, search, replace)| ToolCall::Edit {
            path,
            search,
            replace
        }),
        ("[a-z/.]{1,6}", text()).prop_map(|(path, text)| ToolCall::Create { path, text }),
    ]
}

proptest! {
    #[test]
    fn any_sound_trajectory_is_read_back(steps in prop::collection::vec((text(), call(), text()), 1..5), task in text()) {
        let mut trajectory = good();
        trajectory.task = task.trim().to_owned();
        trajectory.stop = Stop::Tokens;
        let step = |(thought, call, observation): (String, ToolCall, String)| Step {
            thought: thought.trim().to_owned(),
            call,
            observation: seen(&observation),
        };
        trajectory.steps = steps.into_iter().map(step).collect();
        prop_assume!(check(&trajectory).is_ok());
        prop_assert_eq!(Transcript::parse(&trajectory.render()), Ok(trajectory.transcript()));
    }

    #[test]
    fn any_text_is_a_transcript_or_refused(text in "(<\\|(begin_of_text|start_header_id|end_header_id|eot_id)\\|>|user|assistant|\n\n|<tool: bash>\n|\n</tool>|x){0,20}") {
        let _ = Transcript::parse(&text);
    }
}
