"""Cuts functions out of modules, each with all that it needs, as programs of their own.

A program is the text as people wrote it, without docstrings: the function, and what it uses of its own
module and of other modules of its package. Code is parsed here, never run.  Part 1 of 3 of the harvester.
"""

import __future__
import ast
import builtins
import dis
import io
import json
import os
import sys
import tokenize
import warnings
from types import CodeType

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DEFINITIONS = FUNCTIONS + (ast.ClassDef,)
BUILTINS = frozenset(dir(builtins)) - {"__loader__", "__spec__", "copyright", "credits", "exit", "license", "quit"}
# What a module has without binding it, and what the programs have too.
GIVEN = frozenset(["__name__", "__doc__"])
# Not every version can say what is in its library.
LIBRARY = frozenset(getattr(sys, "stdlib_module_names", ())) or frozenset(
    "__future__ abc argparse array ast base64 binascii bisect calendar cmath codecs collections collections.abc colorsys"
    " configparser contextlib copy csv dataclasses datetime decimal difflib enum errno fnmatch fractions functools"
    " hashlib heapq hmac html inspect io ipaddress itertools json keyword locale logging math numbers operator os"
    " pathlib posixpath pprint quopri random re shlex statistics string stringprep struct sys textwrap time token"
    " tokenize traceback types typing unicodedata urllib uuid warnings weakref xml zlib".split()
)
# Modules whose answers nobody can foresee.
UNPREDICTABLE = frozenset("getpass gc locale platform random resource secrets socket ssl sysconfig tempfile threading time uuid zoneinfo".split())
# Methods and functions of others that tell the time.
CLOCKS = frozenset("now today utcnow localtime gmtime".split())
# Folders with code of other packages, under licences of their own.
VENDORED = frozenset("_vendor _vendored vendor vendored third_party thirdparty extern externals bundled node_modules blib2to3".split())
COPYLEFT = ("GNU General Public", "GNU Lesser General", "GNU Affero", "SPDX-License-Identifier: GPL", "SPDX-License-Identifier: LGPL",
            "SPDX-License-Identifier: AGPL", "Mozilla Public License")
MOST_BYTES = 2000000
MOST_LINES = 120
MOST_CHARS = 5000


class Refused(Exception):
    """The function cannot stand alone; the argument says why, in the words of `Rejection`."""


class Module:
    """A file, with the statements at its top level and the names that they bind."""

    def __init__(self, path):
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise Refused("file_too_long")
        try:
            encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
            text = io.TextIOWrapper(io.BytesIO(data), encoding).read()
        except (SyntaxError, ValueError, LookupError):
            raise Refused("not_text")
        try:
            self.tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise Refused("not_python")
        if any(words in text[:6000] for words in COPYLEFT):
            raise Refused("licence")
        self.lines = text.split("\n")
        self.bindings = {}
        self.has_star = False
        for number, statement in enumerate(self.tree.body):
            for name in bound_names(statement):
                self.bindings.setdefault(name, []).append(number)
            self.has_star |= isinstance(statement, ast.ImportFrom) and statement.names[0].name == "*"
        # Tables that are filled by statements of their own need these too.
        for number, statement in enumerate(self.tree.body):
            for name in changed_names(statement):
                if name in self.bindings and not self.is_imported(name):
                    self.bindings[name].append(number)
        self.uses = {}
        imports = [s for s in self.tree.body if isinstance(s, ast.ImportFrom) and s.module == "__future__"]
        self.flags = 0
        for alias in (alias for statement in imports for alias in statement.names):
            self.flags |= getattr(getattr(__future__, alias.name, None), "compiler_flag", 0)

    def is_imported(self, name):
        statements = [self.tree.body[number] for number in self.bindings[name]]
        return all(isinstance(statement, (ast.Import, ast.ImportFrom)) for statement in statements)

    def shares_line(self, number):
        """Whether a statement stands on a line with another one."""
        body = self.tree.body
        before = number > 0 and body[number - 1].end_lineno >= first_line(body[number])
        return before or number + 1 < len(body) and first_line(body[number + 1]) <= body[number].end_lineno

    def used_names(self, number):
        """The names that a statement takes from its module, and whether it has annotations with others."""
        if number not in self.uses:
            statement = self.tree.body[number]
            lazily = global_names(statement, self.flags | __future__.annotations.compiler_flag)
            is_annotated = not self.flags & __future__.annotations.compiler_flag and not (
                global_names(statement, self.flags) - lazily <= BUILTINS
            )
            self.uses[number] = lazily, is_annotated
        return self.uses[number]

    def text(self, number):
        """The lines of a statement without docstrings."""
        statement = self.tree.body[number]
        first, last = first_line(statement), statement.end_lineno
        dropped = set()
        replaced = {}
        for node in ast.walk(statement):
            if isinstance(node, DEFINITIONS):
                drop_docstring(node, self.lines, dropped, replaced)
        lines = [replaced.get(n, self.lines[n - 1]) for n in range(first, last + 1) if n not in dropped]
        return "\n".join(line.rstrip() for line in lines)


def first_line(statement):
    decorators = getattr(statement, "decorator_list", ())
    return min([statement.lineno] + [decorator.lineno for decorator in decorators])


def docstring(node):
    first = node.body[0] if node.body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        return first
    return None


def drop_docstring(node, lines, dropped, replaced):
    first = docstring(node)
    if first is None:
        return
    start, end = first.lineno, first.end_lineno
    # It has its lines for itself.
    before = lines[start - 1].encode("utf-8", "replace")[: first.col_offset]
    after = lines[end - 1].encode("utf-8", "replace")[first.end_col_offset :]
    if before.strip() or after.strip():
        return
    while len(node.body) > 1 and end < len(lines) and not lines[end].strip():
        end += 1
    dropped.update(range(start, end + 1))
    if len(node.body) == 1:
        dropped.discard(start)
        replaced[start] = before.decode() + "pass"


def bound_names(statement):
    """The names that a statement binds in its module."""
    names, left = [], [statement]
    while left:
        node = left.pop()
        if isinstance(node, DEFINITIONS):
            names.append(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names.extend(alias.asname or alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.Name):
            if not isinstance(node.ctx, ast.Load):
                names.append(node.id)
        elif not isinstance(node, (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
            left.extend(ast.iter_child_nodes(node))
    return names


def changed_names(statement):
    """Names whose objects a statement at the top level changes: `a[i] = x`, `a.b = x`, `a.append(x)`."""
    if isinstance(statement, DEFINITIONS + (ast.Import, ast.ImportFrom)):
        return
    for node in ast.walk(statement):
        base = None
        if isinstance(node, (ast.Subscript, ast.Attribute)) and not isinstance(node.ctx, ast.Load):
            base = node.value
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute):
            base = node.value.func.value
        while isinstance(base, (ast.Subscript, ast.Attribute)):
            base = base.value
        if isinstance(base, ast.Name):
            yield base.id


def global_names(statement, flags):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            code = compile(ast.Module([statement], []), "module", "exec", flags, True)
        except (SyntaxError, ValueError, RecursionError):
            raise Refused("not_python")
    spoken = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
    found = set()
    left = [code]
    while left:
        part = left.pop()
        names = spoken.intersection(part.co_names)
        names.difference_update(part.co_varnames, part.co_cellvars, part.co_freevars)
        if not names <= BUILTINS:
            # Some may be attributes that elsewhere are variables.
            names &= loaded_names(part)
        found |= names
        left.extend(constant for constant in part.co_consts if isinstance(constant, CodeType))
    return found


def loaded_names(code):
    """Global names that code takes; in a class body not those that it binds."""
    loaded, stored = set(), set()
    for instruction in dis.get_instructions(code):
        kind = instruction.opname
        if kind.startswith("LOAD") and ("GLOBAL" in kind or "NAME" in kind):
            loaded.add(instruction.argval)
        elif kind == "STORE_NAME" and code.co_name != "<module>":
            stored.add(instruction.argval)
    return loaded - stored


class Package:
    """Files of one package or library below a folder, read when they are needed."""

    def __init__(self, root):
        self.root = root
        self.modules = {}

    def module(self, path):
        if path not in self.modules:
            try:
                self.modules[path] = Module(os.path.join(self.root, path))
            except (Refused, OSError) as error:
                self.modules[path] = error
        module = self.modules[path]
        if isinstance(module, OSError):
            raise Refused("not_text")
        if isinstance(module, Refused):
            raise module
        return module

    def find(self, path, name, level):
        """The file of a module that another one imports, if it is of this package."""
        if level:
            folder = path
            for _ in range(level):
                folder = os.path.dirname(folder)
            bases = [folder]
        else:
            # The folder from which the package is imported is one of those above the file.
            bases, folder = [], os.path.dirname(path)
            while folder:
                folder = os.path.dirname(folder)
                bases.append(folder)
            bases = [base for base in bases + [""] if not os.path.isfile(os.path.join(self.root, base, "__init__.py"))]
        inner = (name or "").replace(".", "/")
        for base in bases:
            for tail in (inner + ".py", inner + "/__init__.py") if inner else ("__init__.py",):
                found = os.path.join(base, tail)
                if os.path.isfile(os.path.join(self.root, found)):
                    if not VENDORED.isdisjoint(found.split("/")):
                        raise Refused("foreign_import")
                    return os.path.normpath(found)
        return None


class Slice:
    """A function and what it needs."""

    def __init__(self, package, path, name):
        self.package = package
        self.name = name
        # Statements by file, in the order in which the files are needed first.
        self.statements = {}
        self.order = []
        self.imports = []
        self.aliases = {}
        # Where each global name of the program comes from.
        self.origins = {}
        self.needed = set()
        self.is_annotated = False
        self.need(path, name)

    def need(self, path, name):
        if (path, name) in self.needed:
            return
        self.needed.add((path, name))
        module = self.package.module(path)
        if name not in module.bindings:
            raise Refused("unknown_name")
        is_first = path not in self.statements
        self.statements.setdefault(path, set())
        for number in module.bindings[name]:
            statement = module.tree.body[number]
            if isinstance(statement, (ast.Import, ast.ImportFrom)):
                self.need_import(path, statement, name)
            elif number not in self.statements[path]:
                for bound in bound_names(statement):
                    self.claim(bound, (path, bound))
                self.need_statement(path, module, number)
        if is_first:
            # What it needs of other files stands before it.
            self.order.append(path)

    def claim(self, name, origin):
        if self.origins.setdefault(name, origin) != origin:
            raise Refused("name_clash")

    def need_statement(self, path, module, number):
        self.statements[path].add(number)
        if sum(map(len, self.statements.values())) > 60:
            raise Refused("program_too_long")
        if module.shares_line(number):
            raise Refused("not_understood")
        for inner in ast.walk(module.tree.body[number]):
            check_part(inner)
        names, is_annotated = module.used_names(number)
        self.is_annotated |= is_annotated
        for name in sorted(names):
            if name in module.bindings:
                self.need(path, name)
            elif module.has_star or name not in BUILTINS and name not in GIVEN:
                raise Refused("unknown_name")
            else:
                if name == "id":
                    raise Refused("unpredictable")
                self.claim(name, ("builtins", name))

    def need_import(self, path, statement, name):
        for alias in statement.names:
            if (alias.asname or alias.name.partition(".")[0]) != name:
                continue
            shown = alias.name + (" as " + alias.asname if alias.asname else "")
            if isinstance(statement, ast.Import):
                if not is_library(alias.name):
                    raise Refused("foreign_import")
                self.add_import(name, "import " + shown)
            elif statement.module == "__future__":
                self.add_import(name, "from __future__ import " + shown)
            elif not statement.level and is_library(statement.module):
                self.add_import(name, "from %s import %s" % (statement.module, shown))
            else:
                self.need_of_package(path, statement, alias, name)

    def need_of_package(self, path, statement, alias, name):
        found = self.package.find(path, statement.module, statement.level)
        if found is None or found == path:
            raise Refused("foreign_import")
        if alias.name != name:
            self.claim(name, ("alias", found, alias.name))
            line = "%s = %s" % (name, alias.name)
            if line not in self.aliases.setdefault(found, []):
                self.aliases[found].append(line)
        self.need(found, alias.name)

    def add_import(self, name, line):
        self.claim(name, ("import", line))
        if line.split()[1].partition(".")[0] in UNPREDICTABLE:
            raise Refused("unpredictable")
        if line not in self.imports:
            self.imports.append(line)

    def text(self):
        for module in map(self.package.module, self.order):
            if module.flags & __future__.annotations.compiler_flag:
                self.is_annotated = True
        if self.is_annotated:
            self.add_import("annotations", "from __future__ import annotations")
        lines = sorted(self.imports, key=lambda line: (not line.startswith("from __future__"), line))
        parts = ["\n".join(lines)] if lines else []
        for path in self.order:
            module = self.package.module(path)
            parts.extend(module.text(number) for number in sorted(self.statements[path]))
            parts.extend(self.aliases.get(path, ()))
        return joined(parts)


def joined(parts):
    """Statements one after the other; an empty line stands before and after those of several lines."""
    text, before = "", ""
    for part in parts:
        if text:
            text += "\n\n" if "\n" in part or "\n" in before else "\n"
        text, before = text + part, part
    return text + "\n"


def check_part(node):
    """Refuses a part of a statement that reaches for other packages, or for what nobody can foresee."""
    names = []
    if isinstance(node, ast.ImportFrom):
        names = [None if node.level else node.module]
    elif isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.Attribute) and node.attr in CLOCKS:
        raise Refused("unpredictable")
    for name in names:
        if not is_library(name):
            raise Refused("foreign_import")
        if name.partition(".")[0] in UNPREDICTABLE:
            raise Refused("unpredictable")


def is_library(name):
    return bool(name) and name.partition(".")[0] in LIBRARY


def sliced(package, path, name):
    """The text of the program, or `Refused`."""
    try:
        text = Slice(package, path, name).text()
    except RecursionError:
        raise Refused("program_too_long")
    if text.count("\n") > MOST_LINES or len(text) > MOST_CHARS:
        raise Refused("program_too_long")
    try:
        compile(text, "program.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError):
        raise Refused("not_python")
    return text
