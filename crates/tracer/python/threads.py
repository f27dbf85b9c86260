"""Records threads that the program starts.  Part 7 of 11 of the collector.

Every thread has a log of its own, in windows of the same file.  It is begun at the thread's first event in
code that is recorded, and ended when the interpreter clears the thread's state.  Up to 3.11 each new thread
must be given its trace function: `threading` does so itself, and `_thread` is made to.
"""

import sys
from _thread import _local, get_ident


class Threads:
    """Has all threads recorded, each by a recorder of its own."""

    def __init__(self, recorder, mode, events):
        self.recorder = recorder
        self.mode = mode
        self.events = events
        self.count = 0
        # Unlike the identifier of a thread, what is kept here is never taken for another's.
        self.local = _local()

    def watch(self):
        """Records every thread from the start of events on."""
        # First of all, since it takes the thread that imports it for the main one.
        import threading

        start_main = self.events.start

        def start():
            trace, set_trace = self.record_all()
            if not hasattr(sys, "monitoring"):
                threading.settrace(trace)
                hand_on(set_trace)
            start_main()

        self.events.start = start
        if hasattr(sys, "monitoring"):
            # Other threads go on when the main one is over.
            self.recorder.stop = self.events.stop = lambda: None

    def record_all(self):
        """Has further threads begun; gives their trace function and what sets it, if they need one."""
        self.local.recorder = self.recorder
        self.events.here = self.here
        return getattr(self.events, "trace", None), getattr(self.events, "set_trace", None)

    def here(self):
        """The recorder of this thread."""
        if self.recorder.disowned:
            return None
        try:
            return self.local.recorder
        except AttributeError:
            return self.begin()

    def begin(self):
        """A recorder for one more thread, in that thread."""
        try:
            recorder = ThreadRecorder(self.recorder, *self.begin_log())
            self.local.recorder = recorder
            self.local.ending = Ending(recorder)
            return recorder
        except BaseException as error:
            self.recorder.failed(error)

    def begin_log(self):
        """The log of this thread, and what shows its values."""
        main = self.recorder
        windows, render = main.log.windows, main.render
        with windows.lock:
            self.count += 1
            number = self.count
        log = Log(main.log.fd, windows, number)
        log.begin(self.mode)
        log.write(SMALL[THREAD] + text_bytes(thread_name()))
        is_safe = render.stranger is not render.foreign
        return log, Renderer(render.max_chars, is_safe, False)

    @staticmethod
    def join():
        """Waits for the threads that the interpreter itself would wait for."""
        try:
            sys.modules["threading"]._shutdown()
        except BaseException:
            # Of no more use to anyone.
            pass


class NativeThreads(Threads):
    """The same where the native extension has a recorder for each."""

    def record_all(self):
        native = self.recorder.native
        native.record_all(self.settings)
        return native.trace, native.set_trace

    def settings(self):
        """What it needs to know for one more thread, in that thread."""
        try:
            return self.recorder.settings(*self.begin_log())
        except BaseException as error:
            self.recorder.failed(error)


class Ending:
    """Ends the log of a thread when the interpreter clears what the thread keeps."""

    __slots__ = ("recorder",)

    def __init__(self, recorder):
        self.recorder = recorder

    def __del__(self):
        if not self.recorder.over:
            self.recorder.close(FINISHED)


def thread_name():
    """The name of this thread; empty if `threading` does not know it."""
    threading = sys.modules.get("threading")
    thread = threading and threading._active.get(get_ident())
    name = getattr(thread, "_name", "")
    return name if type(name) is str else ""


class HandsOn:
    """A function that a thread begins with, called with the trace function set."""

    __slots__ = ("set_trace", "function")

    def __init__(self, set_trace, function):
        self.set_trace = set_trace
        self.function = function

    def __call__(self, *args, **named):
        self.set_trace()
        return self.function(*args, **named)

    def __repr__(self):
        # Seen where the interpreter tells of an exception that left the thread.
        return repr(self.function)


def hand_on(set_trace):
    """Lets threads that `_thread` starts have the trace function."""
    import _thread

    real = _thread.start_new_thread

    def start_new_thread(function, *rest):
        return real(HandsOn(set_trace, function) if callable(function) else function, *rest)

    _thread.start_new_thread = _thread.start_new = start_new_thread
