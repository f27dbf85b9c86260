"""Says what CPython compiles the functions of a module to, without anything that differs from run to run.

Reads JSON lines from standard input, `{"code": TEXT}`, and answers each with a line: `{"functions": [...]}`, or
`{"error": TEXT}` where the code is no Python. A function is `{"name": QUALIFIED, "source": TEXT, "instructions":
[...], "handlers": [...]}`. Instructions are numbered from 0; an instruction is `[LINE or null, OPERATION, NUMBER or
null, TEXT]`, where lines count from the function's first, NUMBER is the argument, and TEXT is what that stands for:
for a jump, which has no NUMBER, `to` and the instruction that it leads to. A handler is `[FIRST, LAST, TARGET,
DEPTH, KEEPS]` (3.11 and later). Code is compiled and never run.
"""

import ast
import dis
import json
import re
import sys
import types

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
JUMPS = frozenset(dis.hasjrel) | frozenset(dis.hasjabs)


def text_of(value):
    """A constant as text: the same on every run, though sets have no order and code has an address."""
    if isinstance(value, types.CodeType):
        return "<code object %s>" % value.co_name
    if isinstance(value, frozenset):
        return "frozenset({%s})" % ", ".join(sorted(map(text_of, value)))
    if isinstance(value, tuple):
        return "(%s%s)" % (", ".join(map(text_of, value)), "," if len(value) == 1 else "")
    return repr(value)


def argument_text(instruction):
    if instruction.opcode in dis.hasconst:
        # Operations that know a constant by another way than by its number say it with words around it.
        said = instruction.argrepr
        plain = repr(instruction.argval)
        return said.replace(plain, text_of(instruction.argval))
    return instruction.argrepr


def line_of(instruction):
    number = getattr(instruction, "line_number", None)
    if number is None and not isinstance(instruction.starts_line, bool):
        number = instruction.starts_line
    return number


def listing(code):
    kept, places, pending = [], {}, []
    for instruction in dis.get_instructions(code):
        pending.append(instruction.offset)
        if instruction.opname in ("EXTENDED_ARG", "CACHE"):
            # What it adds is in the argument of the next one, which is where jumps to it lead.
            continue
        places.update((offset, len(kept)) for offset in pending)
        pending = []
        kept.append(instruction)
    ends = sorted(places)

    def place(offset):
        later = [end for end in ends if end >= offset]
        return places[later[0]] if later else len(kept)

    first, last, rows = code.co_firstlineno, None, []
    for instruction in kept:
        line = line_of(instruction)
        shown = line - first + 1 if line is not None and line != last else None
        last = last if line is None else line
        if instruction.opcode in JUMPS:
            # The argument itself counts units of code, which are not shown.
            number, text = None, "to %d" % place(instruction.argval)
        else:
            number, text = instruction.arg, argument_text(instruction)
        rows.append([shown, instruction.opname, number, text])
    handlers = [
        [place(entry.start), place(entry.end) - 1, place(entry.target), entry.depth, bool(entry.lasti)]
        for entry in getattr(dis.Bytecode(code), "exception_entries", ())
    ]
    return rows, handlers


def codes(code, prefix=""):
    """All code objects in one, by name and first line."""
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            name = prefix + constant.co_name
            yield constant, name
            inner = ".<locals>." if constant.co_flags & 2 else "."
            yield from codes(constant, name + inner)


def sources(tree, lines):
    """Text of each function, by name and first line."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, FUNCTIONS):
            first = min([node.lineno] + [decorator.lineno for decorator in node.decorator_list])
            found[node.name, first] = lines[first - 1 : node.end_lineno]
    return found


def dedented(lines):
    blank = len(lines[0]) - len(lines[0].lstrip(" \t"))
    margin = lines[0][:blank]
    return "".join(line[blank:] if line.startswith(margin) else line.lstrip(" \t") for line in lines)


def answer(code):
    # Lines end where the interpreter's own parser ends them, not at every character that may end one.
    lines = re.findall(r"[^\n]*\n|[^\n]+$", code.replace("\r\n", "\n").replace("\r", "\n"))
    texts = sources(ast.parse(code), lines)
    functions = []
    for found, name in codes(compile(code, "module.py", "exec", dont_inherit=True)):
        text = texts.get((found.co_name, found.co_firstlineno))
        if text is None:
            continue
        rows, handlers = listing(found)
        functions.append({"name": name, "source": dedented(text), "instructions": rows, "handlers": handlers})
    return {"functions": functions}


for request in sys.stdin:
    try:
        reply = answer(json.loads(request)["code"])
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        reply = {"error": "%s: %s" % (type(error).__name__, error)}
    sys.stdout.write(json.dumps(reply) + "\n")
    sys.stdout.flush()
