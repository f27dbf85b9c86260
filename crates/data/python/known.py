"""Values that are known from their texts, and what may be done with them.

The first part of the script that `longhand.py` goes on with and `working.py` ends; they run as one.
"""
import ast
import builtins
import itertools
import json
import operator
import re
import resource
import signal
import sys

LONGEST_STEP = 60
# Characters of the working of one frame. A model writes a token for each at
# most, and is stopped at 640.
LONGEST_WORKING = 620
MOST_ITEMS = 10
LARGEST_SIZE = 2000
LARGEST_INT = 1 << 256
# Expressions that are evaluated for one line.
MOST_WORK = 2000
# A width or precision that would pad a text to thousands of characters.
WIDE = re.compile(r"\d{4}")


class Stop(Exception):
    """The working cannot be followed any further."""


class Unknown:
    """A value that is not known."""


UNKNOWN = Unknown()


class Instance:
    """An object of one of the program's own classes."""

    def __init__(self, name, attributes):
        self.name = name
        self.attributes = attributes

    def __repr__(self):
        shown = ", ".join(f"{k}={v!r}" for k, v in self.attributes.items())
        return f"{self.name}({shown})"


OPERATORS = {
    ast.Add: ("+", operator.add),
    ast.Sub: ("-", operator.sub),
    ast.Mult: ("*", operator.mul),
    ast.Div: ("/", operator.truediv),
    ast.FloorDiv: ("//", operator.floordiv),
    ast.Mod: ("%", operator.mod),
    ast.Pow: ("**", operator.pow),
    ast.LShift: ("<<", operator.lshift),
    ast.RShift: (">>", operator.rshift),
    ast.BitAnd: ("&", operator.and_),
    ast.BitOr: ("|", operator.or_),
    ast.BitXor: ("^", operator.xor),
    ast.Eq: ("==", operator.eq),
    ast.NotEq: ("!=", operator.ne),
    ast.Lt: ("<", operator.lt),
    ast.LtE: ("<=", operator.le),
    ast.Gt: (">", operator.gt),
    ast.GtE: (">=", operator.ge),
    ast.Is: ("is", operator.is_),
    ast.IsNot: ("is not", operator.is_not),
    ast.In: ("in", lambda a, b: a in b),
    ast.NotIn: ("not in", lambda a, b: a not in b),
    ast.USub: ("-", operator.neg),
    ast.UAdd: ("+", operator.pos),
    ast.Invert: ("~", operator.invert),
    ast.Not: ("not", operator.not_),
}

BUILTINS = {
    name: getattr(builtins, name)
    for name in (
        "abs all any bin bool chr dict divmod enumerate filter float hex int len list map max min oct "
        "ord range repr reversed round set sorted str sum tuple zip"
    ).split()
}

METHODS = {
    str: "capitalize casefold center count endswith find format index isalnum isalpha isascii isdecimal isdigit "
    "isidentifier islower isnumeric isprintable isspace istitle isupper join ljust lower lstrip partition replace rfind "
    "rindex rjust rpartition rsplit rstrip split splitlines startswith strip swapcase title upper zfill",
    list: "append clear copy count extend index insert pop remove reverse sort",
    tuple: "count index",
    dict: "clear copy get items keys pop popitem setdefault update values",
    set: "add clear copy difference discard intersection isdisjoint issubset issuperset pop remove "
    "symmetric_difference union update",
    int: "bit_length",
    float: "is_integer",
}
METHODS = {kind: set(names.split()) for kind, names in METHODS.items()}

VIEWS = (type({}.keys()), type({}.values()), type({}.items()))

RUNNING = {"sum": operator.add, "max": max, "min": min}


def value_of(text):
    """The value that a text shows, made anew."""
    try:
        return _value(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return UNKNOWN


def _value(node):
    if isinstance(node, ast.Constant) and node.value is not ...:
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    if isinstance(node, (ast.List, ast.Tuple)):
        items = [_value(item) for item in node.elts]
        return items if isinstance(node, ast.List) else tuple(items)
    if isinstance(node, ast.Dict):
        return {_value(k): _value(v) for k, v in zip(node.keys, node.values)}
    if isinstance(node, ast.Set):
        items = [_value(item) for item in node.elts]
        if not is_ordered(items):
            raise ValueError
        return set(items)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args:
        if node.func.id == "set" and not node.keywords:
            return set()
        if node.func.id not in BUILTINS:
            return Instance(node.func.id, {k.arg: _value(k.value) for k in node.keywords})
    if isinstance(node, ast.Name) and node.id in ("inf", "nan"):
        return float(node.id)
    raise ValueError


def is_ordered(items):
    """Whether a set of these shows them in this order in every process."""
    return all(type(item) is int for item in items) and list(set(items)) == list(items)


def is_scalar(value):
    return isinstance(value, (int, float)) or value is None or (isinstance(value, str) and len(value) <= 12)


def is_plain(value, depth=0):
    """Whether its `repr` is its value."""
    if isinstance(value, (bool, int, float, str, bytes)) or value is None:
        return True
    if depth > 8:
        return False
    if isinstance(value, (list, tuple)):
        return all(is_plain(item, depth + 1) for item in value)
    if isinstance(value, set):
        return is_ordered(value)
    if type(value) is dict:
        return all(is_plain(item, depth + 1) for pair in value.items() for item in pair)
    return False


def is_shown(value):
    """Whether it can be told: plain, or an object of the program with plain attributes."""
    if isinstance(value, Instance):
        return all(is_shown(item) for item in value.attributes.values())
    return is_plain(value)


def is_remade(targets, value):
    """Whether a variable gets a value that is made from its old one."""
    names = [target.id for target in targets if isinstance(target, ast.Name)]
    return any(isinstance(node, ast.Name) and node.id in names for node in ast.walk(value))


def called_name(node):
    """The name that is called, if the node is the call of one."""
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else None


def is_leaf(node):
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, (ast.USub, ast.UAdd)) and isinstance(node.operand, ast.Constant)
    return isinstance(node, (ast.Constant, ast.Name))


def check(value):
    """Refuses values that are not wholly known, and large ones: C code that is busy with one cannot be stopped."""
    if isinstance(value, int) and abs(value) > LARGEST_INT:
        raise Stop
    if isinstance(value, (bytes, str)) and len(value) > LARGEST_SIZE:
        raise Stop
    if isinstance(value, (list, tuple, set, dict)) and (not is_plain(value) or len(repr(value)) > LARGEST_SIZE):
        raise Stop
    if isinstance(value, (Unknown, Instance)) or type(value) is complex:
        raise Stop


def guard(symbol, left, right):
    """Refuses what would take too much time or memory."""
    check(left)
    check(right)
    if symbol in ("**", "<<") and (not isinstance(right, (int, float)) or abs(right) > 64):
        raise Stop
    if symbol == "%" and isinstance(left, (str, bytes)) and WIDE.search(str(left)):
        raise Stop
    if symbol == "*":
        for repeated, count in ((left, right), (right, left)):
            if isinstance(repeated, (bytes, str, list, tuple)) and isinstance(count, int):
                if len(repr(repeated)) * count > LARGEST_SIZE:
                    raise Stop
