//! Modules run as `python -m` runs them, and what programs find in `sys.argv`.

mod common;

use std::fs;
use std::path::Path;

use common::{any, interpreters, limits, module, on_each, verify};
use cwm_trace::{End, Trace};
use cwm_tracer::{Error, ModuleRequest, Request, trace_module, trace_module_threads};

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, text).expect("a file");
    }
    folder
}

fn request<'a>(module: &'a str, folder: &'a Path, arguments: &'a [String]) -> ModuleRequest<'a> {
    ModuleRequest {
        module,
        folder,
        stdin: b"",
        arguments,
    }
}

/// For each event of a function its file's last part, name, line and the line's text.
fn places(trace: &Trace) -> Vec<String> {
    let lines = trace.lines_of_files();
    let text = |event: &cwm_trace::Event| {
        let function = &trace.functions[event.function as usize];
        let file = match function.file {
            0 => &trace.file,
            n => &trace.other_files[n as usize - 1].path,
        };
        let file = file.rsplit('/').next().unwrap_or_default();
        let line = lines[function.file as usize][event.line.max(1) as usize - 1].trim();
        format!("{file} {} {:?} {line}", function.name, event.kind)
    };
    trace.events.iter().map(text).collect()
}

#[test]
fn the_main_of_a_package_runs_with_all_its_files() {
    let folder = folder(&[
        ("pack/__init__.py", "from .early import twice\n"),
        ("pack/early.py", "def twice(n):\n    return n * 2\n"),
        (
            "pack/sub/late.py",
            "def thrice(n):\n    return [n * 3 for _ in 'a'][0]\n",
        ),
        (
            "pack/__main__.py",
            "import sys\nfrom . import twice\nimport other\n\
             from .sub.late import thrice\nx = twice(2)\ny = thrice(x)\nother.f()\n\
             print(sys.argv[1:], __name__, __package__, __spec__.name)\n",
        ),
        ("other.py", "def f():\n    return 1\n"),
    ]);
    let arguments = ["-v".to_owned(), "two words".to_owned()];
    for py in interpreters() {
        let request = request("pack", folder.path(), &arguments);
        let trace = trace_module(py, &request, &limits()).expect("a trace");
        verify(&trace);
        assert_eq!(trace.end, End::Finished, "{}", trace.stderr);
        assert_eq!(
            trace.stdout,
            "['-v', 'two words'] __main__ pack pack.__main__\n"
        );
        assert!(trace.file.ends_with("pack/__main__.py"), "{}", trace.file);
        let places = places(&trace);
        assert_eq!(places[0], "__main__.py <module> Call import sys");
        for wanted in [
            "early.py twice Line return n * 2",
            "late.py <module> Line def thrice(n):",
            "late.py thrice Line return [n * 3 for _ in 'a'][0]",
        ] {
            assert!(places.iter().any(|place| place == wanted), "{places:#?}");
        }
        assert!(!places.iter().any(|place| place.starts_with("other")));
        // What ran before the main module did is no part of the run.
        assert!(!places.iter().any(|place| place.starts_with("__init__")));
    }
}

#[test]
fn a_module_of_one_file_is_traced_alone() {
    let folder = folder(&[
        (
            "tool.py",
            "import helper\ndef f():\n    return helper.g()\nf()\n",
        ),
        ("helper.py", "def g():\n    return 3\n"),
    ]);
    let request = request("tool", folder.path(), &[]);
    for py in interpreters() {
        let trace = trace_module(py, &request, &limits()).expect("a trace");
        verify(&trace);
        assert!(trace.other_files.is_empty());
        assert_eq!(trace.functions.len(), 2);
    }
}

#[test]
fn modules_of_the_standard_library_can_be_run() {
    let folder = folder(&[]);
    for py in interpreters() {
        let request = ModuleRequest {
            stdin: b"{\"b\": [1, 2]}",
            ..request("json.tool", folder.path(), &[])
        };
        let trace = trace_module(py, &request, &limits()).expect("a trace");
        verify(&trace);
        assert_eq!(
            trace.stdout.split_whitespace().collect::<String>(),
            r#"{"b":[1,2]}"#
        );
        let decoder = |place: &String| place.starts_with("decoder.py raw_decode Line");
        assert!(places(&trace).iter().any(decoder), "{:?}", py.version);
    }
}

#[test]
fn modules_that_cannot_be_run_are_explained() {
    let folder = folder(&[
        ("bare/__init__.py", ""),
        ("broken/__init__.py", "raise ValueError('at import')\n"),
        ("broken/part.py", ""),
        ("wrong.py", "def f(:\n"),
    ]);
    for (module, part) in [
        ("nowhere_at_all", "No module named nowhere_at_all"),
        ("bare.nothing", "No module named bare.nothing"),
        (
            "bare",
            "'bare' is a package and cannot be directly executed",
        ),
        ("broken.part", "at import"),
        ("wrong", "SyntaxError"),
        ("sys", "No code object available for sys"),
        ("", "name"),
        (".x", "name"),
    ] {
        for py in interpreters() {
            let error = trace_module(py, &request(module, folder.path(), &[]), &limits())
                .expect_err(module);
            let said = error.to_string();
            assert!(matches!(error, Error::NoModule { .. }), "{module}: {said}");
            assert!(said.contains(part), "{module} {:?}: {said}", py.version);
        }
    }
}

#[test]
fn a_module_that_raises_is_a_trace() {
    let folder = folder(&[("fails.py", "x = 1\nraise KeyError(x)\n")]);
    let trace = trace_module(any(), &request("fails", folder.path(), &[]), &limits());
    let trace = trace.expect("a trace");
    assert_eq!(trace.end, End::Raised("KeyError(1)".to_owned()));
    assert!(trace.stderr.contains("fails.py"), "{}", trace.stderr);
    assert!(!trace.stderr.contains("<string>"), "{}", trace.stderr);
}

#[test]
fn a_file_finds_its_arguments() {
    let arguments = ["-x".to_owned(), String::new(), "é".to_owned()];
    let request = Request {
        arguments: &arguments,
        ..module("import sys\nprint(sys.argv)\n")
    };
    on_each(&request, |_, trace| {
        assert_eq!(trace.stdout, "['program.py', '-x', '', 'é']\n");
    });
}

#[test]
fn a_module_that_is_not_utf_8_says_so_itself() {
    let folder = folder(&[("wrong.py", "")]);
    let latin = b"# coding: latin-1\nx = '\xe4'\n";
    fs::write(folder.path().join("latin.py"), latin).expect("a file");
    fs::write(folder.path().join("wrong.py"), b"x = '\xe4'\n").expect("a file");
    for py in interpreters() {
        let trace = trace_module(py, &request("latin", folder.path(), &[]), &limits());
        let trace = trace.expect("a trace");
        assert_eq!(trace.source, "# coding: latin-1\nx = 'ä'\n");
        assert_eq!(trace.end, End::Finished);
        let error = trace_module(py, &request("wrong", folder.path(), &[]), &limits());
        let said = error.expect_err("not UTF-8").to_string();
        assert!(said.contains("utf-8") || said.contains("UTF-8"), "{said}");
    }
}

/// Threads run functions of any file of the package.
#[test]
fn threads_of_a_module_are_recorded_with_its_files() {
    let folder = folder(&[
        ("pack/__init__.py", ""),
        (
            "pack/work.py",
            "found = []\ndef work(n):\n    found.append(n * 2)\n",
        ),
        (
            "pack/__main__.py",
            "import threading\nfrom .work import found, work\n\
             def local():\n    work(4)\n\
             for job in (lambda: work(3), local):\n    \
             thread = threading.Thread(target=job)\n    thread.start()\n    thread.join()\n\
             print(found)\n",
        ),
    ]);
    let request = request("pack", folder.path(), &[]);
    for py in interpreters() {
        let traces = trace_module_threads(py, &request, &limits()).expect("traces");
        assert_eq!(traces[0].stdout, "[6, 8]\n", "{:?}", py.version);
        assert_eq!(traces.len(), 3, "{:?}", py.version);
        for trace in &traces {
            verify(trace);
            assert_eq!(trace.end, End::Finished);
            assert!(trace.file.ends_with("__main__.py"), "{}", trace.file);
        }
        assert_eq!(
            places(&traces[2]),
            [
                "__main__.py local Call def local():",
                "__main__.py local Line work(4)",
                "work.py work Call def work(n):",
                "work.py work Line found.append(n * 2)",
                "work.py work Return found.append(n * 2)",
                "__main__.py local Return work(4)",
            ],
            "{:?}",
            py.version
        );
    }
}
