"""Cuts Triton kernels out of modules, each with what it needs of them.

Reads JSON lines from standard input, `{"code": TEXT}`, and answers each with a line: `{"kernels": [...]}`, or
`{"error": TEXT}` where the code is no Python. A kernel is `{"name": NAME, "code": TEXT, "needs": [NAME, ...],
"docstring": TEXT or null, "launcher": TEXT or null, "faithful": BOOL}`: its own text behind the imports, constants
and helper kernels of the module that it uses, in their order; the function that launches it, if there is one; and
whether the text that was cut parses to the same definitions. Code is parsed and never run.
"""

import ast
import json
import re
import sys

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
IMPORTS = (ast.Import, ast.ImportFrom)
BLOCKS = (ast.If, ast.Try, ast.With)


def statements(body):
    """Statements that bind names of the module: also those that depend on a version or an import."""
    for statement in body:
        yield statement
        if isinstance(statement, BLOCKS):
            for part in ("body", "orelse", "finalbody"):
                yield from statements(getattr(statement, part, []))
            for handler in getattr(statement, "handlers", []):
                yield from statements(handler.body)


def bound(statement):
    """The names that a statement gives a meaning to."""
    if isinstance(statement, IMPORTS):
        return [(alias.asname or alias.name).split(".")[0] for alias in statement.names]
    if isinstance(statement, FUNCTIONS + (ast.ClassDef,)):
        return [statement.name]
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    if not isinstance(statement, (ast.Assign, ast.AnnAssign)):
        return []
    return [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]


def used(node):
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


def dotted(node):
    """`a.b.c` of an expression that is nothing else, calls left out."""
    if isinstance(node, ast.Call):
        return dotted(node.func)
    if isinstance(node, ast.Attribute):
        head = dotted(node.value)
        return head and head + "." + node.attr
    return node.id if isinstance(node, ast.Name) else None


class Module:
    def __init__(self, code):
        # Lines end where the interpreter's own parser ends them.
        code = code.replace("\r\n", "\n").replace("\r", "\n")
        self.lines = re.findall(r"[^\n]*\n|[^\n]+$", code)
        self.tree = ast.parse(code)
        self.definitions = {}
        jits = set()
        for statement in statements(self.tree.body):
            for name in bound(statement):
                self.definitions.setdefault(name, statement)
            if isinstance(statement, ast.Import):
                jits.update((a.asname or a.name) + ".jit" for a in statement.names if a.name == "triton")
            elif isinstance(statement, ast.ImportFrom) and statement.module in ("triton", "triton.runtime.jit"):
                jits.update(a.asname or a.name for a in statement.names if a.name == "jit")
        self.jits = jits

    def is_kernel(self, node):
        return isinstance(node, FUNCTIONS) and any(dotted(d) in self.jits for d in node.decorator_list)

    def text(self, node):
        first = min([node.lineno] + [d.lineno for d in getattr(node, "decorator_list", [])])
        lines = self.lines[first - 1 : node.end_lineno]
        margin = re.match(r"[ \t]*", lines[0]).group()
        lines = [line[len(margin) :] if line.startswith(margin) else line.lstrip(" \t") for line in lines]
        return "".join(lines).rstrip("\n") + "\n"

    def needs(self, kernel):
        """The definitions that a kernel uses, those that these use, and so on."""
        found, open_names = [], list(used(kernel))
        known = {kernel.name}
        while open_names:
            name = open_names.pop()
            node = self.definitions.get(name)
            if name in known or node is None:
                continue
            known.add(name)
            is_helper = self.is_kernel(node) or isinstance(node, (ast.Assign, ast.AnnAssign) + IMPORTS)
            if is_helper and node not in found:
                found.append(node)
                open_names.extend(used(node))
        return sorted(found, key=lambda node: node.lineno)

    def launcher(self, name):
        """The innermost function that launches a kernel, as `name[grid](...)`."""
        for node in ast.walk(self.tree):
            if not isinstance(node, FUNCTIONS) or self.is_kernel(node):
                continue
            inner = [n for n in ast.walk(node) if isinstance(n, FUNCTIONS) and n is not node]
            if launches(node, name) and not any(launches(n, name) for n in inner):
                return self.text(node)
        return None

    def kernel(self, node):
        needs = self.needs(node)
        parts = [self.text(part) for part in needs] + [self.text(node)]
        glue = ["" if isinstance(part, IMPORTS) else "\n\n" for part in needs[1:] + [node]]
        code = parts[0] + "".join(blank + part for blank, part in zip(glue, parts[1:]))
        return {
            "name": node.name,
            "code": code,
            "needs": sorted({name for part in needs for name in bound(part)}),
            "docstring": ast.get_docstring(node),
            "launcher": self.launcher(node.name),
            "faithful": same(code, needs + [node]),
        }


def launches(function, name):
    calls = (n.func for n in ast.walk(function) if isinstance(n, ast.Call))
    return any(isinstance(f, ast.Subscript) and dotted(f.value) == name for f in calls)


def same(code, nodes):
    try:
        found = ast.parse(code).body
    except SyntaxError:
        return False
    return list(map(ast.dump, found)) == list(map(ast.dump, nodes))


def answer(code):
    module = Module(code)
    kernels = [node for node in ast.walk(module.tree) if module.is_kernel(node)]
    return {"kernels": [module.kernel(node) for node in sorted(kernels, key=lambda node: node.lineno)]}


for request in sys.stdin:
    try:
        reply = answer(json.loads(request)["code"])
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reply = {"error": "%s: %s" % (type(error).__name__, error)}
    sys.stdout.write(json.dumps(reply) + "\n")
    sys.stdout.flush()
