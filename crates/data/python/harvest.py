"""Answers with the functions of files and the calls of them that are written down somewhere.  Part 3 of 3.

Reads JSON lines: `{"root": FOLDER, "calls": [FILE, ...]}` begins a package, whose
docstrings and tests are looked through for calls; `{"recorded": {FILE: {FUNCTION: [ARGUMENTS, ...]}}}` adds what
`suite.py` has seen, and `{"file": FILE}` asks for the functions of one.
"""

import doctest

MOST_CALLS = 24
NO_TARGETS = ("test", "_test", "main", "setup", "teardown")


class Calls:
    """Arguments with which functions are called in tests and docstrings, by the function's name."""

    def __init__(self):
        self.found = {}
        # Of functions in files, from running tests.
        self.recorded = {}

    def add(self, name, args):
        known = self.found.setdefault(name, {})
        if args not in known and len(known) < MOST_CALLS:
            known[args] = None

    def of(self, path, name):
        known = self.recorded.get(path, {}).get(name, [])
        return list(dict.fromkeys(known + list(self.found.get(name, ()))))[:MOST_CALLS]

    def look_at_file(self, module):
        for node in ast.walk(module.tree):
            if isinstance(node, DEFINITIONS + (ast.Module,)):
                first = docstring(node)
                if first is not None and ">>>" in first.value.value:
                    self.look_at_examples(first.value.value)
            if isinstance(node, FUNCTIONS) and node.name.startswith("test"):
                for values in parametrised(node):
                    self.look_at(node, values)

    def look_at_examples(self, text):
        try:
            examples = doctest.DocTestParser().get_examples(text)
        except ValueError:
            return
        values = {}
        for example in examples:
            try:
                tree = ast.parse(example.source)
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                continue
            self.look_at(tree, values)
            values.update(assigned(tree))

    def look_at(self, tree, values):
        values = dict(values, **assigned(tree))
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            name = called_name(node.func, values)
            try:
                given = [repr(value_in(arg, values)) for arg in node.args]
                given += ["%s=%r" % (word.arg, value_in(word.value, values)) for word in node.keywords if named(word)]
            except LookupError:
                continue
            if name:
                self.add(name, ", ".join(given))


def called_name(function, values):
    """The name of a function that is called by its name, or as that of a module; not of a method of a value."""
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        return None if function.value.id in values or function.value.id in ("self", "cls") else function.attr
    return getattr(function, "id", None)


def named(keyword):
    if keyword.arg is None:
        raise LookupError
    return True


def value_in(node, values):
    """The value of a literal, or of a name that is bound to one."""
    if isinstance(node, ast.Name):
        return values[node.id]
    return literal(node)


def assigned(tree):
    """Names that are bound once, to a literal."""
    counts, values = {}, {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            counts[node.id] = counts.get(node.id, 0) + 1
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            try:
                values[node.targets[0].id] = literal(node.value)
            except LookupError:
                pass
    return {name: value for name, value in values.items() if counts.get(name) == 1}


def parametrised(function):
    """The values of a test's parameters, for each time that pytest would run it."""
    rows = [{}]
    for decorator in function.decorator_list:
        call = decorator if isinstance(decorator, ast.Call) else None
        if call is None or getattr(call.func, "attr", None) != "parametrize" or len(call.args) < 2:
            continue
        try:
            names = literal(call.args[0])
            names = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
        except (LookupError, TypeError):
            continue
        listed = getattr(call.args[1], "elts", ())
        found = []
        for item in listed:
            try:
                value = literal(item)
                found.append(dict(zip(names, [value] if len(names) == 1 else value)))
            except (LookupError, TypeError):
                continue
        rows = [dict(row, **more) for row in rows for more in found][:MOST_CALLS] or rows
    return rows


def described(package, path, statement, calls):
    source = sliced(package, path, statement.name)
    texts, numbers = constants(ast.parse(source).body)
    return {
        "name": statement.name,
        "line": statement.lineno,
        "source": source,
        "parameters": parameters(statement),
        "calls": calls.of(path, statement.name),
        "texts": texts,
        "numbers": numbers,
    }


def functions(package, path, calls):
    """The functions of a file that can stand alone, and how many others cannot, by reason."""
    refused, found = {}, []

    def refuse(error):
        reason = str(error)
        refused[reason] = refused.get(reason, 0) + 1

    try:
        module = package.module(path)
    except Refused as error:
        refuse(error)
        return {"functions": found, "refused": refused}
    for number, statement in enumerate(module.tree.body):
        if not isinstance(statement, ast.FunctionDef) or statement.name.startswith(NO_TARGETS):
            continue
        if module.bindings[statement.name][-1] != number:
            # Another one takes its place.
            continue
        try:
            found.append(described(package, path, statement, calls))
        except Refused as error:
            refuse(error)
        except Exception:
            # Code takes forms that nobody foresees; one function is not worth a build.
            refuse("not_understood")
    return {"functions": found, "refused": refused}


def begin(request):
    package, calls = Package(request["root"]), Calls()
    for path in request["calls"]:
        try:
            calls.look_at_file(package.module(path))
        except Exception:
            # The file is counted where its functions are asked for.
            continue
    return package, calls


def answer_all():
    package = calls = None
    sys.setrecursionlimit(3000)
    for line in sys.stdin:
        request = json.loads(line)
        if "root" in request:
            package, calls = begin(request)
            reply = None
        elif "recorded" in request:
            calls.recorded = request["recorded"]
            reply = None
        else:
            reply = functions(package, request["file"], calls)
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()


warnings.simplefilter("ignore")
answer_all()
