"""The oracle: a recorder written from the rules alone, slow and plain, which the collectors must equal.

    python oracle.py PROGRAM_FILE OUTPUT_FILE

Runs the program as a script and writes a line for each event: `call`, `line`, `return` or `exception`,
activation, function, line, then all variables or the value.  A resumption is a call, a yield and an
unwinding are returns, as they are for `sys.settrace`.
"""

import re
import sys
from types import CodeType, FunctionType, ModuleType, BuiltinFunctionType

CAP = 2000
BRACKETS = [(list, "[]"), (tuple, "()"), (dict, "{}"), (set, "{}"), (frozenset, "{}")]
GENERATOR = 0x20 | 0x80 | 0x200


def show(value):
    text = show_part(value, [])
    return text if len(text) <= CAP else text[:CAP] + "..."


def show_part(value, around):
    """Containers element by element, so that a failing `repr` spoils only its own element."""
    kind = type(value)
    # Found by identity: a metaclass may make types that cannot be hashed or compared.
    brackets = [pair for known, pair in BRACKETS if known is kind]
    if not brackets:
        return show_single(value, kind)
    if not value:
        return repr(value)
    brackets = brackets[0]
    if any(value is other for other in around):
        return brackets[0] + "..." + brackets[1]
    around = around + [value]
    if kind is dict:
        parts = [
            show_part(key, around) + ": " + show_part(item, around) for key, item in value.items()
        ]
    else:
        parts = [show_part(item, around) for item in list(value)[: CAP]]
    body = ", ".join(parts) + ("," if kind is tuple and len(parts) == 1 else "")
    text = brackets[0] + body + brackets[1]
    return "frozenset(%s)" % text if kind is frozenset else text


def show_single(value, kind):
    try:
        text = repr(value)
    except BaseException as error:
        return "<repr failed: %s>" % type(error).__name__
    return text if kind is str or kind is bytes else re.sub(" at 0x[0-9a-f]+", "", text)


def is_shown(name, value):
    """What a module frame lists: not modules, classes, and functions under their own name."""
    if isinstance(value, FunctionType):
        return value.__qualname__ not in (name, "<lambda>")
    return not isinstance(value, (ModuleType, BuiltinFunctionType, type))


class Activation:
    def __init__(self, number, frame):
        self.number = number
        # Kept only where it is needed to know the frame again: keeping it keeps what it refers to.
        self.frame = frame if frame.f_code.co_flags & GENERATOR else None
        self.space = None if frame.f_code.co_flags & 1 else frame.f_locals
        self.names = []
        self.line = frame.f_code.co_firstlineno

    def bound(self, frame):
        """The variables in the order in which they were bound."""
        code = frame.f_code
        if self.space is None:
            space = frame.f_locals
            order = code.co_varnames + code.co_cellvars + code.co_freevars
            now = {name: space[name] for name in order if name in space}
        else:
            now = {
                name: value
                for name, value in list(self.space.items())
                if type(name) is str and not (name[:2] == "__" == name[-2:])
            }
            if code.co_name == "<module>":
                now = {name: value for name, value in now.items() if is_shown(name, value)}
        self.names = [name for name in self.names if name in now]
        self.names += [name for name in now if name not in self.names]
        return [(name, now[name]) for name in self.names]


class Oracle:
    def __init__(self, code, out):
        self.codes = set()
        self.add(code)
        self.out = out
        self.started = 0
        self.activations = {}

    def add(self, code):
        self.codes.add(code)
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                self.add(constant)

    def of(self, frame):
        act = self.activations.get(id(frame))
        return act if act is None or act.frame in (None, frame) else None

    def call(self, frame):
        act = self.of(frame)
        if act is None or act.frame is None:
            act = Activation(self.started, frame)
            self.started += 1
            self.activations[id(frame)] = act
        self.state("call", frame, act, frame.f_lineno)

    def line(self, frame, line):
        act = self.of(frame)
        if act is not None:
            self.state("line", frame, act, line)

    def leave(self, frame, value):
        act = self.of(frame)
        if act is not None:
            self.state("return", frame, act, frame.f_lineno, " -> " + show(value))
            if act.frame is None:
                del self.activations[id(frame)]

    def exception(self, frame, error):
        act = self.of(frame)
        if act is not None:
            self.write("exception", frame, act, frame.f_lineno or act.line, " -> " + show(error))

    def state(self, kind, frame, act, line, value=""):
        line = line or act.line
        if kind != "return":
            act.line = line
        variables = "".join(" %s=%s" % (name, show(item)) for name, item in act.bound(frame))
        self.write(kind, frame, act, line, variables + value)

    def write(self, kind, frame, act, line, rest):
        text = "%s %s#%d:%d%s" % (kind, frame.f_code.co_name, act.number, line, rest)
        text = text.replace("\\", "\\\\").replace("\n", "\\n")
        self.out.write(text.encode("utf-8", "backslashreplace") + b"\n")


def by_settrace(oracle):
    def trace(frame, event, arg):
        if frame.f_code not in oracle.codes:
            return None
        if event == "call":
            oracle.call(frame)
        elif event == "line":
            oracle.line(frame, frame.f_lineno)
        elif event == "return":
            oracle.leave(frame, arg)
        elif event == "exception":
            oracle.exception(frame, arg[1])
        return trace

    sys.settrace(trace)
    return lambda: sys.settrace(None)


def by_monitoring(oracle):
    """The same: from 3.12 on a trace function that reads `f_locals` may change the program."""
    monitoring = sys.monitoring
    events = monitoring.events
    frame = lambda: sys._getframe(3)

    def watched(step):
        def callback(code, *args):
            if code in oracle.codes:
                step(code, *args)

        return callback

    def jump(code, offset, target):
        lines = [line for start, end, line in code.co_lines() if start <= offset < end]
        lines += [line for start, end, line in code.co_lines() if start <= target < end]
        if target <= offset and lines[0] is not None and lines[0] == lines[1]:
            oracle.line(frame(), lines[0])

    callbacks = {
        events.PY_START: lambda code, _: oracle.call(frame()),
        events.PY_RESUME: lambda code, _: oracle.call(frame()),
        events.PY_THROW: lambda code, _, error: oracle.call(frame()),
        events.LINE: lambda code, line: oracle.line(frame(), line),
        events.JUMP: jump,
        events.PY_RETURN: lambda code, _, value: oracle.leave(frame(), value),
        events.PY_YIELD: lambda code, _, value: oracle.leave(frame(), value),
        events.PY_UNWIND: lambda code, _, error: oracle.leave(frame(), None),
        events.RAISE: lambda code, _, error: oracle.exception(frame(), error),
        events.STOP_ITERATION: lambda code, _, error: oracle.exception(frame(), error),
    }
    monitoring.use_tool_id(3, "oracle")
    for event, step in callbacks.items():
        monitoring.register_callback(3, event, watched(step))
    monitoring.set_events(3, sum(callbacks))
    return lambda: monitoring.set_events(3, 0)


def main(program, output):
    with open(program, encoding="utf-8") as file:
        code = compile(file.read(), "program.py", "exec", dont_inherit=True)
    module = ModuleType("__main__")
    module.__builtins__ = __builtins__
    sys.modules["__main__"] = module
    with open(output, "wb") as out:
        oracle = Oracle(code, out)
        stop = by_monitoring(oracle) if hasattr(sys, "monitoring") else by_settrace(oracle)
        try:
            exec(code, module.__dict__)
        finally:
            stop()


main(*sys.argv[1:])
