"""One tool on one workload in one process: prints events, and CPU seconds untraced and traced, as JSON.

    python one.py TOOL WORKLOAD TIMES [NATIVE_LIBRARY]

Tools: `cwm` (the collector of this crate; without a library, its Python form), `coverage` (C tracer),
`hunter` (an action that takes the repr of every local), `viztracer` (arguments and return values),
`none`.  All but `cwm` and `none` must be installed in the interpreter that runs this.
"""

import json
import os
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BASE_RUNS = 5


def load(name):
    path = os.path.join(HERE, "programs", name + ".py")
    with open(path) as file:
        code = compile(file.read(), path, "exec")
    space = {"__name__": "__main__"}
    return path, code, space


def collector():
    """The collector's own script, as the crate joins it, without its last step."""
    parts = []
    for name in ("values.py", "safe.py", "recorder.py", "events.py", "layout.py", "collector.py"):
        with open(os.path.join(HERE, "..", "python", name)) as file:
            parts.append(file.read())
    space = {"__name__": "collector", "__builtins__": __builtins__}
    exec("".join(parts).replace("\nserve(sys.argv[1:])", ""), space)
    return space


def cwm(path, code, space, times, library):
    own = collector()
    own["LOG_CAP"] = 1 << 40
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as file:
        log = own["Log"](os.open(file.name, os.O_RDWR))
        native = own["load_native"](library)
        mode = "python"
        log.begin(0)
        if native is None:
            recorder = own["Recorder"](log, 1 << 40, own["Renderer"](2000))
        else:
            layout = own["proved_layout"](native)
            mode = "api" if layout is None else "direct"
            recorder = own["NativeRecorder"](log, 1 << 40, own["Renderer"](2000), native, layout)
        if hasattr(sys, "monitoring"):
            events = own["MonitoringEvents"](recorder)
        else:
            events = own["SettraceEvents" if native is None else "NativeSettraceEvents"](recorder)
        recorder.add_codes(code)
        run = space["run"]
        began = time.process_time()
        events.start()
        run(times)
        took = time.process_time() - began
        events.stop()
        with open(file.name, "rb") as written:
            size = int.from_bytes(written.read(8), "little")
        keep = os.environ.get("CWM_KEEP_LOG")
        if keep:
            import shutil

            shutil.copy(file.name, keep)
    return took, {"mode": mode, "events": recorder.recorded(), "bytes": size}


def coverage(path, code, space, times, _library):
    os.environ["COVERAGE_CORE"] = "ctrace"
    import coverage

    measure = coverage.Coverage(data_file=None, include=[path])
    began = time.process_time()
    measure.start()
    space["run"](times)
    measure.stop()
    return time.process_time() - began, {}


def hunter(path, code, space, times, _library):
    import hunter

    class Reprs(hunter.actions.Action):
        def __call__(self, event):
            {name: repr(value) for name, value in event.locals.items()}

    began = time.process_time()
    with hunter.trace(filename=path, action=Reprs()):
        space["run"](times)
    return time.process_time() - began, {}


def viztracer(path, code, space, times, _library):
    from viztracer import VizTracer

    tracer = VizTracer(
        log_func_args=True,
        log_func_retval=True,
        tracer_entries=10_000_000,
        include_files=[path],
        verbose=0,
    )
    began = time.process_time()
    tracer.start()
    space["run"](times)
    tracer.stop()
    return time.process_time() - began, {}


def none(path, code, space, times, _library):
    began = time.process_time()
    space["run"](times)
    return time.process_time() - began, {}


def main(tool, workload, times, library=""):
    path, code, space = load(workload)
    exec(code, space)
    base = []
    for _ in range(BASE_RUNS):
        began = time.process_time()
        space["run"](int(times))
        base.append(time.process_time() - began)
    tools = {f.__name__: f for f in (cwm, coverage, hunter, viztracer, none)}
    took, more = tools[tool](path, code, space, int(times), library)
    result = {"tool": tool, "workload": workload, "base": min(base), "traced": took}
    result.update(more)
    print(json.dumps(result))


main(*sys.argv[1:])
