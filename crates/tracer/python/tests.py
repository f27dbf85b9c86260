"""Runs pytest and records its tests: in the place of parts 7 to 11 of the collector.

Each test is a run in the log, labelled with its id; what runs is recorded while pytest runs the test
itself, not its fixtures.  Its result is how pytest counts it.  The first run is `pytest`, whose result is
the version, or `missing` and why; the last is `exit`, whose result is the exit status.
"""

import os
import sys
from importlib import import_module

# A suite is much longer than a program.
LOG_CAP = 1 << 44


def test_recorder(base):
    """A recorder that gives up on a test where others would end the process."""

    class TestRecorder(base):
        def end(self, kind, payload=b""):
            self.close(kind, payload)
            self.silence()

    return TestRecorder


class Tests:
    """A pytest plugin."""

    def __init__(self, recorder, events, files):
        self.recorder = recorder
        self.events = events
        self.files = files
        self.owner = os.getpid()
        self.config = None
        self.counted = []
        if hasattr(events, "watch"):
            # Switching these events on and off is dear; between tests they are ignored.
            recorder.stop = lambda: None

    def note(self, label, result):
        """A run in which nothing happens."""
        self.recorder.begin_run(label, (0, 0))
        self.recorder.write(SMALL[RESULT] + text_bytes(result))

    def begin(self):
        self.recorder.renew(False)
        self.files.open()
        self.events.start()

    def finish(self, error):
        self.recorder.silence()
        self.files.close()
        if error is None:
            self.recorder.close(FINISHED)
        else:
            self.recorder.close(RAISED, text_bytes(self.recorder.render.value(error)[0]))

    def pytest_configure(self, config):
        self.config = config

    def pytest_runtest_logstart(self, nodeid, location):
        self.counted = []
        self.recorder.begin_run(nodeid, (0, 0))

    def pytest_runtest_logreport(self, report):
        status = self.config.hook.pytest_report_teststatus(report=report, config=self.config)
        if status and status[0] and status[0] not in self.counted:
            self.counted.append(status[0])

    def pytest_runtest_logfinish(self, nodeid, location):
        self.recorder.write(SMALL[RESULT] + text_bytes(" ".join(self.counted)))

    def pytest_runtest_call(self, item):
        self.begin()
        outcome = yield
        error = outcome.excinfo
        self.finish(None if error is None else error[1])


def run_tests(argv):
    log_path, native_path, mode, values, max_events, max_chars, count, *rest = argv
    roots, arguments = rest[: int(count)], rest[int(count) :]
    # As for `python -m pytest`.
    sys.path[0] = os.getcwd()
    sys.argv = ["pytest"] + arguments
    log = Log(os.open(log_path, os.O_RDWR | os.O_CLOEXEC))
    native = load_native(native_path)
    layout = proved_layout(native) if native is not None and mode == "direct" else None
    log.begin(BY_PYTHON if native is None else BY_API if layout is None else DIRECT)
    render = Renderer(int(max_chars), values == "safe")
    if native is None:
        recorder = test_recorder(Recorder)(log, int(max_events), render)
    else:
        recorder = test_recorder(NativeRecorder)(log, int(max_events), render, native, layout)
    # The interpreter's own limit holds for tests.
    recorder.set_depth_limit(2**31 - 1)
    if hasattr(sys, "monitoring"):
        events = MonitoringEvents(recorder)
    else:
        events = (SettraceEvents if native is None else NativeSettraceEvents)(recorder)
    tests = Tests(recorder, events, Files(recorder, roots))
    recorder.silence()
    try:
        pytest = import_module("pytest")
    except ImportError as error:
        tests.note("pytest", "missing %s" % error)
        return 1
    tests.note("pytest", pytest.__version__)
    # Innermost, so that nothing of pytest's own wrappers comes between.
    mark = pytest.hookimpl(hookwrapper=True, trylast=True)
    Tests.pytest_runtest_call = mark(Tests.pytest_runtest_call)
    os.register_at_fork(after_in_child=recorder.disown)
    tests.files.watch()
    status = int(pytest.main(arguments, plugins=[tests]))
    if os.getpid() == tests.owner:
        tests.note("exit", str(status))
    return status


sys.exit(run_tests(sys.argv[1:]))
