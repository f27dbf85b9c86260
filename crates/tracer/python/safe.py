"""Shows objects without running any code of the program.  Part 2 of 11 of the collector.

A `__repr__` of the program may have effects, or never end.  Here objects are shown by what they are
made of: subclasses of builtins as those builtins, named tuples and data classes field by field, members
of enumerations by name and value, exceptions by their arguments, anything else by its type.
"""

import re
import sys
from itertools import islice
from types import (
    AsyncGeneratorType,
    BuiltinFunctionType,
    CoroutineType,
    FunctionType,
    GeneratorType,
    MethodType,
    ModuleType,
)

# Builtins whose `repr` runs nothing but themselves.
HARMLESS = frozenset(
    map(
        id,
        (
            range,
            complex,
            bytearray,
            memoryview,
            type,
            type(...),
            type(NotImplemented),
            type(str.upper),
            type(str.__repr__),
            type(re.compile("")),
            AsyncGeneratorType,
            BuiltinFunctionType,
            CoroutineType,
            FunctionType,
            GeneratorType,
        ),
    )
)
PATTERN = type(re.compile(""))
SINGLES = (bool, int, float, str, bytes)
SHOWN_BASES = SINGLES + (tuple, list, dict, set, frozenset, BaseException, type)
SHOWN_AS = {list: AS_LIST, dict: AS_DICT, type: AS_CLASS}


def look_up(kind, name):
    """An attribute of a type as the type itself stores it, or None: no descriptor runs."""
    for base in mro_of(kind):
        found = DICT_OF(base).get(name)
        if found is not None:
            return found
    return None


class Safe:
    """What `Foreign` is, for programs whose own code is not to be run."""

    def __init__(self, renderer):
        self.renderer = renderer

    def show(self, value):
        try:
            return self.by_kind(value, type(value))
        except Exception as error:
            return "<repr failed: %s>" % type_name(type(error))

    def by_kind(self, value, kind):
        if id(kind) in HARMLESS and is_exact(value, kind) or look_up(kind, "__repr__") is object.__repr__:
            return self.renderer.foreign.show(value)
        if kind is ModuleType:
            return "<module %r>" % str.__str__(ModuleType.__getattribute__(value, "__name__"))
        if kind is MethodType:
            # Of no function that Python code defines.
            of = self.inside(value.__self__)
            return "<bound method %s of %s>" % (type_name(type(value.__func__)), of)
        if is_enumeration(kind):
            own = own_dict(value, kind)
            if type(own.get("_name_")) is str:
                return "<%s.%s: %s>" % (type_name(kind), own["_name_"], self.inside(own.get("_value_")))
        fields = look_up(kind, "__dataclass_fields__")
        if type(fields) is dict:
            parts = [part for part in attributes(value, kind) if part[0] in fields]
            return self.parts(value, kind, parts)
        return self.by_base(value, kind)

    @staticmethod
    def how_shown(kind):
        """How `show` shows the instances of a type."""
        if id(kind) in HARMLESS or kind is ModuleType or kind is MethodType or is_enumeration(kind):
            return VARIED
        if type(look_up(kind, "__dataclass_fields__")) is dict:
            return VARIED
        for base in SHOWN_BASES:
            if issubclass_of(kind, base):
                return SHOWN_AS.get(base, VARIED)
        return BY_TYPE

    def by_base(self, value, kind):
        for base in SINGLES:
            if issubclass_of(kind, base):
                return base.__repr__(value)
        if issubclass_of(kind, tuple):
            items = tuple.__getitem__(value, slice(None))
            names = look_up(kind, "_fields")
            names = names if type(names) is tuple and all(type(name) is str for name in names) else ()
            if names and len(names) == len(items):
                return self.parts(value, kind, list(zip(names, items)))
            return self.contents(value, tuple, "(", ",)" if len(items) == 1 else ")")
        if issubclass_of(kind, list):
            return self.contents(value, list, "[", "]")
        if issubclass_of(kind, dict):
            return self.captured(lambda: self.renderer.mapping(value, "..."))
        for base, left, right, empty in (
            (set, "{", "}", "set()"),
            (frozenset, "frozenset({", "})", "frozenset()"),
        ):
            if issubclass_of(kind, base):
                return self.contents(value, base, left, right) if base.__len__(value) else empty
        if issubclass_of(kind, BaseException):
            args = BaseException.args.__get__(value)
            shown = "(%s)" % self.inside(args[0]) if len(args) == 1 else self.inside(args)
            return type_name(kind) + shown
        if issubclass_of(kind, type):
            return type.__repr__(value)
        return without_addresses(object.__repr__(value))

    def inside(self, value):
        """The text of a part of what is being shown."""
        return self.captured(lambda: self.renderer.show(value))

    def contents(self, value, kind, left, right):
        """The text of an instance of a subclass of a builtin container: that of the container."""
        return self.captured(lambda: self.renderer.sequence(value, left, right, "...", kind))

    def captured(self, show):
        renderer = self.renderer
        parts, room = renderer.parts, renderer.room
        renderer.parts = []
        try:
            show()
            return "".join(renderer.parts)
        finally:
            renderer.parts, renderer.room = parts, room

    def parts(self, value, kind, parts):
        if not self.opens(value):
            return type_name(kind) + "(...)"
        try:
            visible = islice(parts, self.renderer.visible)
            return "%s(%s)" % (
                type_name(kind),
                ", ".join("%s=%s" % (name, self.inside(item)) for name, item in visible),
            )
        finally:
            self.renderer.open.pop()

    def opens(self, value):
        chain = self.renderer.open
        if id(value) in chain or len(chain) >= DEEPEST:
            return False
        chain.append(id(value))
        return True


def is_exact(value, kind):
    """Whether a harmless builtin has only builtins in it."""
    if kind is range:
        return type(value.start) is type(value.stop) is type(value.step) is int
    return kind is not PATTERN or type(value.pattern) in (str, bytes)


def issubclass_of(kind, base):
    """Without asking the metaclass."""
    return any(known is base for known in mro_of(kind))


def is_enumeration(kind):
    module = sys.modules.get("enum")
    return module is not None and issubclass_of(kind, module.Enum)
