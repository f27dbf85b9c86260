"""What values a function is likely to take.  Part 2 of 3 of the harvester.

A kind is written as a small expression: `int`, `list[str]`, `union[int,none]`. It follows from the annotation
of a parameter, or else from its default, its name and what is done with it.
"""

# Annotations by the last part of their names.
PLAIN = dict(
    int="int", float="float", str="str", Text="str", AnyStr="str", LiteralString="str", bytes="bytes", bytearray="bytes",
    bool="bool", object="any", Any="any", Number="number", Real="number", Integral="int", Hashable="any",
    Callable="callable", T="any", Literal="any", SupportsInt="int", SupportsFloat="number", complex="number",
)
LISTS = frozenset(
    "list List Sequence MutableSequence Iterable Iterator Collection Reversible Container Sized Generator deque Deque".split()
)
SETS = frozenset("set Set FrozenSet frozenset AbstractSet MutableSet".split())
DICTS = frozenset("dict Dict Mapping MutableMapping DefaultDict defaultdict OrderedDict Counter".split())

METHODS = {kind.__name__: frozenset(dir(kind)) - frozenset(dir(object)) for kind in (str, list, dict, set, bytes)}
CHECKED = dict(int="int", float="float", str="str", bytes="bytes", bool="bool", list="list[any]", tuple="tuple[any,...]",
               dict="dict[str,any]", set="set[any]", string_types="str", basestring="str", integer_types="int")
OF_BUILTINS = dict(
    abs="number", round="number", divmod="int", pow="int", chr="int", bin="int", hex="int", oct="int", ord="char", range="int",
    sum="list[number]", min="list[number]", max="list[number]", sorted="list[any]", any="list[bool]", all="list[bool]",
    enumerate="list[any]", reversed="list[any]", zip="list[any]", set="list[any]", list="list[any]", tuple="list[any]",
    dict="dict[str,any]", iter="list[any]", map="list[any]", filter="list[any]", int="str", float="str", len="list[any]",
    bytes="bytes", memoryview="bytes",
)
INT_NAMES = frozenset(
    "n i j k m x y z a b c num number count size width height length start end stop step index idx pos position limit depth"
    " level year month day hour minute second seconds base bits precision digits value val age total maximum minimum max_"
    " min_ low high lo hi left right offset port row col rows cols amount places mod exp radius".split()
)
TEXT_NAMES = frozenset(
    "s t text string str_ st name word line path key prefix suffix sep delimiter char ch c title label msg message source src"
    " url uri host filename fname pattern data_str content body value_str query token tag html xml code version input_str sentence"
    " needle haystack expr expression spec fmt format email ident identifier lang phrase raw".split()
)
LIST_NAMES = frozenset(
    "xs ys lst list_ l items values seq sequence iterable it array arr nums numbers elements data collection args lines words"
    " tokens keys parts rows_ names strings chunks entries vals seq1 seq2 list1 list2 iter_ points options".split()
)
DICT_NAMES = frozenset("d dct dict_ mapping map_ config settings kwargs params attrs options_ env headers obj json_data".split())
FLAG_PREFIXES = ("is_", "has_", "use_", "with_", "ignore_", "allow_", "include_", "strict", "reverse", "flag", "sort_", "keep_", "strip")


def kind_of_annotation(node):
    """The kind, or None where it is not one that can be drawn."""
    if isinstance(node, ast.Constant):
        if node.value is None:
            return "none"
        if isinstance(node.value, str):
            try:
                return kind_of_annotation(ast.parse(node.value, mode="eval").body)
            except (SyntaxError, ValueError):
                return None
        return "any"
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return union([kind_of_annotation(node.left), kind_of_annotation(node.right)])
    if isinstance(node, ast.Subscript):
        return kind_of_subscript(node)
    name = getattr(node, "id", None) or getattr(node, "attr", None)
    if name in LISTS:
        return "list[any]"
    if name in SETS:
        return "set[any]"
    if name in DICTS:
        return "dict[str,any]"
    if name in ("tuple", "Tuple"):
        return "tuple[any,...]"
    return PLAIN.get(name) or ("any" if name and (len(name) < 3 or name.endswith("T")) else None)


def kind_of_subscript(node):
    name = getattr(node.value, "id", None) or getattr(node.value, "attr", None)
    inner = getattr(node.slice, "value", node.slice) if type(node.slice).__name__ == "Index" else node.slice
    parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
    if name == "Literal":
        return union([kind_of_value(getattr(part, "value", None)) for part in parts])
    if name in ("Callable", "Type", "type"):
        return "callable" if name == "Callable" else None
    is_open = bool(parts) and isinstance(parts[-1], ast.Constant) and parts[-1].value is ...
    kinds = [kind_of_annotation(part) or "any" for part in (parts[:-1] if is_open else parts)]
    if not kinds:
        return "tuple[any,...]" if name in ("tuple", "Tuple") else None
    if name == "Optional":
        return union([kinds[0], "none"])
    if name == "Union":
        return union([kind_of_annotation(part) for part in parts])
    if name in ("Annotated", "Final", "ClassVar", "Required"):
        return kinds[0]
    if name in ("tuple", "Tuple"):
        return "tuple[%s]" % ",".join(kinds + (["..."] if is_open else []))
    if name in LISTS:
        return "list[%s]" % kinds[0]
    if name in SETS:
        return "set[%s]" % kinds[0]
    if name in DICTS:
        return "dict[%s]" % ",".join((kinds + ["any"])[:2])
    return None


def union(kinds):
    kinds = list(dict.fromkeys(kind for kind in kinds if kind))
    return kinds[0] if len(kinds) == 1 else "union[%s]" % ",".join(kinds) if kinds else None


def kind_of_value(value):
    """The kind of a constant."""
    name = type(value).__name__
    if value is None:
        return "none"
    if name in ("int", "float", "str", "bytes", "bool"):
        return name
    if name in ("list", "set", "frozenset"):
        return "%s[%s]" % ("list" if name == "list" else "set", union(sorted(map(kind_of_value, value))) or "any")
    if name == "tuple":
        return "tuple[%s]" % ",".join(map(kind_of_value, value)) if value else "tuple[any,...]"
    if name == "dict":
        return "dict[str,any]"
    return "any"


def literal(node):
    """The value of a literal, or LookupError; only values whose text means the same again."""
    try:
        value = ast.literal_eval(node)
        text = repr(value)
        if len(text) > 400 or " at 0x" in text or ast.literal_eval(text) != value:
            raise LookupError
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        raise LookupError
    return value


class Uses(ast.NodeVisitor):
    """What a function does with its parameters."""

    def __init__(self, names):
        self.kinds = {name: [] for name in names}
        # Loop variables over a parameter: what is known of them is known of its items.
        self.items = {}

    def note(self, node, kind):
        if not isinstance(node, ast.Name) or kind is None:
            return
        if node.id in self.kinds:
            self.kinds[node.id].append(kind)
        elif node.id in self.items and "[" not in kind:
            self.kinds[self.items[node.id]].insert(0, "list[%s]" % kind)

    def visit_Attribute(self, node):
        for kind, methods in METHODS.items():
            if node.attr in methods:
                self.note(node.value, dict(list="list[any]", dict="dict[str,any]", set="set[any]").get(kind, kind))
                break
        else:
            self.note(node.value, "object")
        self.generic_visit(node)

    def visit_For(self, node):
        self.over(node.iter, node.target)
        self.generic_visit(node)

    def visit_comprehension(self, node):
        self.over(node.iter, node.target)
        self.generic_visit(node)

    def over(self, iterated, target):
        self.note(iterated, "list[any]")
        if isinstance(iterated, ast.Name) and iterated.id in self.kinds and isinstance(target, ast.Name):
            self.items[target.id] = iterated.id

    def visit_Subscript(self, node):
        index = getattr(node.slice, "value", node.slice) if type(node.slice).__name__ == "Index" else node.slice
        if isinstance(index, ast.Slice):
            self.note(node.value, "union[str,list[any]]")
        elif isinstance(index, ast.Constant) and isinstance(index.value, str):
            self.note(node.value, "dict[str,any]")
        else:
            self.note(node.value, "list[any]")
            self.note(index, "int")
        self.generic_visit(node)

    def visit_BinOp(self, node):
        if isinstance(node.op, ast.Mod) and isinstance(node.left, ast.Constant) and isinstance(node.left.value, str):
            self.note(node.right, "any")
        else:
            for one, other in ((node.left, node.right), (node.right, node.left)):
                if isinstance(other, ast.Constant):
                    self.note(one, "number" if kind_of_value(other.value) == "int" else kind_of_value(other.value))
                elif not isinstance(node.op, (ast.Add, ast.Mod)):
                    self.note(one, "number")
        self.generic_visit(node)

    def visit_Compare(self, node):
        sides = [node.left] + node.comparators
        for at, op in enumerate(node.ops):
            left, right = sides[at], sides[at + 1]
            if isinstance(op, (ast.In, ast.NotIn)):
                self.note(right, "union[str,list[any]]")
                try:
                    some = list(literal(right))
                    self.note(left, kind_of_value(some[0]) if some else None)
                except (LookupError, TypeError):
                    pass
            elif not isinstance(op, (ast.Is, ast.IsNot)):
                for one, other in ((left, right), (right, left)):
                    if isinstance(other, ast.Constant):
                        self.note(one, kind_of_value(other.value))
        self.generic_visit(node)

    def visit_Call(self, node):
        name = getattr(node.func, "id", None)
        self.note(node.func, "callable")
        if name == "isinstance" and len(node.args) == 2:
            kinds = node.args[1].elts if isinstance(node.args[1], ast.Tuple) else [node.args[1]]
            for kind in kinds:
                self.note(node.args[0], CHECKED.get(getattr(kind, "id", getattr(kind, "attr", None))))
        elif name in OF_BUILTINS:
            for argument in node.args:
                self.note(argument, OF_BUILTINS[name])
        elif isinstance(node.func, ast.Attribute):
            self.note_method(node)
        self.generic_visit(node)

    def note_method(self, node):
        method = node.func.attr
        if method == "join":
            kinds = ["list[str]"]
        elif method in METHODS["str"]:
            kinds = ["str"]
        elif isinstance(node.func.value, ast.Name) and node.func.value.id == "re":
            kinds = ["str"]
        elif isinstance(node.func.value, ast.Name) and node.func.value.id == "math":
            kinds = ["number"]
        else:
            return
        for argument in node.args:
            self.note(argument, kinds[0])


def kind_of_name(name):
    name = name.lower().strip("_") or name
    if name in DICT_NAMES:
        return "dict[str,any]"
    if name in INT_NAMES:
        return "int"
    if name in TEXT_NAMES:
        return "str"
    if name in LIST_NAMES:
        return "list[any]"
    if name.startswith(FLAG_PREFIXES):
        return "bool"
    for ending, kind in (("s", "list[any]"), ("name", "str"), ("text", "str"), ("string", "str"), ("str", "str"), ("path", "str"),
                         ("size", "int"), ("count", "int"), ("index", "int"), ("list", "list[any]"), ("dict", "dict[str,any]")):
        if name.endswith(ending) and len(name) > len(ending):
            return kind
    return None


def parameters(function):
    """Each parameter with its kinds, likeliest first; an annotated one has one kind."""
    args = function.args
    plain = list(getattr(args, "posonlyargs", [])) + args.args
    defaults = [None] * (len(plain) - len(args.defaults)) + args.defaults
    listed = [(arg, default, "plain") for arg, default in zip(plain, defaults)]
    if args.vararg:
        listed.append((args.vararg, None, "rest"))
    listed.extend((arg, default, "named") for arg, default in zip(args.kwonlyargs, args.kw_defaults))
    uses = Uses([arg.arg for arg, _, _ in listed])
    for statement in function.body:
        uses.visit(statement)
    return [parameter(arg, default, place, uses) for arg, default, place in listed]


def parameter(arg, default, place, uses):
    kinds, is_typed = [], False
    if arg.annotation is not None:
        kind = kind_of_annotation(arg.annotation)
        # Of a type that cannot be drawn.
        kinds, is_typed = [kind] if kind else [], True
    else:
        used = uses.kinds[arg.arg]
        kinds = sorted(set(used), key=lambda kind: (-used.count(kind), kind))
        if default is not None:
            try:
                of_default = kind_of_value(literal(default))
                if of_default not in ("none", "any"):
                    kinds.insert(0, of_default)
            except LookupError:
                pass
        kinds.append(kind_of_name(arg.arg) or "any")
    kinds = [kind for kind in dict.fromkeys(kinds) if kind != "object"][:5]
    is_object = "object" in uses.kinds[arg.arg] and not is_typed
    return {
        "name": arg.arg,
        "place": place,
        "has_default": default is not None or place == "rest",
        "kinds": kinds,
        "is_typed": is_typed,
        "is_object": is_object,
    }


def constants(statements):
    """Short texts and numbers in the code: what its conditions look for."""
    texts, numbers = [], []
    for node in (node for statement in statements for node in ast.walk(statement)):
        value = node.value if isinstance(node, ast.Constant) else None
        if type(value) is str and 0 < len(value) <= 12 and value.isprintable():
            texts.append(value)
        elif type(value) is int and 1 < abs(value) < 10000:
            numbers.append(value)
    return list(dict.fromkeys(texts))[:24], list(dict.fromkeys(numbers))[:24]
