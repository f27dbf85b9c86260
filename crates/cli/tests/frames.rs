//! The frame grammar allows every token of every real trace, and `cwm bench trace` gets equal tokens
//! both ways.

mod common;

use std::sync::Arc;

use common::{Run, cwm};
use cwm_data::{Plan, build, read_records};
use cwm_engine::Constraint;
use cwm_engine::frames::{FrameGrammar, FrameVocabulary, Frames};
use cwm_tokenizer::llama::{Llama, Markup};
use cwm_trace::cwm::{Document, render, render_prompt};
use cwm_tracer::{Interpreter, Limits, Request, trace};

/// Feeds the frames of a text; the text before the first token that is refused.
fn refused(vocabulary: &Arc<FrameVocabulary>, document: &Document) -> Option<String> {
    let llama = Llama::bytes();
    let text = render(document);
    let prompt = render_prompt(&document.context);
    let ids = llama.encode_markup(&text[prompt.len()..], Markup::Cwm);
    let grammar = FrameGrammar::new(vocabulary.clone(), &[&document.context]);
    let mut frames = Frames::new(Arc::new(grammar));
    for (index, &id) in ids.iter().enumerate() {
        if !frames.mask().allows(id) || frames.accept(id).is_err() {
            let end = (index + 20).min(ids.len());
            let near = llama.decode(&ids[index.saturating_sub(200)..end]);
            return Some(format!(
                "{}\n...{}",
                document.context,
                near.unwrap_or_default()
            ));
        }
    }
    assert_eq!(frames.is_complete(), document.end, "{}", document.context);
    None
}

fn vocabulary() -> Arc<FrameVocabulary> {
    Arc::new(FrameVocabulary::of(&Llama::bytes()).expect("it has all bytes"))
}

#[test]
fn every_token_of_a_generated_program_is_legal() {
    let Ok(interpreter) = Interpreter::find(None) else {
        eprintln!("skipped: no Python interpreter");
        return;
    };
    let plan = Plan {
        seed: 613,
        count: 300,
        mix: [1, 1, 1, 1, 4].into(),
        distinct: Default::default(),
        drills: 1,
        threads: 2,
        excluded: Default::default(),
    };
    let mut bytes = Vec::new();
    build(&plan, &interpreter, &mut bytes, |_| {}).expect("programs are built");
    let vocabulary = vocabulary();
    let mut count = 0;
    for record in read_records(&bytes[..]) {
        let document = Document::from_trace(&record.expect("a record").trace);
        if let Some(place) = refused(&vocabulary, &document) {
            panic!("{place}");
        }
        count += 1;
    }
    assert!(count > 200, "{count}");
}

/// What generated programs do not do.
const UNUSUAL: [&str; 8] = [
    "from math import *\nx = [sqrt(n) for n in (1, 4)]\n",
    "class A:\n    __hidden = 1\n    def f(self):\n        __own = self.__hidden\n        return [lambda: i for i in (1, 2)]\nprint(A().f())\n",
    "def gen(n):\n    try:\n        while n:\n            n -= 1\n            yield {k: v for k, v in [(n, '..')]}\n    finally:\n        n = '<|frame_sep|>'\nfor x in gen(2): pass\n",
    "größe = 1\ndef ﬁ(ﬂ): return ﬂ\ny = ﬁ('é\\u2028😀')\n",
    "class D:\n    def __repr__(self): return '..'\ndef f(a):\n    b = D()\n    a = 1\n    a = b\n    return a\nf(D())\n",
    "def f():\n    raise ValueError('x')\ntry:\n    f()\nexcept ValueError as e:\n    m = str(e)\nimport sys\nsys.exit(3)\n",
    "globals()['a b\"c'] = 1\nx = 2\n",
    "s = f'''\n{len('a')}\n'''\n\ndef f(*args, **kwargs):\n\tdef g():\n\t\tnonlocal args\n\t\targs = ()\n\tg()\n\treturn kwargs\nf(1, k=2)\n",
];

#[test]
fn every_token_of_unusual_programs_is_legal() {
    let Ok(interpreter) = Interpreter::find(None) else {
        eprintln!("skipped: no Python interpreter");
        return;
    };
    let vocabulary = vocabulary();
    for source in UNUSUAL {
        let request = Request {
            file: "unusual.py",
            source,
            entry: cwm_trace::Entry::Module,
            stdin: &[],
            arguments: &[],
        };
        let recorded = trace(&interpreter, &request, &Limits::default()).expect("it can be run");
        assert!(recorded.events.len() > 2, "{source}: {:?}", recorded.end);
        let document = Document::from_trace(&recorded);
        assert_eq!(refused(&vocabulary, &document), None);
    }
}

#[test]
fn both_ways_to_generate_a_trace_are_timed() {
    if Interpreter::find(None).is_err() {
        eprintln!("skipped: no Python interpreter");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let source = "total = 0\nfor i in range(6):\n    total += i\n";
    std::fs::write(folder.path().join("sum.py"), source).expect("it is written");
    let arguments = [
        "bench",
        "trace",
        "sum.py",
        "--runs",
        "1",
        "--max-tokens",
        "300",
        "--json",
    ];
    let output = cwm(folder.path(), &arguments);
    let run = Run { output }.succeeds();
    let value: serde_json::Value = serde_json::from_str(&run.stdout()).expect("JSON");
    let all = &value["programs"][1];
    assert_eq!(all["program"], "all");
    assert_eq!(all["tokens"], 300);
    assert_eq!(all["plain_passes"], 300);
    assert_eq!(all["identical"], true);
    // Bytes of names, lines and punctuation are mostly forced.
    assert!(all["passes"].as_u64() < Some(200), "{all}");

    let arguments = ["bench", "trace", "sum.py", "--runs", "0"];
    let output = cwm(folder.path(), &arguments);
    Run { output }.fails_with(&["--runs must be at least 1"]);
}
