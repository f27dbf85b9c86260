//! Programs that defend themselves or destroy what they stand on: a typed outcome for each, on every
//! interpreter, and the frames that there are.

mod common;

use std::time::Duration;

use common::{interpreters, limits, module, text, verify};
use cwm_trace::{End, Trace};
use cwm_tracer::{Batch, BatchOptions, Limits, Program, Worker, trace};

/// A program, what becomes of it, and what its trace shows in the end.
const PROGRAMS: [(&str, &str, &str); 16] = [
    (
        "import os\nx = 1\nos._exit(5)\n",
        "left",
        "line <module>#0:3 x=1\n",
    ),
    (
        "import os\nx = 1\npid = os.fork()\nif pid == 0:\n    y = 2\n    os._exit(0)\nos.waitpid(pid, 0)\nz = 3\ndel pid\n",
        "finished",
        "return <module>#0:9 x=1 z=3 -> None\n",
    ),
    (
        "import os\nif os.fork() == 0:\n    x = 1\n    raise SystemExit(3)\ny = 2\n",
        "finished",
        "return <module>#0:5 y=2 -> None\n",
    ),
    (
        "import threading\ndef f():\n    x = 1\nt = threading.Thread(target=f)\nt.start()\nt.join()\ndel t\ny = 2\n",
        "finished",
        "return <module>#0:8 y=2 -> None\n",
    ),
    (
        "import threading, time\nt = threading.Thread(target=time.sleep, args=(50,), daemon=True)\nt.start()\ndel t\n",
        "finished",
        "return <module>#0:4 -> None\n",
    ),
    (
        "x = 1\nwhile True:\n    print('x' * 100000)\n",
        "stopped: output",
        "unwind <module>#0:3 x=1\n",
    ),
    (
        "import os, sys\nos.remove(os.path.abspath(__file__)) if os.path.exists(__file__) else None\nx = 1\n",
        "finished",
        "return <module>#0:3 x=1 -> None\n",
    ),
    (
        "import sys\nsys.settrace = lambda f: None\nx = 1\nsys.settrace(print)\ny = 2\n",
        "finished",
        "y=2 -> None\n",
    ),
    (
        "import sys\nx = 1\nif hasattr(sys, 'monitoring'):\n    sys.monitoring.set_local_events(4, sys._getframe().f_code, 0)\nelse:\n    sys.settrace(None)\ny = 2\n",
        "failed",
        "x=1\n",
    ),
    (
        "class D:\n    def __del__(self):\n        raise ValueError('in del')\nd = D()\ndel d\nx = 1\n",
        "finished",
        "return <module>#0:6 x=1 -> None\n",
    ),
    (
        "class E:\n    def __eq__(self, other):\n        raise ValueError('eq')\n    def __hash__(self):\n        raise ValueError('hash')\ne = E()\nes = [e, e]\nx = 1\n",
        "finished",
        "x=1 -> None\n",
    ),
    (
        "class R:\n    def __repr__(self):\n        import os\n        os._exit(6)\nx = 1\nr = R()\ny = 2\n",
        "left",
        "line <module>#0:6 x=1\n",
    ),
    (
        "def f(n):\n    return f(n + 1)\nf(0)\n",
        "raised",
        "unwind <module>#0:3\n",
    ),
    ("x = 1\ny = ' ' * 10**11\n", "stopped: memory", ""),
    ("x = 1\nwhile True:\n    pass\n", "stopped: events", ""),
    (
        "import os, signal\nx = 1\nos.kill(os.getpid(), signal.SIGBUS)\n",
        "crashed",
        "line <module>#0:3 x=1\n",
    ),
];

fn tight() -> Limits {
    Limits {
        timeout: Duration::from_secs(300),
        file_bytes: 4 << 20,
        ..limits()
    }
}

#[test]
fn each_has_its_outcome_and_keeps_its_frames() {
    for py in interpreters() {
        let options = BatchOptions {
            limits: tight(),
            ..BatchOptions::default()
        };
        let mut batch = Batch::start(py, options).expect("it starts");
        for (source, outcome, shown) in PROGRAMS {
            let program = Program {
                file: "program.py",
                source,
                stdin: b"",
                arguments: &[],
            };
            let run = batch.script(&program).expect("a run");
            let what = format!("{:?} {source}", py.version);
            assert_eq!(
                run.outcome.kind(),
                outcome,
                "{what}: {}",
                run.outcome.detail()
            );
            let trace = run.trace.expect("a trace");
            verify(&trace);
            assert!(!trace.events.is_empty(), "{what}");
            assert!(text(&trace).ends_with(shown), "{what}{}", text(&trace));
        }
    }
}

/// The same by the plain way, which catches output as it comes.
#[test]
fn gigabytes_of_output_end_a_plain_run_too() {
    for py in interpreters() {
        let mut worker = Worker::start(py, &tight()).expect("it starts");
        let source = "x = 1\nwhile True:\n    print('x' * 100000)\n";
        let trace: Trace = worker.trace(&module(source)).expect("a trace");
        verify(&trace);
        let said = match &trace.end {
            End::Crashed(why) => why.as_str(),
            // A slow machine runs out of events first.
            End::MaxEvents(_) => "printed more",
            end => panic!("{end:?}"),
        };
        assert!(said.contains("printed more"), "{said}");
        assert!(!trace.events.is_empty() && trace.stdout.len() <= limits().max_output_bytes);
        let good = worker.trace(&module("x = 1\n")).expect("a trace");
        assert_eq!(good.end, End::Finished);
    }
}

#[test]
fn a_file_that_is_gone_was_read_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("gone.py");
    let source = "import os\nos.remove(__file__)\nx = 1\n";
    std::fs::write(&path, source).expect("a file");
    let file = path.display().to_string();
    for py in interpreters().iter().take(1) {
        let request = cwm_tracer::Request {
            file: &file,
            ..module(source)
        };
        let trace = trace(py, &request, &limits()).expect("a trace");
        assert_eq!(trace.end, End::Finished, "{}", trace.stderr);
        assert!(!path.exists());
        assert!(text(&trace).ends_with("x=1 -> None\n"));
    }
}

#[test]
fn what_runs_for_ever_is_stopped() {
    for py in interpreters() {
        let limits = Limits {
            timeout: Duration::from_secs(2),
            ..tight()
        };
        let mut worker = Worker::start(py, &limits).expect("it starts");
        let request = module("x = 1\nsum(iter(int, 1))\n");
        let trace = worker.trace(&request).expect("a trace");
        assert_eq!(trace.end, End::Timeout(2.0));
        assert!(
            text(&trace).ends_with("line <module>#0:2 x=1\n"),
            "{}",
            text(&trace)
        );
    }
}
