"""Has the events of the program come and hands them to recorders.  Part 4 of 11 of the collector.

Up to 3.11 by a trace function, which each thread must be given, later by `sys.monitoring`, whose callbacks
come in every thread.  Where there is a native extension its functions take the place of those here.
"""

import opcode
import sys
from _thread import get_ident


class Events:
    """What the events of a thread are recorded with."""

    def __init__(self, recorder):
        self.recorder = recorder
        self.thread = get_ident()

    def here(self):
        """The recorder of this thread, if it is recorded: that is the main thread, unless `Threads` says more."""
        return self.recorder if get_ident() == self.thread else None

    def known(self, code):
        """That recorder and what it knows of a code object, or twice None if there is nothing to record."""
        info = self.recorder.codes.get(id(code))
        if info is None:
            return None, None
        recorder = self.here()
        if recorder is None or recorder.over:
            return None, None
        return recorder, info if recorder is self.recorder else recorder.own(info)


class SettraceEvents(Events):
    """Events by `sys.settrace`."""

    def __init__(self, recorder):
        super().__init__(recorder)
        self.is_return = {opcode.opmap["RETURN_VALUE"]}
        self.yield_value = opcode.opmap["YIELD_VALUE"]
        self.yield_from = opcode.opmap.get("YIELD_FROM", -1)
        self.resume = opcode.opmap.get("RESUME", -1)
        recorder.stop = self.stop

    def start(self):
        self.set_trace()

    def set_trace(self):
        """Has the events of this thread come."""
        sys.settrace(self.trace)

    @staticmethod
    def stop():
        sys.settrace(None)

    def trace(self, frame, event, arg):
        try:
            return self.record(frame, event, arg)
        finally:
            # The interpreter writes captured variables back as they were when they were last asked for.
            # What other threads, or a `repr`, did to them meanwhile must not be undone by that.
            frame.f_locals

    def record(self, frame, event, arg):
        recorder, info = self.known(frame.f_code)
        if info is None:
            return None
        if event == "line":
            guarded(recorder, recorder.line, frame, info, frame.f_lineno)
        elif event == "call":
            if recorder.depth >= recorder.depth_limit:
                # An error in a trace function ends tracing: the next profile event restores it.
                recorder.too_deep = RecursionError("maximum recursion depth exceeded")
                sys.setprofile(self.restore)
                raise recorder.too_deep
            guarded(recorder, recorder.enter, frame, info, self.is_resumed(frame, info))
        elif event == "return":
            kind = self.leave_kind(recorder, frame, info, arg)
            guarded(recorder, recorder.leave, frame, info, kind, arg)
        elif event == "exception":
            guarded(recorder, recorder.exception, frame, info, arg[1])
        return self.trace

    def restore(self, frame, event, arg):
        """Goes on tracing after a recursion error; what the caller of the call saw is made up for."""
        sys.setprofile(None)
        self.set_trace()
        recorder, info = self.known(frame.f_code)
        if info is not None:
            guarded(recorder, recorder.exception, frame, info, recorder.too_deep)
            if event == "return":
                kind = self.leave_kind(recorder, frame, info, arg)
                guarded(recorder, recorder.leave, frame, info, kind, arg)

    def is_resumed(self, frame, info):
        """Whether a call event continues a generator: told by where its frame stands."""
        at = frame.f_lasti
        if self.resume < 0:
            return at >= 0
        if at < 0:
            return False
        op = info.ops[at]
        return op == self.resume and info.ops[at + 1] & 3 != 0 or op == self.yield_value

    def leave_kind(self, recorder, frame, info, value):
        """A return event is a return, a yield or an unwinding: told by the instruction it stands on."""
        at = frame.f_lasti
        ops = info.ops
        op = ops[at] if 0 <= at < len(ops) else -1
        if op in self.is_return:
            return RETURN
        # `yield from` stands before its instruction while suspended, up to 3.10.
        if op == self.yield_value or at + 2 < len(ops) and ops[at + 2] == self.yield_from:
            act = recorder.activations.get(id(frame))
            # An exception thrown in at the `yield` and not caught leaves from the same place.
            thrown = value is None and act is not None and act.raised_at == at
            return UNWIND if thrown else YIELD
        return UNWIND if value is None else RETURN


class NativeSettraceEvents(SettraceEvents):
    """Events by the trace function of the native extension."""

    def __init__(self, recorder):
        super().__init__(recorder)
        self.is_patched = False

    def start(self):
        native = self.recorder.native
        if not self.is_patched:
            self.is_patched = True
            self.patch(native)
        native.set_trace()

    def patch(self, native):
        real = sys.settrace

        def settrace(function):
            # A program that puts our function back gets it as it was: set by `sys.settrace` it would
            # miss the lines of frames that run already.
            if function is native.trace:
                native.set_trace()
            else:
                real(function)

        sys.settrace = settrace


class MonitoringEvents(Events):
    """Events by `sys.monitoring`, the same sequence as `sys.settrace` would give."""

    TOOL = 4

    def __init__(self, recorder):
        super().__init__(recorder)
        self.is_started = False
        recorder.stop = self.stop
        recorder.on_code = self.watch

    def start(self):
        if self.is_started:
            return
        monitoring = sys.monitoring
        events = monitoring.events
        monitoring.use_tool_id(self.TOOL, "cwm")
        on = monitoring.register_callback
        # The native extension has functions of the same names.
        target = getattr(self.recorder, "native", self)
        on(self.TOOL, events.PY_START, target.py_start)
        on(self.TOOL, events.PY_RESUME, target.py_resume)
        on(self.TOOL, events.PY_THROW, target.py_throw)
        on(self.TOOL, events.LINE, target.py_line)
        on(self.TOOL, events.JUMP, target.py_jump)
        on(self.TOOL, events.PY_RETURN, target.py_return)
        on(self.TOOL, events.PY_YIELD, target.py_yield)
        on(self.TOOL, events.PY_UNWIND, target.py_unwind)
        on(self.TOOL, events.RAISE, target.py_raise)
        on(self.TOOL, events.STOP_ITERATION, target.py_raise)
        local = events.PY_START | events.PY_RESUME | events.LINE | events.JUMP
        local |= events.PY_RETURN | events.PY_YIELD | events.STOP_ITERATION
        self.local = local
        self.is_started = True
        for info in self.recorder.codes.values():
            self.watch(info)
        monitoring.set_events(self.TOOL, events.PY_THROW | events.PY_UNWIND | events.RAISE)
        monitoring.restart_events()

    def watch(self, info):
        """Has the events of a code object come."""
        if self.is_started:
            sys.monitoring.set_local_events(self.TOOL, info.code, self.local)

    def stop(self):
        monitoring = sys.monitoring
        self.is_started = False
        monitoring.set_events(self.TOOL, 0)
        for info in self.recorder.codes.values():
            monitoring.set_local_events(self.TOOL, info.code, 0)

    def py_start(self, code, _offset):
        recorder, info = self.known(code)
        if info is not None:
            if recorder.depth >= recorder.depth_limit:
                raise RecursionError("maximum recursion depth exceeded")
            guarded(recorder, recorder.enter, sys._getframe(1), info, False)

    def py_resume(self, code, _offset):
        recorder, info = self.known(code)
        if info is not None:
            guarded(recorder, recorder.enter, sys._getframe(1), info, True)

    def py_throw(self, code, _offset, _error):
        recorder, info = self.known(code)
        if info is not None:
            guarded(recorder, recorder.enter, sys._getframe(1), info, True)

    def py_line(self, code, line):
        recorder, info = self.known(code)
        if info is not None:
            guarded(recorder, recorder.line, sys._getframe(1), info, line)

    def py_jump(self, code, offset, target):
        # A loop written on one line has a line event for each round.
        recorder, info = self.known(code)
        if info is None:
            # Perhaps it is of other threads.
            return None
        if target <= offset:
            line = info.line_at(target)
            if line is not None and line == info.line_at(offset):
                guarded(recorder, recorder.line, sys._getframe(1), info, line)
                return None
        return sys.monitoring.DISABLE

    def py_return(self, code, _offset, value):
        recorder, info = self.known(code)
        if info is not None:
            guarded(recorder, recorder.leave, sys._getframe(1), info, RETURN, value)

    def py_yield(self, code, _offset, value):
        recorder, info = self.known(code)
        if info is not None:
            guarded(recorder, recorder.leave, sys._getframe(1), info, YIELD, value)

    def py_unwind(self, code, _offset, _error):
        recorder, info = self.known(code)
        if info is not None:
            guarded(recorder, recorder.leave, sys._getframe(1), info, UNWIND, None)

    def py_raise(self, code, _offset, error):
        recorder, info = self.known(code)
        if info is not None:
            guarded(recorder, recorder.exception, sys._getframe(1), info, error)
