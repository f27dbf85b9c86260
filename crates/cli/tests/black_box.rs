//! The real binary, used as a person would use it: good input, bad input,
//! interrupted work.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Run, run_in};
use tempfile::TempDir;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn cwm(args: &[&str]) -> Run {
    cwm_with(args, b"")
}

fn cwm_with(args: &[&str], stdin: &[u8]) -> Run {
    run_in(&root(), args, stdin)
}

fn cwm_in(folder: &Path, args: &[&str]) -> Run {
    run_in(folder, args, b"")
}

/// A folder with one Python file, and the file's path.
fn file(source: &str) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("program.py");
    std::fs::write(&path, source).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

const COUNT: &str = "\
def count(text, letter):
    total = 0
    for ch in text:
        if ch == letter:
            total += 1
    return total
";

#[test]
fn trace_writes_the_exact_cwm_text() {
    let (_folder, path) = file(COUNT);
    let run = cwm(&["trace", &path, "--entry", "count", "--args", "'ab', 'b'"]).succeeds();
    let expected = "\
<|begin_of_text|><|trace_context_start|>def count(text, letter):  # << START_OF_TRACE
    total = 0
    for ch in text:
        if ch == letter:
            total += 1
    return total
<|frame_sep|><|call_sep|>{\"text\": \"'ab'\", \"letter\": \"'b'\"}<|action_sep|>def count(text, letter):
<|frame_sep|><|line_sep|>{\"text\": \"..\", \"letter\": \"..\"}<|action_sep|>    total = 0
<|frame_sep|><|line_sep|>{\"text\": \"..\", \"letter\": \"..\", \"total\": \"0\"}<|action_sep|>    for ch in text:
<|frame_sep|><|line_sep|>{\"text\": \"..\", \"letter\": \"..\", \"total\": \"..\", \"ch\": \"'a'\"}<|action_sep|>        if ch == letter:
<|frame_sep|><|line_sep|>{\"text\": \"..\", \"letter\": \"..\", \"total\": \"..\", \"ch\": \"..\"}<|action_sep|>    for ch in text:
<|frame_sep|><|line_sep|>{\"text\": \"..\", \"letter\": \"..\", \"total\": \"..\", \"ch\": \"'b'\"}<|action_sep|>        if ch == letter:
<|frame_sep|><|line_sep|>{\"text\": \"..\", \"letter\": \"..\", \"total\": \"..\", \"ch\": \"..\"}<|action_sep|>            total += 1
<|frame_sep|><|line_sep|>{\"text\": \"..\", \"letter\": \"..\", \"total\": \"1\", \"ch\": \"..\"}<|action_sep|>    for ch in text:
<|frame_sep|><|line_sep|>{\"text\": \"..\", \"letter\": \"..\", \"total\": \"..\", \"ch\": \"..\"}<|action_sep|>    return total
<|frame_sep|><|return_sep|><|action_sep|>    return total
<|arg_sep|>\"1\"<|frame_sep|><|end_of_text|>
";
    assert_eq!(run.stdout(), expected);
    assert_eq!(run.stderr(), "");
}

#[test]
fn every_dialect_reads_back() {
    let (folder, path) = file(COUNT);
    let out = folder.path().join("trace.txt");
    let out = out.to_str().unwrap();
    let args = ["--entry", "count", "--args", "'ab', 'b'", "--out", out];
    let trace = |dialect: &str| {
        cwm(&[&["trace", path.as_str(), "--dialect", dialect], &args[..]].concat()).succeeds();
        std::fs::read_to_string(out).unwrap()
    };
    let live = cwm_trace::live::parse(&trace("live"));
    assert_eq!(live.broken, None);
    assert!(live.document.complete);
    let cwm = cwm_trace::cwm::parse(&trace("cwm"));
    assert_eq!(cwm.broken, None);
    let json = trace("json");
    let json = cwm_trace::jsonl::read(json.as_bytes()).unwrap();
    assert_eq!(cwm_trace::live::Document::from_trace(&json), live.document);
    assert_eq!(cwm_trace::cwm::Document::from_trace(&json), cwm.document);
}

#[test]
fn a_recorded_run_can_be_viewed() {
    let (folder, path) = file("def f(n):\n    m = n * 2\n    return m\n");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let record = |dialect: &str, out: &str| {
        let call = ["trace", &path, "--entry", "f", "--args", "21"];
        cwm(&[&call[..], &["--dialect", dialect, "--out", out]].concat()).succeeds();
    };
    for dialect in ["json", "live", "parquet"] {
        let out = at(&format!("run.{dialect}"));
        record(dialect, &out);
        let shown = cwm(&["trace", "view", &out]).succeeds().stdout();
        assert!(shown.contains("call f  # n = 21"), "{shown}");
        assert!(shown.contains("return m  # m = 42"), "{shown}");
    }
    let timeline = at("timeline.perfetto");
    cwm(&["trace", "view", &at("run.json"), "--perfetto", &timeline]).succeeds();
    let text = std::fs::read_to_string(&timeline).expect("a file");
    let timeline: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(timeline["traceEvents"][1]["args"]["n"], "21");

    let counts = cwm(&[
        "trace",
        "view",
        &folder.path().display().to_string(),
        "--json",
    ]);
    let counts: serde_json::Value =
        serde_json::from_str(&counts.succeeds().stdout()).expect("JSON");
    assert_eq!(counts["traces"], 3);
    assert_eq!(counts["kinds"]["line"], 6);
    let table = cwm(&["trace", "view", &folder.path().display().to_string()]).succeeds();
    assert!(
        table.stdout().contains("3 traces, 12 events"),
        "{}",
        table.stdout()
    );

    for dialect in ["cwm", "nd"] {
        let out = at(&format!("run.{dialect}"));
        record(dialect, &out);
        cwm(&["trace", "view", &out]).fails_with(&["--dialect json"]);
    }
    cwm(&["trace", "view", &path]).fails_with(&["not a trace"]);
    cwm(&["trace", &path, "--dialect", "parquet"]).fails_with(&["not text", "--out"]);
    let unnamed = cwm(&["trace"]);
    assert_eq!(
        unnamed.output.status.code(),
        Some(2),
        "{}",
        unnamed.stderr()
    );
}

#[test]
fn what_is_no_python_is_refused() {
    let (_folder, path) = file("def f(:\n    pass\n");
    for command in ["trace", "predict", "debug"] {
        cwm(&[command, &path]).fails_with(&["program.py:1", "def f(:"]);
    }
    let (_folder, path) = file("x = 1\0");
    cwm(&["trace", &path]).fails_with(&["null bytes"]);
    cwm(&["trace", "no/such/file.py"]).fails_with(&["cannot read `no/such/file.py`"]);
    let (folder, _) = file("");
    let binary = folder.path().join("b.py");
    std::fs::write(&binary, b"\xff\xfe\x00\x80").unwrap();
    cwm(&["trace", binary.to_str().unwrap()]).fails_with(&["not UTF-8"]);
}

#[test]
fn a_missing_entry_lists_what_there_is() {
    let (_folder, path) = file(COUNT);
    cwm(&["trace", &path, "--entry", "cuont"]).fails_with(&["no function `cuont`", "count"]);
    cwm(&["predict", &path, "--entry", "cuont"]).fails_with(&["no function `cuont`", "`count`"]);
    cwm(&["debug", &path, "--entry", "cuont"]).fails_with(&["no function `cuont`", "`count`"]);
}

#[test]
fn wrong_arguments_are_explained() {
    let (_folder, path) = file(COUNT);
    let with = |command: &str, args: &str| {
        cwm(&[command, path.as_str(), "--entry", "count", "--args", args])
    };
    with("trace", "'ab'").fails_with(&["cannot call count('ab')", "letter"]);
    with("trace", "1 +").fails_with(&["cannot call count(1 +)"]);
    with("predict", "'ab'").fails_with(&["`letter` is missing"]);
    with("predict", "'ab', open('x')").fails_with(&["not literals", "predicting runs no code"]);
    let usage = cwm(&["trace", &path, "--args", "1"]);
    assert_eq!(usage.output.status.code(), Some(2));
    let usage = cwm(&["trace", &path, "--no-such-flag"]);
    assert_eq!(usage.output.status.code(), Some(2));
}

#[test]
fn each_thread_is_a_file_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.py").display().to_string();
    let source = "\
import threading
def work(n):
    return n + 1
t = threading.Thread(target=work, args=(1,), name='worker')
t.start()
t.join()
";
    std::fs::write(&path, source).unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let out = at("run.json");
    let run = ["trace", &path, "--dialect", "json", "--threads", "all"];
    cwm(&run).fails_with(&["--threads all needs --out"]);
    let said = cwm(&[&run[..], &["--out", &out]].concat()).succeeds();
    assert!(
        said.stderr()
            .contains("besides the main one: 1, the first in")
    );
    let shown = cwm(&["trace", "view", &at("run.thread-1.json")]).succeeds();
    let shown = shown.stdout();
    assert!(shown.starts_with("thread 1 (worker) of "), "{shown}");
    assert!(shown.contains("3 events, finished"), "{shown}");
    let main = cwm(&["trace", "view", &out]).succeeds().stdout();
    assert!(!main.contains("return n + 1"), "{main}");
}

#[test]
fn a_program_that_raises_is_a_trace() {
    let (_folder, path) = file("def f(x):\n    return 1 // x\n");
    let run = cwm(&["trace", &path, "--entry", "f", "--args", "0"]).succeeds();
    assert!(
        run.stdout().contains("<|exception_sep|>"),
        "{}",
        run.stdout()
    );
    assert!(run.stdout().ends_with("<|end_of_text|>\n"));
    assert!(
        run.stderr()
            .contains("the program raised ZeroDivisionError"),
        "{}",
        run.stderr()
    );
}

#[test]
fn output_and_input_of_the_program_stay_apart() {
    let (folder, path) = file("name = input()\nprint('hello', name)\n");
    let stdin = folder.path().join("in.txt");
    std::fs::write(&stdin, "world\n").unwrap();
    let stdin = stdin.to_str().unwrap();
    let run = cwm(&["trace", &path, "--stdin", stdin, "--dialect", "json"]).succeeds();
    let trace = cwm_trace::jsonl::read(run.stdout().as_bytes()).unwrap();
    assert_eq!(trace.stdout, "hello world\n");
    assert_eq!(trace.end, cwm_trace::End::Finished);
}

#[test]
fn modules_and_programs_take_arguments() {
    let (folder, path) = file("import sys\nprint(sys.argv[1:])\n");
    let run = cwm(&["trace", &path, "--dialect", "json", "--", "-x", "y"]).succeeds();
    let trace = cwm_trace::jsonl::read(run.stdout().as_bytes()).unwrap();
    assert_eq!(trace.stdout, "['-x', 'y']\n");

    let package = folder.path().join("pack");
    std::fs::create_dir(&package).unwrap();
    std::fs::write(package.join("__init__.py"), "").unwrap();
    std::fs::write(package.join("part.py"), "def f(n):\n    return n + 1\n").unwrap();
    let main = "import sys\nfrom pack.part import f\nx = f(int(sys.argv[1]))\n";
    std::fs::write(package.join("__main__.py"), main).unwrap();
    let run = cwm_in(folder.path(), &["trace", "-m", "pack", "--", "41"]).succeeds();
    assert!(run.stdout().contains("{\"n\": \"41\"}"), "{}", run.stdout());
    assert!(run.stdout().contains("return n + 1"), "{}", run.stdout());
    cwm_in(folder.path(), &["trace", "-m", "nowhere"]).fails_with(&["No module named nowhere"]);
    let both = cwm(&["trace", &path, "-m", "pack"]);
    assert_eq!(both.output.status.code(), Some(2), "{}", both.stderr());
}

#[test]
fn endless_programs_give_partial_traces() {
    let (_folder, path) = file("i = 0\nwhile True:\n    i += 1\n");
    let run = cwm(&["trace", &path, "--max-events", "50"]).succeeds();
    assert!(
        run.stderr().contains("stopped after 50 events"),
        "{}",
        run.stderr()
    );
    assert!(!run.stdout().contains("<|end_of_text|>"));
    let (_folder, path) = file("import time\nx = 1\ntime.sleep(60)\n");
    let run = cwm(&["trace", &path, "--timeout", "0.5"]).succeeds();
    assert!(
        run.stderr().contains("stopped after 0.5 s"),
        "{}",
        run.stderr()
    );
    assert!(run.stdout().contains("time.sleep(60)"));
}

#[test]
fn endless_recursion_and_memory_are_ends() {
    let (_folder, path) = file("def f(n):\n    return f(n + 1)\n");
    let run = cwm(&["trace", &path, "--entry", "f", "--args", "0"]).succeeds();
    assert!(run.stderr().contains("RecursionError"), "{}", run.stderr());
    let (_folder, path) = file("x = [0]\nwhile True:\n    x = x + x\n");
    let run = cwm(&["trace", &path, "--timeout", "120"]).succeeds();
    let said = run.stderr();
    assert!(
        said.contains("memory") || said.contains("MemoryError"),
        "{said}"
    );
}

#[test]
fn a_hostile_repr_is_contained() {
    let source = "\
class Bad:
    def __repr__(self):
        raise SystemExit(3)

class Endless:
    def __repr__(self):
        while True:
            pass

class Huge:
    def __repr__(self):
        return 'x' * 1000000

a = Bad()
b = Endless()
c = Huge()
d = [a, c]
";
    let (_folder, path) = file(source);
    let run = cwm(&["trace", &path, "--timeout", "20", "--dialect", "json"]).succeeds();
    let trace = cwm_trace::jsonl::read(run.stdout().as_bytes()).unwrap();
    assert_eq!(trace.end, cwm_trace::End::Finished, "{}", run.stderr());
    let last = trace
        .events
        .iter()
        .rev()
        .find(|e| !e.locals.is_empty())
        .unwrap();
    let value = |name: &str| &last.locals.iter().find(|l| &*l.name == name).unwrap().value;
    assert!(value("a").repr.contains("repr failed"), "{:?}", value("a"));
    assert!(value("c").truncated && value("c").repr.ends_with("..."));
}

#[test]
fn predictions_verify_themselves() {
    let args = ["predict", "examples/strawberry.py", "--verify", "--json"];
    let run = cwm(&args).succeeds();
    let value: serde_json::Value = serde_json::from_str(&run.stdout()).unwrap();
    let frames = value["frames"].as_array().unwrap();
    assert!(frames.len() > 3);
    assert!(value["agrees"].is_boolean());
    let diverges = value["first_divergence"].as_u64();
    assert_eq!(value["agrees"].as_bool().unwrap(), diverges.is_none());
    assert_eq!(value["real_output"], "None");
    assert_eq!(frames[0]["kind"], "call");
    let steps = frames
        .iter()
        .filter_map(|frame| frame["working"].as_array());
    let steps: Vec<_> = steps.flatten().filter_map(|step| step.as_str()).collect();
    assert!(steps.iter().any(|step| step.contains(" = ")), "{steps:?}");
}

#[test]
fn debugging_works_from_a_pipe() {
    let commands = b"step\nstep\nprint\nwhere\nback\nnonsense\nverify\nquit\n";
    let run = cwm_with(&["debug", "examples/strawberry.py"], commands).succeeds();
    let text = run.stdout();
    assert!(
        text.contains("nothing is executed unless you type `verify`"),
        "{text}"
    );
    assert!(text.contains("p 0.") || text.contains("p 1."), "{text}");
    assert!(text.contains("for real"), "{text}");
    // The end of input is as good as `quit`.
    cwm_with(&["debug", "examples/strawberry.py"], b"step\n").succeeds();
}

#[test]
fn a_program_too_large_for_the_model_is_refused() {
    let (_folder, path) = file(&"x = 1\n".repeat(400));
    cwm(&["predict", &path]).fails_with(&["400 lines", "at most"]);
}

/// A copy of the shipped model whose files a test may damage.
fn model_copy() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(root().join("models/nano")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    let path = folder.path().to_owned();
    (folder, path)
}

fn predict_with(model: &Path) -> Run {
    cwm(&[
        "predict",
        "examples/strawberry.py",
        "--model",
        model.to_str().unwrap(),
    ])
}

#[test]
fn damaged_models_are_refused() {
    let (_folder, model) = model_copy();
    let weights = model.join("model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    predict_with(&model).fails_with(&["cannot load the model", "model.safetensors"]);
    std::fs::write(&weights, b"PK\x03\x04 this is a zip file, not weights").unwrap();
    predict_with(&model).fails_with(&["cannot load the model", "model.safetensors"]);
    std::fs::remove_file(&weights).unwrap();
    predict_with(&model).fails_with(&["model.safetensors"]);
}

#[test]
fn a_vocabulary_that_does_not_fit_is_refused() {
    let (_folder, model) = model_copy();
    let path = model.join("vocabulary.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"w:append\",", "")).unwrap();
    predict_with(&model).fails_with(&["vocabulary", "another version"]);
    std::fs::write(&path, "{}").unwrap();
    predict_with(&model).fails_with(&["is not a vocabulary file"]);
    cwm(&[
        "predict",
        "examples/strawberry.py",
        "--model",
        "no/such/model",
    ])
    .fails_with(&["no/such/model"]);
}

#[test]
fn logits_are_written_for_anyone_to_check() {
    let folder = tempfile::tempdir().unwrap();
    let ids = folder.path().join("ids.json");
    let out = folder.path().join("out.safetensors");
    let (ids, out) = (ids.to_str().unwrap(), out.to_str().unwrap());
    std::fs::write(ids, "[1, 2, 3]").unwrap();
    cwm(&[
        "logits",
        "--model",
        "models/nano",
        "--ids",
        ids,
        "--out",
        out,
    ])
    .succeeds();
    let bytes = std::fs::read(out).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let logits = tensors.tensor("logits").unwrap();
    assert_eq!(logits.shape()[0], 3);
    assert_eq!(logits.dtype(), safetensors::Dtype::F32);
    std::fs::write(ids, "[1, 99999999]").unwrap();
    cwm(&[
        "logits",
        "--model",
        "models/nano",
        "--ids",
        ids,
        "--out",
        out,
    ])
    .fails_with(&["99999999"]);
    std::fs::write(ids, "{\"a\": 1}").unwrap();
    cwm(&[
        "logits",
        "--model",
        "models/nano",
        "--ids",
        ids,
        "--out",
        out,
    ])
    .fails_with(&["not a JSON list of token ids"]);
}

#[test]
fn data_is_a_function_of_its_seed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let generate = |seed: &str, threads: &str, out: &str| {
        let fixed = "data generate --count 40 --levels 25,35,25,15 --seed".split(' ');
        let args = fixed.chain([seed, "--threads", threads, "--out", out]);
        cwm(&args.collect::<Vec<_>>()).succeeds();
        std::fs::read(out).unwrap()
    };
    let one = generate("5", "1", &path("a.jsonl"));
    assert_eq!(one, generate("5", "2", &path("b.jsonl")));
    assert_ne!(one, generate("6", "1", &path("c.jsonl")));
    let eval = cwm(&[
        "eval",
        "traces",
        "--data",
        &path("a.jsonl"),
        "--limit",
        "3",
        "--json",
    ]);
    let value: serde_json::Value = serde_json::from_str(&eval.succeeds().stdout()).unwrap();
    assert_eq!(value["items"], 3);
    for key in [
        "output_exact",
        "frame_exact",
        "action_exact",
        "state_exact",
        "trace_exact",
        "valid_format",
    ] {
        let rate = value[key].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&rate), "{key}");
        assert!(value["counts"][key].as_u64().unwrap() > 0, "{key}");
    }
    // No driver has so many GPUs.
    let no_gpu = ["--device", "cuda:4096"];
    let traces = ["eval", "traces", "--data", &path("a.jsonl")];
    cwm(&[&traces[..], &no_gpu].concat()).fails_with(&["--device cpu"]);
    let worked = path("worked.jsonl");
    let work = |data: &str| cwm(&["data", "work", "--data", data, "--out", &worked]);
    work(&path("a.jsonl")).succeeds();
    let with_steps = std::fs::read_to_string(&worked).unwrap();
    assert_eq!(with_steps.lines().count(), 40);
    assert!(with_steps.contains(" = True\""), "{with_steps}");
    // Work that is done already is done again, to the same result.
    std::fs::copy(&worked, path("a.jsonl")).unwrap();
    work(&path("a.jsonl")).succeeds();
    assert_eq!(std::fs::read_to_string(&worked).unwrap(), with_steps);
    let foreign = path("foreign.jsonl");
    std::fs::write(&foreign, "{\"hello\": 1}\n").unwrap();
    work(&foreign).fails_with(&["line 1"]);
    assert_eq!(std::fs::read_to_string(&worked).unwrap(), with_steps);
    cwm(&["eval", "traces", "--data", &foreign]).fails_with(&["line 1"]);
    cwm(&["train", "--data", &foreign, "--out", &path("run")]).fails_with(&["line 1"]);
}

#[cfg(unix)]
#[test]
fn programs_of_benchmarks_are_left_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (data, bench, kept) = (path("a.jsonl"), path("b.jsonl"), path("kept.jsonl"));
    let generate = ["data", "generate", "--seed", "5", "--count", "6", "--out"];
    cwm(&[
        &generate[..],
        &[&data, "--levels", "0,0,0,0", "--drills", "1"],
    ]
    .concat())
    .succeeds();
    // The third program becomes an item, under another name for its function.
    let text = std::fs::read_to_string(&data).expect("a file");
    let record: serde_json::Value =
        serde_json::from_str(text.lines().nth(2).expect("six lines")).expect("JSON");
    let source = record["trace"]["source"].as_str().expect("text");
    let name = source.split_once("def ").expect("a drill is a function").1;
    let name = &name[..name.find('(').expect("parameters")];
    let renamed = source.replace(&format!("def {name}("), "def renamed(");
    let item = serde_json::json!({ "code": renamed });
    std::fs::write(&bench, format!("{item}\n")).expect("disk");

    let command = [
        "data",
        "decontaminate",
        "--data",
        &data,
        "--against",
        &bench,
    ];
    let report = cwm(&[&command[..], &["--out", &kept, "--json"]].concat());
    let report: serde_json::Value =
        serde_json::from_str(&report.succeeds().stdout()).expect("JSON");
    assert_eq!(report["programs"], 6);
    assert_eq!(report["kept"], 5);
    assert_eq!(report["left_out"][&bench]["function"][0], record["id"]);
    let kept = std::fs::read_to_string(&kept).expect("a file");
    let expected = text.lines().enumerate().filter(|(n, _)| *n != 2);
    assert!(kept.lines().eq(expected.map(|(_, line)| line)));

    std::fs::write(&bench, "[]\n").expect("disk");
    cwm(&command).fails_with(&["line 1 is not a JSON object"]);
}

#[test]
fn interrupted_training_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let data = path("d.jsonl");
    cwm(&[
        "data",
        "generate",
        "--seed",
        "7",
        "--count",
        "60",
        "--levels",
        "25,35,25,15",
        "--out",
        &data,
    ])
    .succeeds();
    let run = path("run");
    let args = |steps: &'static str| {
        [
            "train",
            "--data",
            &data,
            "--out",
            &run,
            "--preset",
            "tiny",
            "--batch-tokens",
            "512",
            "--warmup",
            "2",
            "--decay",
            "2",
            "--checkpoint-every",
            "1",
            "--steps",
            steps,
        ]
        .map(str::to_owned)
    };
    let mut child = Command::new(env!("CARGO_BIN_EXE_cwm"))
        .args(args("100000"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Killed at any moment, once there is a checkpoint to lose.
    let has_checkpoint = || {
        std::fs::read_dir(&run).is_ok_and(|entries| {
            entries.flatten().any(|e| {
                let name = e.file_name().to_string_lossy().into_owned();
                name.starts_with("step-") && !name.ends_with(".tmp")
            })
        })
    };
    for _ in 0..600 {
        if has_checkpoint() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(has_checkpoint());
    let again: Vec<String> = args("100000").into();
    let again: Vec<&str> = again.iter().map(String::as_str).collect();
    cwm(&again).fails_with(&["resume"]);
    let reached: u64 = newest_step(&run);
    let steps = (reached + 3).to_string();
    let mut resumed: Vec<&str> = again[..again.len() - 1].to_vec();
    resumed.extend([steps.as_str(), "--resume"]);
    let finished = cwm(&resumed).succeeds();
    assert!(
        finished.stderr().contains(&format!("step {} of", reached)),
        "{}",
        finished.stderr()
    );
    assert_eq!(newest_step(&run), reached + 3);
    let model = path("model");
    cwm(&["export", "--run", &run, "--out", &model]).succeeds();
    predict_with(Path::new(&model)).succeeds();
    // The mean of weights and themselves is they.
    let weights = || std::fs::read(Path::new(&model).join("model.safetensors")).unwrap();
    let alone = weights();
    let newest = format!("{run}/step-{:06}", reached + 3);
    let mean = ["export", "--run", &run, "--out", &model, "--average"];
    cwm(&[&mean[..], &[&newest]].concat()).succeeds();
    assert_eq!(weights(), alone);
    let shipped = root().join("models/nano");
    cwm(&[&mean[..], &[shipped.to_str().unwrap()]].concat()).fails_with(&["another shape"]);
}

#[cfg(unix)]
fn newest_step(run: &str) -> u64 {
    let entries = std::fs::read_dir(run).unwrap().flatten();
    entries
        .filter_map(|e| {
            e.file_name()
                .to_string_lossy()
                .strip_prefix("step-")?
                .parse()
                .ok()
        })
        .max()
        .unwrap()
}

#[test]
fn doctor_tells_what_is_there() {
    let run = cwm(&["doctor", "--json"]).succeeds();
    let value: serde_json::Value = serde_json::from_str(&run.stdout()).unwrap();
    assert!(value["kernels"].is_string() && value["inference"].is_string());
    assert!(value["model"]["parameters"].as_u64().unwrap() > 0);
    let cuda = &value["cuda"];
    assert!(cuda["name"].is_string() || cuda["missing"].is_string());
    let text = cwm(&["doctor"]).succeeds().stdout();
    for line in ["training", "inference", "cuda", "python", "model"] {
        assert!(
            text.lines().any(|l| l.starts_with(line)),
            "{line} in {text}"
        );
    }
}

/// Killed at any moment, a build goes on where it was.
#[test]
fn a_killed_build_of_data_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let recipe = "seed = 3\nrecords_per_shard = 40\n[[source]]\nkind = 'generated'\nname = 'some'\n\
                  count = 600\nlevels = [1, 1, 1, 1]\n";
    std::fs::write(at("recipe.toml"), recipe).unwrap();
    let build = |out: &str| -> Vec<String> {
        let parts = ["data", "build", &at("recipe.toml"), "--out", out];
        parts.map(str::to_owned).to_vec()
    };
    let all = |args: &[String]| cwm(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let said = all(&build(&at("whole"))).succeeds().stdout();
    assert!(said.starts_with("some: 600 programs with "), "{said}");
    for milliseconds in [150, 300, 600] {
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_cwm"))
            .args(build(&at("killed")))
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(milliseconds));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    all(&build(&at("killed"))).succeeds();
    let hashes = |name: &str| {
        let text = std::fs::read_to_string(folder.path().join(name).join("manifest.json")).unwrap();
        let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(manifest["complete"], true);
        manifest["sources"][0]["shards"].clone()
    };
    assert_eq!(hashes("whole"), hashes("killed"));
    assert_eq!(hashes("whole").as_array().unwrap().len(), 15);

    // Its shards are read where JSON lines are.
    let shard = format!("{}/some-00000.parquet", at("whole"));
    all(&[
        "data",
        "work",
        "--data",
        &shard,
        "--out",
        &at("worked.jsonl"),
    ]
    .map(str::to_owned))
    .succeeds();
    let worked = std::fs::read_to_string(at("worked.jsonl")).unwrap();
    assert_eq!(worked.lines().count(), 40);

    std::fs::write(at("bad.toml"), recipe.replace("count", "cuont")).unwrap();
    cwm(&["data", "build", &at("bad.toml"), "--out", &at("bad")])
        .fails_with(&["bad.toml", "cuont"]);
    let other = recipe.replace("seed = 3", "seed = 4");
    std::fs::write(at("recipe.toml"), other).unwrap();
    all(&build(&at("whole"))).fails_with(&["was made by another recipe"]);
}
