//! Planted copies are found, whatever was done to hide them; other programs are not taken for copies.

use cwm_data::{Benchmarks, Level, Normaliser, Overlap, generate, normalise_program};
use cwm_trace::Entry;
use cwm_tracer::Interpreter;

const ITEM: &str = r#"{"id": "s1", "input": "['a', 'bb'], k=2", "code": "def f(words, k):\n    kept = []\n    for word in words:\n        if len(word) >= k:\n            kept.append(word.upper())\n    return sorted(kept, key=len, reverse=True)"}"#;

fn normaliser() -> Option<Normaliser> {
    let Ok(interpreter) = Interpreter::find(None) else {
        eprintln!("skipped: there is no Python 3.8 or later on the PATH");
        return None;
    };
    Some(Normaliser::start(&interpreter).expect("it starts"))
}

fn judged(source: &str, args: Option<&str>) -> Option<Option<Overlap>> {
    let mut normaliser = normaliser()?;
    let mut benchmarks = Benchmarks::default();
    let summary = benchmarks
        .add("bench", ITEM.as_bytes(), &mut normaliser)
        .expect("an item");
    assert_eq!((summary.items, summary.functions), (1, 1));
    let entry = match args {
        None => Entry::Module,
        Some(args) => Entry::Call {
            function: "f".into(),
            args: args.into(),
        },
    };
    let program = normalise_program(source, &entry, &mut normaliser).expect("an answer");
    Some(benchmarks.judge(source, program.as_ref()).map(|o| o.0))
}

const COPIES: [&str; 5] = [
    // Other names.
    "def pick(xs, size):\n    out = []\n    for x in xs:\n        if len(x) >= size:\n            out.append(x.upper())\n    return sorted(out, key=len, reverse=True)\n",
    // Another layout, a docstring, annotations and comments.
    "def f(a: list, b: int = None) -> list: pass\ndef g(a: list, b: int) -> list:\n  \"Doc.\"\n  c: list = []  # none yet\n  for d in (\n      a\n  ):\n    if len(d) >= b: c.append( d . upper() )\n  return (sorted(c, key=len,\n      reverse=True))\n",
    // Keyword arguments in another order.
    "def f(words, k):\n    kept = []\n    for word in words:\n        if len(word) >= k:\n            kept.append(word.upper())\n    return sorted(kept, reverse=True, key=len)\n",
    // Inside a class and among other code.
    "import math\nclass A:\n    @staticmethod\n    def other():\n        return 1\n    class B:\n        pass\ndef outer(n):\n    def f(ws, n):\n        r = []\n        for w in ws:\n            if len(w) >= n:\n                r.append(w.upper())\n        return sorted(r, key=len, reverse=True)\n    return f\nprint(outer(2))\n",
    // With carriage returns and tabs.
    "def f(w, k):\r\n\tq = []\r\n\tfor z in w:\r\n\t\tif len(z) >= k:\r\n\t\t\tq.append(z.upper())\r\n\treturn sorted(q, key=len, reverse=True)\r\n",
];

#[test]
fn planted_copies_are_found() {
    for copy in COPIES {
        let Some(found) = judged(copy, None) else {
            return;
        };
        assert_eq!(found, Some(Overlap::Function), "{copy}");
    }
    // The same arguments, written in another way, make it worse.
    let found = judged(COPIES[0], Some("['a','bb'],k = 2"));
    assert_eq!(found, Some(Some(Overlap::FunctionAndInput)));
    let found = judged(COPIES[0], Some("['a'], k=2"));
    assert_eq!(found, Some(Some(Overlap::Function)));
}

#[test]
fn text_in_a_row_is_found_where_the_code_is_changed() {
    let changed = "def f(words, k):\n    kept = []\n    for word in words:\n        if len(word) >= k:\n            kept.append(word.upper())\n    return kept\n";
    let Some(found) = judged(changed, None) else {
        return;
    };
    assert_eq!(found, Some(Overlap::Words));
    // What is no Python is compared as text.
    let broken = format!("{changed}  oops oops");
    assert_eq!(judged(&broken, None), Some(Some(Overlap::Words)));
}

#[test]
fn another_program_is_no_copy() {
    for other in [
        "def f(xs, k):\n    out = []\n    for x in xs:\n        if len(x) > k:\n            out.append(x.upper())\n    return sorted(out, key=len, reverse=True)\n",
        "def f(xs, k):\n    out = []\n    for x in xs:\n        if len(k) >= x:\n            out.append(x.upper())\n    return sorted(out, key=len, reverse=True)\n",
        "x = 1\n",
        "",
    ] {
        let Some(found) = judged(other, Some("1")) else {
            return;
        };
        assert_eq!(found, None, "{other}");
    }
}

#[test]
fn a_generated_program_is_found_in_itself_and_names_do_not_matter() {
    let Some(mut normaliser) = normaliser() else {
        return;
    };
    let mut digests = std::collections::HashMap::new();
    let mut functions = 0;
    for index in 0..200 {
        let program = generate(77, index, Level::Three);
        let normalised = normaliser
            .normalise(&program.source, None)
            .expect("an answer")
            .expect("generated programs are Python");
        functions += normalised.functions.len();
        digests.insert(normalised.module, index);
    }
    assert!(functions > 150, "{functions}");
    assert!(digests.len() > 190, "{} distinct of 200", digests.len());
}

#[test]
fn a_broken_benchmark_is_refused_with_its_line() {
    let Some(mut normaliser) = normaliser() else {
        return;
    };
    let text = format!("{ITEM}\n\n[1]\n");
    let error = Benchmarks::default()
        .add("bench", text.as_bytes(), &mut normaliser)
        .expect_err("a list is no item");
    assert!(error.to_string().starts_with("line 3"), "{error}");
}
