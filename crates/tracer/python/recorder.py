"""Turns frames into records of the event log.  Part 3 of 11 of the collector.

The log is described in `src/log.rs`.  The native collector writes the same records in a denser way: it
refers to texts written before, and leaves out what the reader can tell.
"""

import itertools
import mmap
import opcode
import os
import sys
from _thread import RLock
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType

try:
    import resource
except ImportError:
    resource = None

# Kinds of log records; `src/log.rs` has the same table.
CALL, RESUME, LINE, RETURN, YIELD, UNWIND, EXCEPTION = range(7)
FUNCTION, NAME, END, ERROR, FILE, PLACE, SEGMENT, RESULT, THREAD = range(7, 72 + 7, 8)
# What may be added to the kind of an event.
EXPLICIT, HAS_CHANGES, LINE_FOLLOWS = 8, 16, 7 << 5
# The beginning of a log: a mark with the version of the format, the mode, the interpreter.
MARK = b"CWMLOG\x03"
BY_PYTHON, BY_API, DIRECT = range(3)
# Kinds of END records.
FINISHED, RAISED, EXITED, MAX_EVENTS, OUT_OF_MEMORY, FAILED = range(6)

FIRST_WINDOW = 64 << 10
WINDOW = 1 << 20
# What windows begin with, the first of all aside: the thread's number and the size.
WINDOW_HEAD = 8
LOG_CAP = 256 << 20
# The collector's own calls on top of the program's deepest frame must not hit the recursion limit, so
# the real limit is this much higher than the one the program sees, which the collector enforces.
HEADROOM = 250
HIDDEN_AT_TOP = (ModuleType, FunctionType, BuiltinFunctionType)
SMALL = [bytes((n,)) for n in range(256)]
UNBOUND = object()
LOOSE = object()


def uint(n):
    """LEB128."""
    if n < 128:
        return SMALL[n]
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def text_bytes(text):
    """A length and UTF-8; lone surrogates are spelled out, since no reader could hold them."""
    data = text.encode("utf-8", "backslashreplace")
    return uint(len(data)) + data


def plain_text(text):
    """A text inside a value; the two lowest bits of its length say that it is written out."""
    data = text.encode("utf-8", "backslashreplace")
    return uint(len(data) << 2) + data


def signed(n):
    """LEB128 of a number that may be negative."""
    return uint(n << 1 if n >= 0 else ~n << 1 | 1)


class Windows:
    """Gives out parts of the file that the logs of all threads are in."""

    def __init__(self, fd):
        self.fd = fd
        # Short windows leave a hole behind them.
        self.offsets = itertools.count(FIRST_WINDOW, WINDOW)
        # One thread at a time: each puts the limit on files back as it found it.
        self.lock = RLock()

    def map(self, offset, size):
        self.reserve(offset, size)
        return mmap.mmap(self.fd, size, offset=offset)

    def reserve(self, offset, size):
        # Reserved rather than sparse: a full disk is then an error here and not a bus error later.
        limits = lift_file_limit()
        try:
            os.posix_fallocate(self.fd, offset, size)
        except AttributeError:
            os.ftruncate(self.fd, offset + size)
        finally:
            if limits is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    def next(self, thread, size):
        """A window that begins with the number of a thread and its own size."""
        with self.lock:
            window = self.map(next(self.offsets), size)
        window[0:WINDOW_HEAD] = thread.to_bytes(4, "little") + size.to_bytes(4, "little")
        return window


class Log:
    """An append-only shared mapping; the first number in it says how much of what follows is whole."""

    def __init__(self, fd, windows=None, thread=0):
        self.fd = fd
        self.windows = windows or Windows(fd)
        self.thread = thread
        # Its own thread writes, and one in which the collector fails.
        self.lock = RLock()
        # Where in the first window the number is.
        self.start = WINDOW_HEAD if thread else 0
        if thread:
            self.window = self.windows.next(thread, FIRST_WINDOW)
        else:
            self.window = self.windows.map(0, FIRST_WINDOW)
        self.head = self.window
        self.total = 0
        self.header = b""
        self.at = self.start + 8
        self.room = FIRST_WINDOW - self.at

    def begin(self, mode):
        """Writes the header."""
        self.header = MARK + SMALL[mode] + text_bytes(sys.version)
        self.write(self.header)

    def begin_again(self):
        """Writes it once more, and nothing else has been written, after the file was emptied."""
        self.windows.reserve(0, FIRST_WINDOW)
        self.window[self.start + 8 : self.at] = self.header
        self.head[self.start : self.start + 8] = self.total.to_bytes(8, "little")

    def next_window(self):
        return self.windows.next(self.thread, WINDOW)

    def write(self, record):
        size = len(record)
        with self.lock:
            if size <= self.room:
                self.window[self.at : self.at + size] = record
                self.at += size
                self.room -= size
            else:
                self.write_across(record)
            self.total += size
            self.head[self.start : self.start + 8] = self.total.to_bytes(8, "little")

    def write_across(self, record):
        rest = memoryview(record)
        while rest:
            if self.room == 0:
                self.window = self.next_window()
                self.at, self.room = WINDOW_HEAD, WINDOW - WINDOW_HEAD
            part = rest[: self.room]
            self.window[self.at : self.at + len(part)] = part
            self.at += len(part)
            self.room -= len(part)
            rest = rest[len(part) :]

    def full(self):
        return self.total > LOG_CAP


def lift_file_limit():
    """The log is not the program's: its limit on files is put aside.  Gives what it was."""
    if resource is None:
        return None
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limits[0] == limits[1]:
        return None
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits[1], limits[1]))
    return limits


class Code:
    """What is known of a code object of the traced file."""

    __slots__ = ("code", "file", "number", "names", "is_module", "ops", "lines", "numbers")

    def __init__(self, code, file):
        self.code = code
        self.file = file
        self.number = None
        self.names = None
        if code.co_flags & 1:
            names = code.co_varnames + code.co_cellvars + code.co_freevars
            self.names = tuple(dict.fromkeys(names))
        self.is_module = code.co_name == "<module>"
        self.ops = code.co_code
        self.lines = None
        # Numbers of the variables in the log.  Bodies of modules and classes add theirs as they come.
        self.numbers = {name: at for at, name in enumerate(self.names or ())}

    def definition(self):
        """The FUNCTION record."""
        code = self.code
        names = text_bytes(code.co_name) + text_bytes(getattr(code, "co_qualname", code.co_name))
        variables = [text_bytes(name) for name in self.names or ()]
        place = SMALL[PLACE] + uint(self.file) if self.file else b""
        head = place + SMALL[FUNCTION] + names + uint(code.co_firstlineno)
        return head + uint(len(variables)) + b"".join(variables)

    def line_at(self, offset):
        """The line of an instruction (3.10 and later)."""
        if self.lines is None:
            self.lines = list(self.code.co_lines())
        for start, end, line in self.lines:
            if start <= offset < end:
                return line
        return None


class Activation:
    """One run of a code object."""

    __slots__ = ("number", "info", "space", "last", "raised_at", "line", "written_line")

    def __init__(self, number, info, space):
        self.number = number
        self.info = info
        # The namespace of a module or class body.  Read once: later reads of `f_locals` would show
        # the variables of an inlined comprehension instead (3.13) or write them there (3.12).
        self.space = space
        # Name -> (the object if it is safe to hold, (repr, detail, truncated)).
        self.last = {}
        self.raised_at = None
        self.line = self.written_line = info.code.co_firstlineno


class Recorder:
    """Turns frames into log records."""

    # How many activations each thread may have on the stack: one number for all, as the program sees it.
    depth_limit = 1000

    def __init__(self, log, max_events, render):
        self.log = log
        self.max_events = max_events
        self.render = render
        self.max_run_events = max_events
        self.events = 0
        # Events that runs before this one had.
        self.events_before = 0
        # The activation with which the run ends.
        self.entry = 0
        self.functions = 0
        self.activations = {}
        self.started = 0
        self.codes = {}
        self.pid = os.getpid()
        self.over = False
        self.disowned = False
        self.stop = None
        # Told of every code object that is met.
        self.on_code = None
        # Activations on the stack.
        self.depth = 0
        # The error by which it was kept from growing.
        self.too_deep = None

    def add_codes(self, code, file=0):
        """Makes known the code of a file, and what is defined in it."""
        if id(code) not in self.codes:
            info = self.codes[id(code)] = Code(code, file)
            self.add_code(info)
            if self.on_code is not None:
                self.on_code(info)
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                self.add_codes(constant, file)

    def add_code(self, info):
        """Nothing more to be done here."""

    def recorded(self):
        """How many events this run has."""
        return self.events - self.events_before

    def begin_run(self, label, printed):
        """What follows is of another run."""
        record = SMALL[SEGMENT] + text_bytes(label) + uint(printed[0]) + uint(printed[1])
        self.write(record)

    def renew(self, has_entry):
        """Records again, from the next call on; up to the end of that call if it is an entry."""
        self.activations.clear()
        self.depth = 0
        self.events_before = self.events
        self.max_events = self.events + self.max_run_events
        self.entry = self.started if has_entry else -1
        self.over = False

    def set_depth_limit(self, limit):
        Recorder.depth_limit = limit

    def silence(self):
        """Records nothing more."""
        self.over = True
        self.stop()

    def disown(self):
        """The same in a process that the program has forked: the log is its parent's."""
        self.disowned = True
        self.silence()

    def failed(self, error):
        """The collector itself failed, or ran out of the program's memory."""
        if isinstance(error, MemoryError):
            self.end(OUT_OF_MEMORY)
        self.end(FAILED, text_bytes("the collector failed: %s: %s" % (type(error).__name__, error)))

    def enter(self, frame, info, resumed):
        act = self.activations.get(id(frame)) if resumed else None
        kind = RESUME
        if act is None or act.info is not info:
            kind = CALL
            space = None
            if info.names is None:
                space = frame.f_globals if info.is_module else frame.f_locals
            if info.number is None:
                info.number = self.functions
                self.functions += 1
                self.write(info.definition())
            act = Activation(self.started, info, space)
            self.started += 1
            self.activations[id(frame)] = act
        self.depth += 1
        self.state(kind, frame, act, frame.f_lineno)

    def line(self, frame, info, line):
        act = self.activations.get(id(frame))
        if act is not None and act.info is info:
            self.state(LINE, frame, act, line)

    def exception(self, frame, info, error):
        act = self.activations.get(id(frame))
        if act is not None and act.info is info:
            act.raised_at = frame.f_lasti
            self.plain(EXCEPTION, frame, act, error)

    def leave(self, frame, info, kind, value):
        act = self.activations.get(id(frame))
        if act is None or act.info is not info:
            return
        self.plain(kind, frame, act, value, self.changes(frame, act))
        self.depth -= 1
        if kind != YIELD:
            del self.activations[id(frame)]
            if act.number == self.entry:
                self.silence()

    def state(self, kind, frame, act, line):
        """CALL, RESUME and LINE: what changed in the variables."""
        if not self.count():
            return
        act.raised_at = None
        # Instructions made by the compiler have no line; the first of a module is on line 0.
        line = line or act.line
        act.line = line
        changes = self.changes(frame, act)
        self.write(self.head(kind, act, line, changes) + changes)

    def head(self, kind, act, line, changes):
        """How the record of an event begins."""
        step = line - act.written_line
        act.written_line = line
        first = kind | LINE_FOLLOWS | (HAS_CHANGES if changes else 0)
        if kind == CALL:
            return SMALL[first] + uint(act.info.number) + signed(step)
        return SMALL[first | EXPLICIT] + uint(act.number) + signed(step)

    def changes(self, frame, act):
        """For each variable that changed its number and its new value."""
        changes = []
        last = act.last
        for name, value in self.bound(frame, act):
            old = last.get(name)
            if value is UNBOUND:
                if old is not None:
                    del last[name]
                    changes.append((self.name(act.info, name) << 2, b""))
                continue
            if old is not None and old[0] is value:
                continue
            text = self.render.value(value)
            safe = id(type(value)) in ATOMS and (type(value) is not str or len(value) <= 64)
            last[name] = (value if safe else LOOSE, text)
            if old is None or old[1] != text:
                changes.append((self.name(act.info, name) << 2 | 2, self.value_bytes(text)))
        # The lowest bit of a key says that another follows.
        more = [1] * (len(changes) - 1) + [0]
        return b"".join(uint(key | bit) + value for (key, value), bit in zip(changes, more))

    def bound(self, frame, act):
        """Every variable with its value, and `UNBOUND` for those that are no more."""
        names = act.info.names
        if names is not None:
            space = frame.f_locals
            return [(name, space.get(name, UNBOUND)) for name in names]
        found = []
        now = set()
        for name, value in list(act.space.items()):
            if type(name) is not str or name[:2] == "__" and name[-2:] == "__":
                continue
            if act.info.is_module:
                kind = type(value)
                if issubclass(kind, HIDDEN_AT_TOP) or issubclass(kind, type):
                    # A function under another name than its own is a value like any other.
                    if kind is not FunctionType or value.__qualname__ in (name, "<lambda>"):
                        continue
            now.add(name)
            found.append((name, value))
        gone = [(name, UNBOUND) for name in act.last if name not in now]
        return gone + found

    def plain(self, kind, frame, act, value, changes=b""):
        """RETURN, YIELD and UNWIND with what the last line changed, and EXCEPTION without."""
        if not self.count():
            return
        record = self.head(kind, act, frame.f_lineno or act.line, changes) + changes
        if kind != UNWIND:
            record += self.value_bytes(self.render.value(value))
        self.write(record)

    def value_bytes(self, text):
        plain, detail, cut = text
        flags = (detail is not None) | cut << 1
        data = plain_text(plain)
        if flags:
            data = uint(flags << 2 | 2) + data
        return data if detail is None else data + plain_text(detail)

    def name(self, info, name):
        number = info.numbers.get(name)
        if number is None:
            number = info.numbers[name] = len(info.numbers)
            self.write(SMALL[NAME] + uint(info.number) + text_bytes(name))
        return number

    def count(self):
        """Counts an event; false if it is not to be recorded any more."""
        if self.events >= self.max_events or self.log.full():
            self.full(self.recorded())
            return False
        self.events += 1
        return True

    def full(self, events):
        """No more events fit."""
        self.end(MAX_EVENTS, uint(events))

    def write(self, record):
        try:
            self.log.write(record)
        except (OSError, ValueError) as error:
            self.end(FAILED, text_bytes("the trace could not be written: %s" % error))

    def end(self, kind, payload=b""):
        """Writes how it ended and leaves the process without running anything more."""
        self.close(kind, payload)
        leave_process(0)

    def close(self, kind, payload=b""):
        if os.getpid() == self.pid:
            try:
                self.log.write(SMALL[END] + SMALL[kind] + payload)
            except (OSError, ValueError):
                # The mapping of the log is exhausted; the missing END record says so to the reader.
                pass


class ThreadRecorder(Recorder):
    """The same for a thread that the program has started.  It does not end with one of its activations."""

    def __init__(self, main, log, render):
        super().__init__(log, main.max_events, render)
        self.main = main
        self.entry = -1

    def own(self, info):
        """What this thread knows of a code object; numbers in a log are its own."""
        known = self.codes.get(id(info.code))
        if known is None:
            known = self.codes[id(info.code)] = Code(info.code, info.file)
        return known

    def full(self, events):
        """Other threads go on."""
        self.over = True
        self.close(MAX_EVENTS, uint(events))

    def end(self, kind, payload=b""):
        self.main.end(kind, payload)


def leave_process(status):
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:
            pass
    os._exit(status)


def guarded(recorder, step, *args):
    """Runs a step of the collector whose failure must not become the program's."""
    try:
        step(*args)
    except BaseException as error:
        recorder.failed(error)


def load_native(path):
    """The native extension, or None where it cannot be had: then Python does its work."""
    if not path or "t" in getattr(sys, "abiflags", ""):
        return None
    from importlib.machinery import ExtensionFileLoader, ModuleSpec

    try:
        loader = ExtensionFileLoader("cwm_native", path)
        native = loader.create_module(ModuleSpec("cwm_native", loader, origin=path))
        loader.exec_module(native)
        return native
    except ImportError:
        return None


class NativeRecorder(Recorder):
    """The same, with events handled by the native extension; values it does not know come back."""

    def __init__(self, log, max_events, render, native, layout):
        super().__init__(log, max_events, render)
        self.native = native
        self.layout = layout
        native.configure(self.settings(log, self.render))
        log.write = native.write

    def settings(self, log, render):
        """How a thread is recorded."""
        ops = opcode.opmap
        monitoring = getattr(sys, "monitoring", None)
        return {
            "first_window": log.window,
            "first_window_size": FIRST_WINDOW,
            "head": log.start,
            "next_window": log.next_window,
            "window_size": WINDOW,
            "depth_limit": self.depth_limit,
            "max_events": self.max_events,
            "max_chars": render.max_chars,
            "log_cap": LOG_CAP,
            "written": log.total,
            "layout": self.layout,
            "op_return": ops["RETURN_VALUE"],
            "op_yield": ops["YIELD_VALUE"],
            "op_yield_from": ops.get("YIELD_FROM", -1),
            "op_resume": ops.get("RESUME", -1),
            "render": render.value,
            "foreign": None if render.stranger is not render.foreign else render.foreign.tell,
            "constant": render.constant,
            "describe": render.describe,
            "slots": slots_in_turn,
            "on_full": lambda events: self.full(events - self.events_before),
            "on_failure": self.failed,
            "on_over": self.silence,
            "trampoline": self.native.trace,
            "disable": monitoring and monitoring.DISABLE,
            "stays_on_line": sys.version_info < (3, 10),
        }

    def add_code(self, info):
        code = info.code
        numbers = (code.co_flags, code.co_firstlineno)
        places = slot_places(code) if info.names is not None else ()
        definition = info.definition()
        self.native.add_code(
            code, info.names, info.is_module, definition, info.ops, numbers, places
        )

    def recorded(self):
        return self.native.events() - self.events_before

    def renew(self, has_entry):
        self.events_before = self.native.events()
        self.over = False
        self.native.renew(self.max_run_events, has_entry)

    def set_depth_limit(self, limit):
        super().set_depth_limit(limit)
        self.native.set_depth_limit(min(limit, 2**31 - 1))

    def silence(self):
        self.native.silence()
        super().silence()

    def disown(self):
        self.disowned = True
        self.native.disown()
        super().silence()
