"""Runs the doctests and tests of a package and tells with what its functions were called.

Comes behind `guard.py`, and without the collector. The request is a line of JSON on standard input: `{"root": FOLDER,
"modules": [FILE, ...], "tests": [FILE, ...], "seconds": N, "memory": N}`; the answer is JSON on what is standard output
at the start: `{"calls": {FILE: {FUNCTION: [ARGUMENTS, ...]}}}`. Only calls whose arguments are literals
count. What is forbidden raises, so that one test fails and the others go on.
"""

import ast
import doctest
import importlib
import json
import os
import random
import resource
import signal
import sys
import unittest
import warnings

MOST_CALLS = 24
MOST_CHARS = 200


class Sandbox(Guard):
    """Lets tests read their package as well, and raises where the process would be ended."""

    def __init__(self, root):
        Guard.__init__(self, None)
        # What tests import: the package, and what is installed for the interpreter.
        self.readable += tuple(os.path.realpath(place) + os.sep for place in [root] + sys.path if place)

    def __call__(self, event, arguments):
        if self.is_forbidden(event, arguments):
            raise PermissionError("forbidden: " + describe(event, arguments))


class Calls:
    """A profile function that notes the arguments of calls."""

    def __init__(self, root, modules):
        self.root = root
        # Functions at the top level, by file and first line.
        self.wanted = {}
        for name in modules:
            path = os.path.realpath(os.path.join(root, name))
            for function, line in top_functions(path):
                self.wanted[path, line] = name, function
        self.paths = {}
        self.found = {}

    def __call__(self, frame, event, _):
        if event != "call":
            return
        code = frame.f_code
        path = self.paths.get(code.co_filename)
        if path is None:
            path = self.paths[code.co_filename] = os.path.realpath(code.co_filename)
        place = self.wanted.get((path, code.co_firstlineno))
        if place is None or place[1] != code.co_name:
            return
        known = self.found.setdefault(place, {})
        if len(known) < MOST_CALLS:
            text = arguments_of(frame)
            if text is not None:
                known[text] = None

    def answer(self):
        calls = {}
        for (file, function), found in self.found.items():
            calls.setdefault(file, {})[function] = list(found)
        return calls


def top_functions(path):
    try:
        with open(path, "rb") as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            lines = [node.lineno] + [decorator.lineno for decorator in node.decorator_list]
            yield node.name, min(lines)


def arguments_of(frame):
    """The arguments of a call as text, or None if one is no literal."""
    code, values = frame.f_code, frame.f_locals
    names = code.co_varnames
    count, named = code.co_argcount, code.co_kwonlyargcount
    try:
        parts = [text_of(values[name]) for name in names[:count]]
        at = count + named
        if code.co_flags & 0x04:
            parts += [text_of(value) for value in values[names[at]]]
            at += 1
        parts += ["%s=%s" % (name, text_of(values[name])) for name in names[count : count + named]]
        if code.co_flags & 0x08:
            parts += ["%s=%s" % (name, text_of(value)) for name, value in values[names[at]].items()]
    except Exception:
        # A number of thousands of digits has no text, and so on: it must not get into the test.
        return None
    text = ", ".join(parts)
    return text if len(text) <= MOST_CHARS else None


PLAIN = (int, float, str, bytes, bool, type(None))
NESTED = (list, tuple, set, dict)


def text_of(value, depth=0):
    """The literal for a value of builtin types, or TypeError."""
    kind = type(value)
    if kind in PLAIN:
        if value != value or value in (float("inf"), -float("inf")):
            raise TypeError
        return repr(value)
    if kind not in NESTED or depth > 4 or len(value) > 60:
        raise TypeError
    for item in value:
        text_of(item, depth + 1)
    if kind is dict:
        for item in value.values():
            text_of(item, depth + 1)
    return repr(value)


def import_names(files):
    """Where packages are imported from, and each file with its module's name."""
    packages = {os.path.dirname(name) for name in files if os.path.basename(name) == "__init__.py"}
    bases, named = [], []
    for name in files:
        base = os.path.dirname(name)
        while base in packages and base:
            base = os.path.dirname(base)
        if base not in bases:
            bases.append(base)
        inner = os.path.relpath(name, base or ".")[:-3].replace(os.sep, ".")
        named.append((name, inner[: -len(".__init__")] if inner.endswith(".__init__") else inner))
    return bases, named


def modules_of(files):
    for _, name in import_names(files)[1]:
        try:
            yield importlib.import_module(name)
        except BaseException:
            # Its dependencies are not there, or it does something at once that it may not.
            continue


def run_all(request, out):
    for module in modules_of(request["modules"]):
        run_doctests(module, out)
    try:
        import pytest
    except Exception:
        run_unittests(request["tests"], out)
        return
    paths = [os.path.join(request["root"], name) for name in request["tests"]]
    if paths:
        options = ["-q", "-s", "-p", "no:cacheprovider", "--rootdir", request["root"], "-o", "addopts=", "--continue-on-collection-errors"]
        try:
            pytest.main(options + paths)
        except BaseException:
            # What was called until then was called.
            pass


def run_doctests(module, out):
    runner = doctest.DocTestRunner(verbose=False)
    try:
        for test in doctest.DocTestFinder(exclude_empty=True).find(module):
            if test.examples:
                runner.run(test, out=out.write, clear_globs=True)
    except BaseException:
        pass


def run_unittests(files, out):
    for module in modules_of(files):
        run_functions(module)
        try:
            suite = unittest.defaultTestLoader.loadTestsFromModule(module)
            unittest.TextTestRunner(out, verbosity=0).run(suite)
        except BaseException:
            continue


def run_functions(module):
    """Tests as pytest has them that need nothing from it."""
    for name, function in sorted(vars(module).items()):
        code = getattr(function, "__code__", None)
        if not name.startswith("test") or code is None or code.co_argcount:
            continue
        try:
            function()
        except BaseException:
            continue


def limit(request):
    seconds = request["seconds"] + 5
    limits = (resource.RLIMIT_AS, request["memory"]), (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0)
    for which, most in limits:
        _, hard = resource.getrlimit(which)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        try:
            resource.setrlimit(which, (most, hard))
        except (OSError, ValueError):
            # Some systems know a limit but do not let it be set; the wall clock still holds.
            continue


def main():
    request = json.loads(sys.stdin.readline())
    warnings.simplefilter("ignore")
    # Tests may print, and close or replace the streams.
    answer = os.dup(1)
    out = open(os.devnull, "w")
    os.dup2(out.fileno(), 1)
    limit(request)
    calls = Calls(request["root"], request["modules"])
    bases, _ = import_names(request["modules"] + request["tests"])
    sys.path[:] = [os.path.join(request["root"], base) for base in bases] + [path for path in sys.path if path]
    random.seed(0)
    sys.addaudithook(Sandbox(request["root"]))

    def reply(what):
        data = json.dumps(what).encode()
        while data:
            data = data[os.write(answer, data) :]
        os._exit(0)

    # An exception would be caught by those who run tests. What was recorded until then is not the same each time.
    signal.signal(signal.SIGALRM, lambda *_: reply({"over_time": True}))
    signal.alarm(request["seconds"])
    sys.setprofile(calls)
    run_all(request, out)
    sys.setprofile(None)
    signal.alarm(0)
    reply({"calls": calls.answer()})


main()
