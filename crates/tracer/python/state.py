"""Tells whether a call changed anything that a later call can see.  Part 8 of 11 of the collector.

Many calls of a function may share one process only while each finds the program as it was after loading.
`State` looks at everything that the program's own code can reach: if it does not know what something is,
or the program uses a module or a builtin by which it could reach more, nothing is shared.
"""

import operator
import re
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType

# Modules without a state that a program can see, if `random` is seeded anew for each call.
STATELESS = frozenset(
    "__future__ abc bisect cmath collections copy dataclasses enum fractions functools heapq itertools"
    " json math numbers operator random re statistics string textwrap types typing unicodedata".split()
)
# Ways to reach what is not seen here, and methods that run at a time of their own.
FAR_REACHING = frozenset(
    "__builtins__ __del__ __dict__ __import__ __globals__ __subclasses__ breakpoint delattr eval exec exit gc"
    " globals input lru_cache cache open quit setattr vars".split()
)
IMPORT = re.compile(r"^\s*(?:from\s+([A-Za-z_][\w.]*)\s+import\b|import\s+([\w., ]+?)\s*(?:#.*)?$)")
UNCHANGING = frozenset((
    *(int, float, complex, bool, str, bytes, range, slice, type(None), type(...), type(NotImplemented)),
    *(type(str.join), type(int.__add__), type(int.real), type(FunctionType.__code__), CodeType),
))
# The same by name: what has no public name, and what modules make that is not to be changed.
UNCHANGING_NAMES = frozenset("_tuplegetter _abc_data member_descriptor getset_descriptor".split())
UNCHANGING_MODULES = frozenset("dataclasses enum fractions re typing".split())
# Library classes that a class of the program may be made from without hiding a state.
PLAIN_BASES = (object, int, float, complex, str, bytes, tuple)
PLAIN_MODULES = frozenset("abc enum typing".split())
MOST_OBJECTS = 2000


class Unknown(Exception):
    """There is something of which it cannot be told whether it changes."""


class State:
    """What the program's code can reach, as it was when this was made."""

    def __init__(self, code, source, space):
        self.space = space
        self.found = None
        if is_unnoticed(code, source):
            self.found = self.look()

    def is_known(self):
        return self.found is not None

    def is_changed(self):
        now = self.look()
        if now is None or len(now) != len(self.found):
            return True
        return not all(map(operator.is_, now, self.found))

    def look(self):
        """Every object there is, in an order that follows from them; None if that cannot be said."""
        found, seen = [], set()
        try:
            look_at_items(self.space, found, seen)
        except Exception:
            # Some classes answer to no question.
            return None
        return found


def look_at_items(mapping, found, seen):
    for name, value in mapping.items():
        if name != "__builtins__":
            found.append(name)
            look_at(value, found, seen)


def look_at(value, found, seen):
    found.append(value)
    kind = type(value)
    if kind in UNCHANGING or id(value) in seen:
        return
    if len(found) > MOST_OBJECTS:
        raise Unknown
    seen.add(id(value))
    if kind in (list, tuple, set, frozenset):
        # Where one ends and the next begins is part of what there is.
        found.append(SMALL[min(len(value), 255)])
        for item in value:
            look_at(item, found, seen)
    elif kind is dict:
        found.append(SMALL[min(len(value), 255)])
        for key, item in value.items():
            look_at(key, found, seen)
            look_at(item, found, seen)
    elif kind is FunctionType:
        look_at_function(value, found, seen)
    elif kind is ModuleType:
        if value.__name__.partition(".")[0] not in STATELESS:
            raise Unknown
    elif kind in (staticmethod, classmethod):
        look_at(value.__func__, found, seen)
    elif kind is MethodType or kind is BuiltinFunctionType:
        look_at(getattr(value, "__func__", None), found, seen)
        # Functions of modules have the module.
        if type(value.__self__) is not ModuleType:
            look_at(value.__self__, found, seen)
    elif kind is property:
        for part in (value.fget, value.fset, value.fdel):
            look_at(part, found, seen)
    elif issubclass(kind, type):
        if value.__module__ == "__main__":
            look_at_items(type.__dict__["__dict__"].__get__(value), found, seen)
    else:
        look_at_instance(value, kind, found, seen)


def look_at_function(function, found, seen):
    if function.__module__ != "__main__":
        return
    found.append(function.__code__)
    look_at(function.__defaults__, found, seen)
    look_at(function.__kwdefaults__, found, seen)
    for cell in function.__closure__ or ():
        try:
            look_at(cell.cell_contents, found, seen)
        except ValueError:
            # It is empty.
            found.append(cell)
    if function.__dict__:
        look_at_items(function.__dict__, found, seen)


def look_at_instance(value, kind, found, seen):
    """An instance of a plain class of the program; descriptors of classes have nothing in them."""
    if kind.__module__ != "__main__":
        if kind.__name__ in UNCHANGING_NAMES or kind.__module__ in UNCHANGING_MODULES:
            return
        raise Unknown
    for base in kind.__mro__:
        if base.__module__ == "__main__":
            for name in vars(base).get("__slots__", ()):
                look_at(getattr(value, name, None), found, seen)
        elif base not in PLAIN_BASES and base.__module__ not in PLAIN_MODULES:
            raise Unknown
    if isinstance(value, tuple):
        for item in tuple.__iter__(value):
            look_at(item, found, seen)
    look_at_items(getattr(value, "__dict__", {}), found, seen)


def is_unnoticed(code, source):
    """Whether what a program does stays within what it has made itself, and modules without a state."""
    return imports_stateless_only(source) and not reaches_far(code)


def imports_stateless_only(source):
    for line in source.split("\n"):
        if "import" not in line:
            continue
        match = IMPORT.match(line)
        if match is None:
            return False
        names = match.group(1) or match.group(2)
        for name in names.split(","):
            if name.split()[0].partition(".")[0] not in STATELESS:
                return False
    return True


def reaches_far(code):
    if not FAR_REACHING.isdisjoint(code.co_names):
        return True
    return any(reaches_far(part) for part in code.co_consts if isinstance(part, CodeType))
