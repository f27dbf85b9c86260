"""Says what a piece of Python code is, whatever its names and its layout.

Reads JSON lines from standard input, `{"code": TEXT, "args": TEXT or null}`, and answers each with a line:
`{"functions": [DIGEST, ...], "module": DIGEST, "args": DIGEST or null}`, or `{"error": TEXT}` where the code is no Python.
Two pieces have equal digests if they differ only in the names they choose for themselves, in comments,
docstrings, annotations, quotes, spaces and line breaks, or in the order of keyword arguments.
"""

import ast
import builtins
import copy
import hashlib
import json
import sys

KNOWN = frozenset(dir(builtins)) | {"self", "cls"}
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
FUNCTIONS = DEFINITIONS[:2]


def parameters(function):
    args = function.args
    yield from getattr(args, "posonlyargs", [])
    yield from args.args
    if args.vararg:
        yield args.vararg
    yield from args.kwonlyargs
    if args.kwarg:
        yield args.kwarg


class Canon(ast.NodeTransformer):
    """Renames what the code names itself, in the order of first appearance."""

    def __init__(self, tree):
        self.names = {}
        self.attributes = set()
        # Definitions come first, so that a keyword argument is known before its call, and the order
        # of keyword arguments, which may differ, decides nothing.
        for node in ordered(tree):
            if isinstance(node, DEFINITIONS):
                self.give(node.name)
            if isinstance(node, FUNCTIONS + (ast.Lambda,)):
                for parameter in parameters(node):
                    self.give(parameter.arg)
            elif isinstance(node, ast.ClassDef):
                self.attributes.update(n.name for n in node.body if isinstance(n, FUNCTIONS))
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                self.attributes.add(node.attr)
        bound = {n.id for n in ordered(tree) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
        self.bound = bound | {n.name for n in ordered(tree) if isinstance(n, ast.ExceptHandler) and n.name}

    def give(self, name):
        if name in ("self", "cls") or (name.startswith("__") and name.endswith("__")):
            return name
        return self.names.setdefault(name, "v%d" % len(self.names))

    def rename(self, name):
        if name in self.names:
            return self.names[name]
        return self.give(name) if name in self.bound or name not in KNOWN else name

    def visit_Name(self, node):
        node.id = self.rename(node.id)
        return node

    def visit_Attribute(self, node):
        self.generic_visit(node)
        if node.attr in self.attributes:
            node.attr = self.give(node.attr)
        return node

    def visit_arg(self, node):
        node.arg = self.rename(node.arg)
        node.annotation = None
        return node

    def visit_keyword(self, node):
        node.arg = self.names.get(node.arg, node.arg)
        self.generic_visit(node)
        return node

    def visit_Call(self, node):
        node.keywords.sort(key=lambda k: (k.arg is None, self.names.get(k.arg, k.arg or "")))
        self.generic_visit(node)
        return node

    def visit_definition(self, node):
        node.name = self.rename(node.name)
        if isinstance(node, FUNCTIONS):
            node.returns = None
        node.body = without_docstring(node.body)
        self.generic_visit(node)
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = visit_definition

    def visit_ExceptHandler(self, node):
        node.name = node.name and self.rename(node.name)
        self.generic_visit(node)
        return node

    def visit_AnnAssign(self, node):
        self.generic_visit(node)
        node.annotation = ast.Constant(None)
        if node.value is None:
            return node
        return ast.Assign(targets=[node.target], value=node.value)

    def rename_all(self, node):
        node.names = [self.rename(name) for name in node.names]
        return node

    visit_Global = visit_Nonlocal = rename_all


def ordered(node):
    """All nodes in the order of the text."""
    yield node
    for child in ast.iter_child_nodes(node):
        yield from ordered(child)


def without_docstring(body):
    first = body[0] if body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        return body[1:] or [ast.Pass()]
    return body


def digest(tree):
    text = ast.dump(Canon(tree).visit(tree), annotate_fields=False)
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:32]


def answer(code, args):
    functions = [ast.Module([node], []) for node in ordered(ast.parse(code)) if isinstance(node, FUNCTIONS)]
    # A digest changes its tree, and functions may lie in one another.
    functions = [digest(copy.deepcopy(function)) for function in functions]
    module = ast.parse(code)
    module.body = without_docstring(module.body)
    arguments = None if args is None else digest(ast.parse("f(%s)" % args))
    return {"functions": functions, "module": digest(module), "args": arguments}


for line in sys.stdin:
    request = json.loads(line)
    try:
        reply = answer(request["code"], request["args"])
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reply = {"error": "%s: %s" % (type(error).__name__, error)}
    sys.stdout.write(json.dumps(reply) + "\n")
    sys.stdout.flush()
