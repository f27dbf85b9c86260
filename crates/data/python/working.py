"""Shows the working of lines: what their expressions come to, part by part.

Reads JSON lines from standard input and answers each with one. A request is
a list of lines that ran in one program and a list of the names that its
functions declare `global` or `nonlocal`. A line is
`[text, values, consumed, calls]`: the statement, the variables it names as
`{name: repr}`, the items its `for` loop has consumed (or null), and the calls of
the program's own functions that it made, each as `[name, value]` with null where
what came back is not known.
The answer is a list with, for each line, one list of steps before each of its
calls and one before its end. A step is a text such as `7 % 5 = 2`.

Only literals, operators and a list of harmless built-ins are evaluated, on
values made anew from their texts; nothing of the program itself runs. A part
whose value cannot be known this way is silently without steps.

The last part of the script that `known.py` begins. Works on every Python
from 3.8.
"""


class Line:
    """One line that ran."""

    def __init__(self, values, calls, rebound):
        self.texts = values
        self.rebound = rebound
        self.calls = calls
        self.variables = {}
        self.steps = []
        self.parts = [self.steps]
        self.length = 0
        self.work = 0
        self.is_remade = False

    def step(self, text, value):
        """Notes that `text` came to `value`."""
        if not is_shown(value):
            return
        text = f"{text} = {value!r}"
        if len(text) <= LONGEST_STEP:
            self.note([text])

    def note(self, texts):
        """Notes steps as they are."""
        for text in texts:
            self.length += len(text) + 2
            if self.length > LONGEST_WORKING:
                raise Stop
            self.steps.append(text)

    def call(self, names):
        """The value of a call of one of the program's own functions.

        The line's next call must be one of these names. If it is another, this was no such call, and what
        made the next one cannot be told.
        """
        if not self.calls:
            return UNKNOWN
        name, text = self.calls[0]
        if name not in names:
            raise Stop
        self.calls.pop(0)
        self.steps = []
        self.parts.append(self.steps)
        self.length = 0
        self.forget()
        if name == "__init__":
            return UNKNOWN
        if text is None:
            raise Stop
        return value_of(text)

    def forget(self):
        """What a call may have changed is known no longer."""
        for name in [*self.texts, *self.variables]:
            if name in self.rebound or not isinstance(self.name(name), (bool, int, float, str, tuple)):
                self.variables[name] = UNKNOWN

    def special(self):
        """The value of a special method of one of the program's objects."""
        return self.call([name for name, _ in self.calls[:1] if name.startswith("__") and name != "__init__"])

    # Statements.

    def run(self, statement, consumed):
        if isinstance(statement, (ast.If, ast.While, ast.Assert)):
            self.root(statement.test)
        elif isinstance(statement, ast.For):
            self.loop(statement, consumed)
        elif isinstance(statement, (ast.Assign, ast.AnnAssign)):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            if statement.value is not None:
                self.is_remade = is_remade(targets, statement.value)
                self.root(statement.value)
            for target in targets:
                self.target(target)
        elif isinstance(statement, ast.AugAssign):
            self.augmented(statement)
        elif isinstance(statement, ast.Return):
            if statement.value is not None:
                self.root(statement.value)
        elif isinstance(statement, ast.Raise):
            if isinstance(statement.exc, ast.Call):
                for argument in statement.exc.args:
                    self.value(argument)
        elif isinstance(statement, ast.Delete):
            for target in statement.targets:
                self.target(target)
        elif isinstance(statement, ast.Expr):
            node = statement.value
            if isinstance(node, (ast.Yield, ast.Await)):
                node = node.value
            if node is not None and (called_name(node) != "print" or self.calls):
                self.root(node)

    def loop(self, statement, consumed):
        node = statement.iter
        named = called_name(node)
        if named is not None and consumed and not self.is_builtin(named):
            return
        if named == "range" and not node.keywords and not any(isinstance(a, ast.Starred) for a in node.args):
            self.counted([self.value(argument) for argument in node.args], consumed or 0)
        elif named in ("enumerate", "zip"):
            values = [self.value(argument) for argument in node.args]
            # The second argument of `enumerate` is where it begins to count.
            self.indexed(values[:1] if named == "enumerate" else values, consumed or 0)
            if named == "enumerate" and len(values) == 2 and type(values[1]) is int:
                self.step(f"{values[1]} + {consumed or 0}", values[1] + (consumed or 0))
        else:
            value = self.value(node)
            if named == "reversed" and not isinstance(value, Unknown):
                value = list(itertools.islice(value, LARGEST_SIZE))
                self.step("reversed", value)
            self.indexed([value], consumed or 0)

    def indexed(self, values, consumed):
        """The next item of each of several values, and whether there is one."""
        if not values or not all(isinstance(value, (dict, list, set, str, tuple) + VIEWS) for value in values):
            return
        size = min(map(len, values))
        self.step("len", size)
        self.step(f"{consumed} < {size}", consumed < size)
        if consumed < size:
            for value in values:
                self.step(f"[{consumed}]", next(itertools.islice(value, consumed, None)))

    def counted(self, bounds, consumed):
        """The next number of a range."""
        if not bounds or not all(type(bound) is int for bound in bounds):
            return
        start, stop, stride = ([0] + bounds + [1])[:3] if len(bounds) == 1 else (bounds + [1])[:3]
        if stride != 1:
            self.step(f"{consumed} * {stride}", consumed * stride)
        offset = consumed * stride
        if len(bounds) > 1:
            self.step(f"{start} + {offset}", start + offset)
        now = start + offset
        symbol, compare = OPERATORS[ast.Gt if stride < 0 else ast.Lt]
        self.step(f"{now} {symbol} {stop}", compare(now, stop))

    def target(self, node):
        if isinstance(node, (ast.Tuple, ast.List)):
            for item in node.elts:
                self.target(item)
                # A later target may use it, with its new value.
                if isinstance(item, ast.Name):
                    self.variables[item.id] = UNKNOWN
        elif isinstance(node, ast.Subscript):
            self.owner(node.value)
            key = self.index(node.slice)
            owner = self.place(node.value)
            if isinstance(owner, dict) and not isinstance(key, (Unknown, slice)):
                self.contained(key, owner)
        elif isinstance(node, ast.Attribute):
            self.owner(node.value)

    def owner(self, node):
        """What is assigned into; a plain place needs no working."""
        while isinstance(node, ast.Attribute):
            node = node.value
        if not is_leaf(node):
            self.value(node)

    def place(self, node):
        """The value of a plain place, without steps."""
        if isinstance(node, ast.Name):
            return self.name(node.id)
        if isinstance(node, ast.Attribute):
            owner = self.place(node.value)
            if isinstance(owner, Instance):
                return owner.attributes.get(node.attr, UNKNOWN)
        return UNKNOWN

    def contained(self, item, values):
        """Whether an item is among those of a value."""
        self.step(f"{repr(item) if is_scalar(item) else ''} in".strip(), item in values)

    def augmented(self, statement):
        place = statement.target
        symbol, apply = OPERATORS[type(statement.op)]
        left = self.value(place)
        right = self.value(statement.value)
        self.operation(symbol, apply, left, right, True)

    # Expressions.

    def root(self, node):
        """The expression of a statement: its own value is told only if it is a number."""
        if isinstance(node, (ast.Tuple, ast.List, ast.Set, ast.Dict)):
            self.value(node)
        else:
            self.value(node, True)

    def value(self, node, is_root=False):
        self.work += 1
        if self.work > MOST_WORK:
            raise Stop
        method = getattr(self, "on_" + type(node).__name__.lower(), None)
        if method is None:
            raise Stop
        return method(node, is_root)

    def told(self, text, value, is_root):
        """Notes a step, of a statement's own expression only if it is small.

        A variable that is made anew from itself may stay as it is, which shows only beside the new value.
        """
        if value is None:
            return value
        if not is_root or isinstance(value, (int, float)) or self.is_remade:
            self.step(text, value)
        return value

    def name(self, name):
        if name in self.variables:
            return self.variables[name]
        if name not in self.texts:
            return UNKNOWN
        value = self.variables[name] = value_of(self.texts[name])
        return value

    def on_constant(self, node, _):
        return node.value

    def on_name(self, node, _):
        return self.name(node.id)

    def on_namedexpr(self, node, is_root):
        value = self.value(node.value, is_root)
        self.variables[node.target.id] = value
        return value

    def items(self, nodes):
        values = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                value = self.value(node.value)
                if not isinstance(value, (list, tuple, str, range)):
                    raise Stop
                values.extend(value)
            else:
                values.append(self.value(node))
        return values

    def on_list(self, node, _):
        return self.items(node.elts)

    def on_tuple(self, node, _):
        return tuple(self.items(node.elts))

    def on_set(self, node, _):
        values = self.items(node.elts)
        return set(values) if is_ordered(values) else UNKNOWN

    def on_dict(self, node, _):
        made = {}
        for key, value in zip(node.keys, node.values):
            if key is None:
                raise Stop
            key = self.value(key)
            made[key] = self.value(value)
        return made

    def on_joinedstr(self, node, is_root):
        parts = []
        for part in node.values:
            if isinstance(part, ast.Constant):
                parts.append(part.value)
                continue
            value = self.value(part.value)
            check(value)
            if not is_plain(value):
                raise Stop
            if part.conversion != -1:
                value = {"s": str, "r": repr, "a": ascii}[chr(part.conversion)](value)
            form = self.value(part.format_spec, True) if part.format_spec else ""
            if WIDE.search(form):
                raise Stop
            parts.append(format(value, form))
        return self.told("f", "".join(parts), is_root)

    def on_unaryop(self, node, is_root):
        if is_leaf(node):
            return ast.literal_eval(node)
        symbol, apply = OPERATORS[type(node.op)]
        operand = self.value(node.operand)
        if isinstance(operand, Unknown):
            return UNKNOWN
        check(operand)
        shown = repr(operand) if is_scalar(operand) else ""
        between = " " if symbol == "not" and shown else ""
        return self.told(f"{symbol}{between}{shown}", apply(operand), is_root)

    def on_binop(self, node, is_root):
        left = self.value(node.left)
        right = self.value(node.right)
        return self.operation(*OPERATORS[type(node.op)], left, right, is_root)

    def operation(self, symbol, apply, left, right, is_root):
        if isinstance(left, Instance) or isinstance(right, Instance):
            return self.special()
        if isinstance(left, Unknown) or isinstance(right, Unknown):
            if self.calls and self.calls[0][0].startswith("__"):
                raise Stop
            return UNKNOWN
        guard(symbol, left, right)
        self.note(by_hand(symbol, left, right))
        sides = [repr(side) if is_scalar(side) else "" for side in (left, right)]
        return self.told(f"{sides[0]} {symbol} {sides[1]}".strip(), apply(left, right), is_root)

    def on_compare(self, node, is_root):
        left = self.value(node.left)
        result = True
        for op, right in zip(node.ops, node.comparators):
            right = self.value(right)
            symbol, apply = OPERATORS[type(op)]
            if isinstance(op, (ast.Is, ast.IsNot)):
                # Only of these is there one: other values are made anew here.
                if right not in (None, True, False) or isinstance(left, Unknown):
                    raise Stop
                shown = repr(left) if is_scalar(left) else ""
                result = self.told(f"{shown} {symbol} {right!r}".strip(), apply(left, right), is_root)
            else:
                result = self.operation(symbol, apply, left, right, is_root)
            if isinstance(result, Unknown) and len(node.ops) > 1:
                raise Stop
            if not isinstance(result, Unknown) and not result:
                break
            left = right
        return result

    def truth(self, value):
        if isinstance(value, (Unknown, Instance)):
            raise Stop
        return bool(value)

    def on_boolop(self, node, is_root):
        value = None
        for part in node.values:
            value = self.value(part, is_root)
            if self.truth(value) == isinstance(node.op, ast.Or):
                break
        return value

    def on_ifexp(self, node, is_root):
        chosen = node.body if self.truth(self.value(node.test)) else node.orelse
        return self.value(chosen, is_root)

    def index(self, node):
        if isinstance(node, ast.Slice):
            bounds = [None if part is None else self.value(part) for part in (node.lower, node.upper, node.step)]
            if any(isinstance(bound, Unknown) for bound in bounds):
                return UNKNOWN
            return slice(*bounds)
        if type(node).__name__ == "Index":  # Before Python 3.9.
            node = node.value
        return self.value(node)

    def on_subscript(self, node, is_root):
        base = self.value(node.value)
        index = self.index(node.slice)
        if isinstance(base, Instance):
            return self.special()
        if isinstance(base, Unknown) or isinstance(index, Unknown):
            return UNKNOWN
        if isinstance(index, slice):
            check(base)
            shown = self.bounds(index, len(base))
            if index.step not in (None, 1):
                self.note(taken(base, index))
        else:
            shown = repr(index) if is_scalar(index) or isinstance(index, tuple) else ""
        return self.told(f"[{shown}]", base[index], is_root)

    def bounds(self, index, size):
        """A slice as it is shown: counted from the start where it can be."""
        for bound in (index.start, index.stop, index.step):
            if bound is not None and type(bound) is not int:
                raise Stop
        if index.step in (None, 1):
            start, stop, _ = index.indices(size)
            if (start, stop) == (index.start or 0, index.stop):
                return f"{start}:{stop}"
            self.step("len", size)
            for bound in (index.start, index.stop):
                if bound is not None and bound < 0:
                    self.step(f"{size} - {-bound}", size + bound)
            return f"{start}:{stop}"
        self.step("len", size)
        bounds = ["" if bound is None else repr(bound) for bound in (index.start, index.stop, index.step)]
        return ":".join(bounds)

    def on_attribute(self, node, is_root):
        base = self.value(node.value)
        if not isinstance(base, Instance) or node.attr not in base.attributes:
            # It may be a property.
            return self.call([node.attr]) if self.calls and self.calls[0][0] == node.attr else UNKNOWN
        return self.told(f".{node.attr}", base.attributes[node.attr], is_root)

    def on_lambda(self, node, _):
        parameters = node.args
        if parameters.defaults or parameters.vararg or parameters.kwarg or parameters.kwonlyargs:
            raise Stop
        names = [argument.arg for argument in parameters.args]

        def run(*values):
            with Scope(self, dict(zip(names, values))):
                return self.value(node.body)

        return run

    def arguments(self, node):
        values = self.items(node.args)
        named = {}
        for keyword in node.keywords:
            if keyword.arg is None:
                raise Stop
            named[keyword.arg] = self.value(keyword.value)
        return values, named

    def on_call(self, node, is_root):
        function = node.func
        if isinstance(function, ast.Name):
            if self.is_builtin(function.id):
                return self.builtin(function.id, node, is_root)
            if function.id == "super":
                return UNKNOWN
            names = [function.id] if hasattr(builtins, function.id) else [function.id, "__init__"]
        elif isinstance(function, ast.Attribute):
            base = self.value(function.value)
            allowed = METHODS.get(type(base), ())
            if function.attr in allowed:
                return self.method(base, function.attr, node, is_root)
            names = [function.attr]
        else:
            raise Stop
        self.arguments(node)
        return self.call(names)

    def is_builtin(self, name):
        return name in BUILTINS and name not in self.texts and all(name != called for called, _ in self.calls)

    def method(self, base, name, node, is_root):
        values, named = self.arguments(node)
        check(base)
        self.known(values, named)
        if name == "format" and WIDE.search(base):
            raise Stop
        if isinstance(base, dict) and name in ("get", "pop", "setdefault") and values:
            self.contained(values[0], base)
        if isinstance(base, list) and name == "remove" and len(values) == 1 and is_scalar(values[0]):
            self.step(f".index({values[0]!r})", base.index(values[0]))
        if isinstance(base, list) and name == "reverse":
            self.step("len", len(base))
            self.note(taken(base, slice(None, None, -1)))
        if isinstance(base, list) and name == "sort" and not named:
            self.note(insertion(base, False))
        result = getattr(base, name)(*values, **named)
        return self.told(f".{name}{self.shown(values)}", result, is_root)

    def known(self, values, named):
        for value in itertools.chain(values, named.values()):
            check(value)
            if isinstance(value, int) and abs(value) > LARGEST_SIZE * LARGEST_SIZE:
                raise Stop

    @staticmethod
    def shown(values):
        return f"({', '.join(map(repr, values))})" if values and all(map(is_scalar, values)) else ""

    def builtin(self, name, node, is_root):
        values, named = self.arguments(node)
        self.known(values, named)
        if name == "range" and len(range(*values)) > LARGEST_SIZE:
            raise Stop
        if name in ("list", "tuple", "set", "sum", "sorted") and values and isinstance(values[0], range):
            values[0] = list(values[0])
        if name in RUNNING and not named:
            return self.running(name, values, is_root)
        if name in ("str", "repr", "bool") and values and not is_plain(values[0]):
            raise Stop
        result = BUILTINS[name](*values, **named)
        if name == "sorted" and named.keys() <= {"reverse"} and isinstance(values[0], (list, tuple, str)):
            self.note(insertion(list(values[0]), named.get("reverse", False)))
        if name == "len":
            return self.told(name, result, is_root)
        if name == "set" and not is_ordered(result):
            return UNKNOWN
        return self.told(name + self.shown(values), result, is_root)

    def running(self, name, values, is_root):
        """A sum, or the largest or smallest of some items, from item to item."""
        many = len(values) == 1 or name == "sum"
        items = list(values[0]) if many else list(values)
        check(items)
        result = BUILTINS[name](items, *(values[1:] if many else ()))
        if not many and len(items) == 2:
            return self.told(name + self.shown(items), result, is_root)
        if len(values) == 1 and all(isinstance(item, int) for item in items) and len(items) <= 2 * MOST_ITEMS:
            return self.told(f"{name}({', '.join(map(repr, itertools.accumulate(items, RUNNING[name])))})", result, is_root)
        return self.told(name, result, is_root)

    # Comprehensions.

    def on_listcomp(self, node, is_root):
        return self.told("[]", list(self.each(node)), is_root)

    def on_setcomp(self, node, is_root):
        values = list(self.each(node))
        if not is_ordered(dict.fromkeys(values)):
            return UNKNOWN
        return self.told("set()", set(values), is_root)

    def on_dictcomp(self, node, is_root):
        return self.told("{}", dict(self.each(node)), is_root)

    def on_generatorexp(self, node, _):
        return self.each(node)

    def each(self, node):
        rounds = self.nested(node.generators)
        inner = self.variables
        while True:
            # A generator may be resumed where other variables are known.
            outer, self.variables = self.variables, dict(inner)
            try:
                if next(rounds, self) is self:
                    return
                if isinstance(node, ast.DictComp):
                    item = self.value(node.key), self.value(node.value)
                else:
                    item = self.value(node.elt)
            finally:
                inner, self.variables = self.variables, outer
            yield item

    def nested(self, generators):
        if not generators:
            yield
            return
        first = generators[0]
        items = self.value(first.iter)
        if isinstance(items, (Unknown, Instance)):
            raise Stop
        for count, item in enumerate(items):
            if count == MOST_ITEMS:
                raise Stop
            self.bind(first.target, item)
            if all(self.truth(self.value(test)) for test in first.ifs):
                for _ in self.nested(generators[1:]):
                    yield

    def bind(self, target, value):
        if isinstance(target, ast.Name):
            self.variables[target.id] = value
            self.step(target.id, value)
            return
        if not isinstance(target, ast.Tuple) or not isinstance(value, (tuple, list)) or len(target.elts) != len(value):
            raise Stop
        for part, item in zip(target.elts, value):
            self.bind(part, item)


class Scope:
    """Variables that are gone afterwards."""

    def __init__(self, line, variables):
        self.line = line
        self.variables = variables

    def __enter__(self):
        self.before = self.line.variables
        self.line.variables = {**self.before, **self.variables}

    def __exit__(self, *_):
        self.line.variables = self.before


def statement_of(text):
    """The statement that a line begins, or None."""
    text = text.strip()
    if text.startswith("elif "):
        text = text[2:]
    for whole in (text, text + "\n pass"):
        try:
            body = ast.parse(whole).body
            return body[0] if body else None
        except SyntaxError:
            continue
    return None


def workings(rebound, text, values, consumed, calls):
    """One list of steps before each call of the line and one before its end."""
    count = len(calls)
    line = Line(values, list(calls), rebound)
    try:
        statement = statement_of(text)
        if statement is not None:
            line.run(statement, consumed)
    except TimeoutError:
        raise
    except Exception:
        # An expression may fail in as many ways as Python knows; it failed in
        # the program too, or cannot be known.
        pass
    parts = line.parts[: count + 1]
    return parts + [[] for _ in range(count + 1 - len(parts))]


def too_slow(*_):
    raise TimeoutError


def limit_memory():
    """Not every system can, nor every user."""
    try:
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        wanted = 1 << 30
        resource.setrlimit(resource.RLIMIT_AS, (wanted if hard < 0 else min(wanted, hard), hard))
    except (OSError, ValueError):
        pass


def main():
    limit_memory()
    # A line is bounded by the work it may do; the timer is for what was not thought of.
    signal.signal(signal.SIGALRM, too_slow)
    for request in sys.stdin.buffer:
        lines, rebound = json.loads(request)
        answer = []
        try:
            signal.setitimer(signal.ITIMER_REAL, 60.0)
            for line in lines:
                answer.append(workings(rebound, *line))
            signal.setitimer(signal.ITIMER_REAL, 0)
        except TimeoutError:
            pass
        answer.extend([[] for _ in range(len(line[3]) + 1)] for line in lines[len(answer) :])
        json.dump(answer, sys.stdout)
        sys.stdout.write("\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
