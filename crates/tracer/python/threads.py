"""Records threads that the program starts.  Part 6 of 10 of the collector.

Every thread has a log of its own, in windows of the same file.  It is begun at the thread's first event,
by the native extension; without that only the main thread is recorded.  Up to 3.11 each new thread must be
given its trace function: `threading` does so itself, and `_thread` is made to.
"""

import itertools
import sys
from _thread import get_ident


class Threads:
    """Has all threads recorded, and begins their logs."""

    def __init__(self, recorder, mode):
        self.recorder = recorder
        self.mode = mode
        # One step even where another thread comes between.
        self.numbers = itertools.count(1)

    def watch(self, events):
        """Records every thread from the start of events on."""
        # First of all, since it takes the thread that imports it for the main one.
        import threading

        native, start_main = self.recorder.native, events.start

        def start():
            native.record_all(self.begin)
            if not hasattr(sys, "monitoring"):
                threading.settrace(native.trace)
                hand_on(native.set_trace)
            start_main()

        events.start = start
        if hasattr(sys, "monitoring"):
            # Other threads go on when the main one is over.
            self.recorder.stop = events.stop = lambda: None

    def begin(self):
        """What the native extension needs to know for one more thread, in that thread."""
        recorder = self.recorder
        try:
            log = Log(recorder.log.fd, recorder.log.windows, next(self.numbers))
            log.begin(self.mode)
            log.write(SMALL[THREAD] + text_bytes(thread_name()))
            is_safe = recorder.render.stranger is not recorder.render.foreign
            return recorder.settings(log, Renderer(recorder.render.max_chars, is_safe, False))
        except BaseException as error:
            recorder.failed(error)

    @staticmethod
    def join():
        """Waits for the threads that the interpreter itself would wait for."""
        try:
            sys.modules["threading"]._shutdown()
        except BaseException:
            # Of no more use to anyone.
            pass


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
