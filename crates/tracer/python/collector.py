"""Runs Python programs and records what they do.  Part 11 of 11 of the collector.

The eleven parts are joined to one script of the standard library only, for CPython 3.8 and later.
Started once by the Rust side with `python -c`, it reads requests from the socket on descriptor 0 and
forks a child for each, one ahead.  The child runs the program under `sys.settrace` (up to 3.11) or
`sys.monitoring` (from 3.12, where reading `f_locals` in a trace function can change the program) and
writes events to a shared memory mapping, so that nothing recorded is lost however the child dies.
"""

import ast
import atexit
import os
import re
import select
import signal
import struct
import sys
from _signal import signal as set_signal
from types import FunctionType, ModuleType

# Added to the kind of a request: all threads are recorded.
ALL_THREADS = 256
# The most frames that the collector has below those of the program, counted from `serve`.
OWN_FRAMES = 16
# Kinds of ERROR records.
BAD_SYNTAX, MISSING_ENTRY, BAD_ARGUMENTS, NO_MODULE = range(4)


class Refused(Exception):
    """The request itself is wrong; carries the ERROR record."""

    def __init__(self, kind, *fields):
        super().__init__(kind)
        self.record = SMALL[ERROR] + SMALL[kind] + b"".join(fields)


class SwitchedOff(Exception):
    """The program ended, but its recording had ended before."""


class Request:
    """What to run, as read from the control socket."""

    def __init__(self, kind, fields):
        self.has_threads = kind & ALL_THREADS != 0
        kind &= ~ALL_THREADS
        self.is_batch = kind == 3
        self.is_call = kind == 1
        self.is_module = kind == 2
        self.file, self.source, self.function, self.args = (f.decode("utf-8") for f in fields[:4])
        self.stdin = fields[4]
        self.arguments = [os.fsdecode(argument) for argument in fields[5].split(b"\0")[:-1]]


def compile_program(request):
    """The code object of the program, or `Refused`."""
    source = request.source[1:] if request.source[:1] == "\ufeff" else request.source
    try:
        if request.is_call and "__main__" in source:
            tree = compile(source, request.file, "exec", ast.PyCF_ONLY_AST, dont_inherit=True)
            tree.body = [part for node in tree.body for part in without_main_guard(node)]
            source = tree
        return compile(source, request.file, "exec", dont_inherit=True)
    except SyntaxError as error:
        line = error.lineno or 0
        text = (error.text or "").rstrip("\n")
        raise Refused(BAD_SYNTAX, uint(line), text_bytes(str(error.msg)), text_bytes(text))
    except (ValueError, OverflowError, RecursionError, MemoryError) as error:
        message = "%s: %s" % (type(error).__name__, error)
        raise Refused(BAD_SYNTAX, uint(0), text_bytes(message), text_bytes(""))


def without_main_guard(node):
    """What stays of a top-level statement when only one function is wanted: not the script part."""
    if isinstance(node, ast.If) and isinstance(node.test, ast.Compare):
        test = node.test
        sides = [test.left] + test.comparators
        named = any(isinstance(side, ast.Name) and side.id == "__name__" for side in sides)
        main = any(getattr(side, "value", None) == "__main__" for side in sides)
        if named and main and len(sides) == 2 and isinstance(test.ops[0], ast.Eq):
            return node.orelse
    return [node]


def resolve(request, space):
    """The object that the dotted name of the entry stands for, or `Refused`."""
    first, *rest = request.function.split(".")
    try:
        found = space[first]
        for name in rest:
            found = getattr(found, name)
    except (KeyError, AttributeError):
        found = None
    if not callable(found):
        names = available(request.file, space)
        fields = [uint(len(names))] + [text_bytes(name) for name in names]
        raise Refused(MISSING_ENTRY, *fields)
    return found


def available(file, space):
    """Functions and methods that the file defines, for the message about a missing one."""
    names = []
    for name, value in list(space.items()):
        if type(value) is FunctionType and value.__code__.co_filename == file:
            names.append(name)
        elif type(value) is type and value.__module__ == "__main__":
            for method, function in list(vars(value).items()):
                function = getattr(function, "__func__", function)
                if type(function) is FunctionType and function.__code__.co_filename == file:
                    names.append("%s.%s" % (name, method))
    return names


def evaluate_arguments(request, space):
    """`(args, kwargs)`, or `Refused`.  Runs untraced."""
    source = "collect(\n%s\n)" % request.args
    try:
        # `1)(2` would compile as two calls: the text must be one argument list. Without a `)` it
        # is, and does without the tree, which takes longer than the rest together.
        if ")" in request.args:
            check_is_one_call(source)
        code = compile(source, "<args>", "eval", dont_inherit=True)
        names = dict(space)
        names["collect"] = lambda *args, **named: (args, named)
        return eval(code, names)
    except SyntaxError as error:
        raise bad_arguments(error.msg)
    except Exception as error:
        raise bad_arguments("%s: %s" % (type(error).__name__, error))


class Literals:
    """Reads arguments that are numbers, texts and lists of them.  To compile these takes longer than most calls."""

    # Of these, what JSON can read means the same in Python, once all texts are in double quotes.
    PLAIN = re.compile(r"""(?:[-+0-9., \[\]e]|'[^'"\\]*'|"[^'"\\]*")*""")
    IDENTIFIER = re.compile(r"[A-Za-z0-9_]*")

    def __init__(self):
        import json

        # Equal constants of one argument list are one object, as a compiler makes them.
        self.known = {}
        number = lambda kind: lambda text: self.known.setdefault((text,), kind(text))
        self.read = json.JSONDecoder(parse_int=number(int), parse_float=number(float)).decode

    def arguments(self, text):
        """The list of them, or None if there may be something else."""
        if not self.PLAIN.fullmatch(text):
            return None
        self.known.clear()
        try:
            found = self.read("[%s]" % text.replace("'", '"'))
        except (ValueError, RecursionError):
            return None
        return self.shared(found) if "'" in text or '"' in text else found

    def shared(self, value):
        """The same with equal texts as one object, which a compiler looks up among all if it may be a name."""
        if type(value) is list:
            return list(map(self.shared, value))
        if type(value) is not str:
            return value
        return sys.intern(value) if self.IDENTIFIER.fullmatch(value) else self.known.setdefault(value, value)


def check_is_one_call(source):
    call = compile(source, "<args>", "eval", ast.PyCF_ONLY_AST, dont_inherit=True).body
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        raise SyntaxError("not an argument list")


def bad_arguments(message):
    return Refused(BAD_ARGUMENTS, text_bytes(str(message)))


def finish(result):
    """Runs a generator or coroutine to its end."""
    if hasattr(result, "__next__") and hasattr(result, "gi_frame"):
        for _ in result:
            pass
    elif hasattr(result, "cr_frame"):
        import asyncio

        asyncio.run(result)


def call_entry(function, args, named, recorder, events):
    """Calls the entry traced.  A generator or coroutine is run to its end: its frame is the entry."""
    events.start()
    try:
        result = function(*args, **named)
        if not recorder.over:
            finish(result)
    except TypeError as error:
        if recorder.recorded() == 0:
            raise bad_arguments(error)
        raise
    finally:
        events.stop()


def run_program(request, space, recorder, events):
    if request.is_module:
        spec, code = find_module(request.file, request.source, recorder)
        request.file = spec.origin
        become_module(space, spec)
    else:
        code = compile_program(request)
        recorder.add_codes(code)
    if request.is_call:
        exec(code, space)
        function = resolve(request, space)
        args, named = evaluate_arguments(request, space)
        call_entry(function, args, named, recorder, events)
        if recorder.recorded() == 0:
            raise bad_arguments("calling it ran no line of this file")
    else:
        events.start()
        try:
            exec(code, space)
        finally:
            events.stop()
    if not recorder.over:
        raise SwitchedOff


def exit_status(error):
    """What `sys.exit(x)` means to the shell."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return max(-(2**31), min(2**31 - 1, int(error.code)))
    print(error.code, file=sys.stderr)
    return 1


def report_exception(error, file):
    """Prints the traceback as the interpreter would, without the collector's own frames."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != file:
        trace = trace.tb_next
    try:
        # Some versions print what the exception itself carries, whatever they are passed.
        error.__traceback__ = trace
        sys.excepthook(type(error), error, trace)
    except BaseException:
        pass


def prepare(log_fd, settings):
    """What records, and what has events come: for all children, which are forked later."""
    log = Log(log_fd)
    log.begin(settings.mode)
    render = Renderer(settings.max_chars, settings.is_safe)
    if settings.native is None:
        recorder = Recorder(log, settings.max_events, render)
    else:
        recorder = NativeRecorder(log, settings.max_events, render, settings.native, settings.layout)
    set_recursion_limits(recorder)
    if hasattr(sys, "monitoring"):
        return recorder, MonitoringEvents(recorder)
    if settings.native is None:
        return recorder, SettraceEvents(recorder)
    return recorder, NativeSettraceEvents(recorder)


def settle(recorder, settings):
    """What a child does whatever it is to run, while the program before it still runs."""
    os.setpgid(0, 0)
    set_signal(signal.SIGINT, signal.default_int_handler)
    recorder.pid = os.getpid()
    settings.limit_resources()
    # A program that forks must not write into its parent's log.
    os.register_at_fork(after_in_child=recorder.disown)


def take_over(request, recorder, events, settings):
    """What it does once it knows; gives the program's namespace."""
    recorder.log.begin_again()
    settings.limit_memory()
    if request.has_threads:
        kind = Threads if settings.native is None else NativeThreads
        kind(recorder, settings.mode, events).watch()
    return new_main(request)


def conclude(recorder, request, step):
    """Takes a step of a run and writes how it ended: the kind of its end and the exit status."""
    try:
        step()
        recorder.close(FINISHED)
        return FINISHED, 0
    except Refused as refused:
        recorder.write(refused.record)
        return FINISHED, 0
    except SwitchedOff:
        recorder.close(FAILED, text_bytes("the program switched tracing off"))
        return FAILED, 0
    except SystemExit as error:
        status = exit_status(error)
        recorder.close(EXITED, uint(status << 1 ^ (-1 if status < 0 else 0)))
        return EXITED, status
    except MemoryError:
        recorder.close(OUT_OF_MEMORY)
        return OUT_OF_MEMORY, 0
    except BaseException as error:
        text = recorder.render.value(error)[0]
        recorder.close(RAISED, text_bytes(text))
        report_exception(error, request.file)
        return RAISED, 1


def run_request(request, recorder, events, settings):
    """The life of a child process after its set-up."""
    space = take_over(request, recorder, events, settings)
    if request.is_batch:
        status = run_batch(request, space, recorder, events)
    else:
        step = lambda: run_program(request, space, recorder, events)
        _, status = conclude(recorder, request, step)
        if request.has_threads:
            Threads.join()
    finish_streams(status)


def finish_streams(status):
    try:
        atexit._run_exitfuncs()
    except BaseException:
        pass
    leave_process(status & 255)


def new_main(request):
    """A fresh `__main__`, as if the file had been run as a script."""
    module = ModuleType("__main__")
    module.__file__ = request.file
    module.__builtins__ = __builtins__
    sys.modules["__main__"] = module
    sys.argv = [request.file] + request.arguments
    folder = os.path.dirname(os.path.abspath(request.file))
    sys.path[:] = [folder] + [path for path in sys.path if path]
    if "random" in request.source or request.is_module:
        import random

        random.seed(0)
    return module.__dict__


def become_module(space, spec):
    """Lets `__main__` look as `python -m` makes it."""
    space["__file__"] = sys.argv[0] = spec.origin
    space["__cached__"] = spec.cached
    space["__loader__"] = spec.loader
    space["__package__"] = spec.parent
    space["__spec__"] = spec


def set_recursion_limits(recorder):
    """Leaves the program its usual 1000 frames on top of ours, and the collector its headroom."""
    real_set = sys.setrecursionlimit
    extra = HEADROOM + OWN_FRAMES
    frame = sys._getframe()
    while frame is not None:
        extra, frame = extra + 1, frame.f_back

    def getrecursionlimit():
        return recorder.depth_limit

    def setrecursionlimit(limit):
        real_set(limit if limit <= 0 else min(limit, 2**31 - 1 - extra) + extra)
        recorder.set_depth_limit(limit)

    setrecursionlimit(recorder.depth_limit)
    sys.getrecursionlimit, sys.setrecursionlimit = getrecursionlimit, setrecursionlimit


class Settings:
    def __init__(self, argv):
        numbers = [int(text) for text in argv[:7]]
        self.max_events, self.max_chars, self.memory, self.cpu_seconds = numbers[:4]
        self.file_bytes, self.processes, self.preload = numbers[4:]
        native, mode, values, self.log_path, *self.capture_paths = argv[7:]
        self.native = load_native(native)
        self.layout = None
        if self.native is not None and mode == "direct":
            self.layout = proved_layout(self.native)
        self.is_safe = values == "safe"
        self.mode = BY_PYTHON
        if self.native is not None:
            self.mode = BY_API if self.layout is None else DIRECT

    def limit_resources(self):
        if resource is None:
            return
        limits = [(resource.RLIMIT_CORE, 0), (resource.RLIMIT_CPU, self.cpu_seconds)]
        limits.append((resource.RLIMIT_FSIZE, self.file_bytes))
        if self.processes >= 0 and hasattr(resource, "RLIMIT_NPROC"):
            limits.append((resource.RLIMIT_NPROC, self.processes))
        for which, wanted in limits:
            set_limit(which, wanted)

    def limit_memory(self):
        """Apart from the others: a request may be larger than what its program may have."""
        if resource is not None and hasattr(resource, "RLIMIT_AS"):
            set_limit(resource.RLIMIT_AS, self.memory)


def set_limit(which, wanted):
    _, hard = resource.getrlimit(which)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    try:
        resource.setrlimit(which, (wanted, hard))
    except (OSError, ValueError):
        # Some systems know a limit but do not let it be set; the wall clock still holds.
        pass


def receive(control, size):
    parts = []
    while size:
        part = os.read(control, min(size, 1 << 20))
        if not part:
            os._exit(0)
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def receive_request(control):
    kind, *sizes = struct.unpack("<7I", receive(control, 28))
    return Request(kind, [receive(control, size) for size in sizes])


def give_stdin(data):
    """Makes descriptor 0 read the given bytes."""
    if len(data) <= 4096:
        source, sink = os.pipe()
        os.write(sink, data)
        os.close(sink)
    else:
        import tempfile

        with tempfile.TemporaryFile() as file:
            file.write(data)
            file.flush()
            source = os.dup(file.fileno())
        os.lseek(source, 0, os.SEEK_SET)
    os.dup2(source, 0)
    os.close(source)


def child(control, captures, settings, prepared, announcing, orphaned):
    settle(prepared[0], settings)
    ready, _, _ = select.select([control, orphaned], [], [])
    if orphaned in ready:
        os._exit(0)
    os.close(orphaned)
    request = receive_request(control)
    os.write(announcing, b"!")
    os.write(control, b"P" + struct.pack("<I", os.getpid()))
    os.close(control)
    give_stdin(request.stdin)
    if request.is_batch:
        # Files, since what one run printed ends where the next begins.
        os.dup2(captures[0], 1)
        os.dup2(captures[1], 2)
    run_request(request, *prepared, settings)


def kill_group(pid):
    try:
        os.killpg(pid, signal.SIGKILL)
    except OSError:
        # Nothing is left of the group.
        pass


def await_child(pid, life, control):
    """Waits for the child's end; if the Rust side goes away first, so does everything here."""
    ready, _, _ = select.select([life, control], [], [])
    if control in ready:
        kill_group(pid)
        os._exit(0)
    os.close(life)
    _, status = os.waitpid(pid, 0)
    kill_group(pid)
    return status


def serve(argv):
    settings = Settings(argv)
    control = os.dup(0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    log_fd = os.open(settings.log_path, os.O_RDWR | os.O_CLOEXEC)
    appending = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
    captures = [os.open(path, appending) for path in settings.capture_paths]
    prepared = prepare(log_fd, settings)
    if settings.preload:
        preload()
    os.write(control, b"H" + struct.pack("<I", settings.mode))
    # Every child has the same descriptors, whatever is open here when it is forked.
    announcing, orphaned = os.dup(0), os.dup(0)
    run = lambda: child(control, captures, settings, prepared, announcing, orphaned)
    pid, life, bond = spare(run, announcing, orphaned)
    while os.read(life, 1):
        # It has a request. Forking the next child meanwhile hides what a fork takes.
        os.close(bond)
        running = pid, life
        pid, life, bond = spare(run, announcing, orphaned, running[1])
        status = await_child(*running, control)
        os.write(control, b"D" + struct.pack("<I", status))
    # It found the Rust side gone, or was killed before there was anything to do.
    os.waitpid(pid, 0)


def spare(run, announcing, orphaned, *unneeded):
    """Forks a child that waits for a request.

    Gives its number, a pipe on which it announces the request and which ends when it does, and one whose
    end tells it that it is an orphan.
    """
    (life, held), (lost, bond) = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(held, announcing, inheritable=False)
            os.dup2(lost, orphaned, inheritable=False)
            for descriptor in (life, held, lost, bond) + unneeded:
                os.close(descriptor)
            run()
        finally:
            os._exit(70)
    os.close(held)
    os.close(lost)
    return pid, life, bond


def preload():
    """Modules that small programs like to import: paid once here instead of in every child."""
    import gc
    import importlib

    for name in "bisect collections dataclasses enum functools heapq itertools json math operator random re string typing".split():
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


serve(sys.argv[1:])
