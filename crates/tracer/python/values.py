"""Turns objects into text without letting them hurt anyone.  Part 1 of 11 of the collector."""

import os
import re
import signal
import sys
import time
from collections import Counter, OrderedDict, defaultdict, deque
from itertools import islice
from types import FunctionType, GetSetDescriptorType, MemberDescriptorType, MethodType

# Nesting our renderer follows itself; deeper values go to `repr`.  Two frames a level fit the headroom.
DEEPEST = 60
# CPU seconds one call of a foreign `__repr__`, and all calls for one type, may take.  Slow calls count
# more, since there may be one for each event; quick ones are free.
REPR_SECONDS = 0.2
REPR_SECONDS_PER_TYPE = 1.0
QUICK, SLOW, WEIGHT_OF_SLOW = 2e-5, 1e-3, 10

ATOMS = frozenset(map(id, (int, float, bool, type(None), str, bytes)))
NUMBERS = frozenset(map(id, (int, float, bool, type(None))))
TEXTS = frozenset((id(str),))
# A whole string literal (kept), or an address (dropped).  A quote after a word character, as in
# `it's`, opens no literal.
LITERAL_OR_ADDRESS = re.compile(
    r"""(?<!\w)b?(?:'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")| at 0x[0-9a-fA-F]+"""
)


# How instances of a type are shown; `native/types.rs` has the same list.
BY_TYPE, AS_LIST, AS_DICT, AS_CLASS, VARIED, AS_DEQUE, AS_DEFAULTDICT, AS_COUNTER, AS_ORDERED, AS_PAIRS = range(10)
COLLECTIONS = {id(deque): AS_DEQUE, id(defaultdict): AS_DEFAULTDICT, id(Counter): AS_COUNTER}
COLLECTIONS[id(OrderedDict)] = AS_ORDERED if sys.version_info >= (3, 12) else AS_PAIRS
VIEWS = {id(type(view)): type(view).__name__ + "([" for view in ({}.keys(), {}.values(), {}.items())}


# What a type is, as the type itself stores it: asked otherwise, a metaclass could answer with its own code.
NAME_OF, MODULE_OF, STORED_MRO_OF, DICT_OF = (
    type.__dict__[name].__get__ for name in ("__name__", "__module__", "__mro__", "__dict__")
)


def mro_of(kind):
    found = STORED_MRO_OF(kind)
    if found is None:
        # A type of the interpreter's own that nobody has asked for anything yet: to ask completes it.
        type.__getattribute__(kind, "__name__")
        found = STORED_MRO_OF(kind)
    return found


class ReprTimeout(BaseException):
    """Raised by the timer inside a `__repr__` that takes too long."""


ReprTimeout.__name__ = "TimeoutError"


class Foreign:
    """Calls `repr` on what we do not render ourselves: it may run user code, so it is contained."""

    def __init__(self, max_chars, is_main=True):
        self.cut = 4 * max_chars + 256
        self.armed = False
        self.spent = {}
        # Whether something was shown by its type since this was last set to False.
        self.is_degraded = False
        # Only the main thread can be interrupted.  In others a `repr` takes its time, once.
        self.is_main = is_main
        if is_main:
            signal.signal(signal.SIGVTALRM, self.on_alarm)

    @staticmethod
    def how_shown(_kind):
        """What a `__repr__` says cannot be told."""
        return VARIED

    def on_alarm(self, _signal, _frame):
        if self.armed:
            raise ReprTimeout

    def set_timer(self, seconds):
        if self.is_main:
            signal.setitimer(signal.ITIMER_VIRTUAL, seconds, seconds)

    def show(self, value):
        kind = type(value)
        spent = self.spent.get(id(kind))
        if spent is not None and spent[0] > REPR_SECONDS_PER_TYPE:
            self.is_degraded = True
            return "<%s object>" % type_name(kind)
        began = time.thread_time()
        try:
            self.armed = True
            # The interval repeats, for a `__repr__` that swallows the first exception.
            self.set_timer(REPR_SECONDS)
            text = str.__str__(repr(value))
            self.armed = False
        except BaseException as error:
            self.armed = False
            text = "<repr failed: %s>" % type_name(type(error))
            if type(error) is ReprTimeout:
                began -= REPR_SECONDS_PER_TYPE
        finally:
            self.set_timer(0)
        took = time.thread_time() - began
        if took > QUICK:
            took *= WEIGHT_OF_SLOW if took > SLOW else 1
            # The type is kept with its time: its address must not be reused.
            self.spent[id(kind)] = (took + (spent[0] if spent else 0.0), kind)
        return without_addresses(text[: self.cut])

    def tell(self, value):
        """For the native extension: the text, in a tuple if it is that of the type."""
        self.is_degraded = False
        text = self.show(value)
        return (text,) if self.is_degraded else text


def type_name(kind):
    name = NAME_OF(kind)
    return str.__str__(name) if isinstance(name, str) else "object"


def without_addresses(text):
    if " at 0x" not in text:
        return text
    return LITERAL_OR_ADDRESS.sub(lambda m: "" if m.group()[0] == " " else m.group(), text)


class Renderer:
    """Turns objects into text: `repr` with bounded work, no addresses, and every failure contained.

    Builtin containers are walked here, so that a failing element spoils only itself; everything else
    goes through `Foreign`.
    """

    def __init__(self, max_chars, is_safe=False, is_main=True):
        self.max_chars = max_chars
        # Every element but the first takes two characters at least, so more than this is never visible.
        self.visible = max_chars // 2 + 2
        self.foreign = Foreign(max_chars, is_main)
        # For objects whose `repr` may run code of the program.
        self.stranger = Safe(self) if is_safe else self.foreign
        self.parts = []
        self.room = 0
        self.open = []
        self.detailed = False
        self.has_own = False

    def value(self, value):
        """`(repr, detail or None, truncated)`"""
        self.has_own = False
        plain, cut = self.text(value, False)
        if not self.has_own:
            return plain, None, cut
        detail, detail_cut = self.text(value, True)
        return plain, None if detail == plain else detail, cut or detail_cut

    def constant(self, value):
        """The text of a builtin that never changes and is shown without code of the program."""
        kind = type(value)
        if kind is str or kind is bytes:
            return self.literal(value)
        try:
            return repr(value)
        except BaseException as error:
            return "<repr failed: %s>" % type_name(type(error))

    def describe(self, value):
        """About the type of an object: whether it is a class of the program, whether it has slots, its
        name, the text of all its instances if that is one, and how they are shown."""
        kind = type(value)
        is_slotted = any(
            slot_names(DICT_OF(base).get("__slots__"), "") for base in mro_of(kind)
        )
        how = COLLECTIONS.get(id(kind))
        if how is None:
            plain = look_up(kind, "__repr__") is object.__repr__
            how = BY_TYPE if plain else self.stranger.how_shown(kind)
        text = self.stranger.show(value) if how == BY_TYPE else ""
        return self.is_own(kind), is_slotted, type_name(kind), text, how

    def text(self, value, detailed):
        self.parts = parts = []
        self.open = []
        self.room = self.max_chars
        self.detailed = detailed
        self.foreign.is_degraded = False
        self.show(value)
        text = parts[0] if len(parts) == 1 else "".join(parts)
        if len(text) > self.max_chars:
            return text[: self.max_chars] + "...", True
        return text, self.foreign.is_degraded

    def put(self, text):
        self.parts.append(text)
        self.room -= len(text)

    def show(self, value):
        kind = type(value)
        if kind is str or kind is bytes:
            self.put(self.literal(value))
        elif id(kind) in NUMBERS:
            try:
                self.put(repr(value))
            except BaseException as error:
                self.put("<repr failed: %s>" % type_name(type(error)))
        elif kind is list:
            self.sequence(value, "[", "]", "[...]")
        elif kind is tuple:
            self.sequence(value, "(", ",)" if len(value) == 1 else ")", "(...)")
        elif kind is dict:
            self.mapping(value)
        elif kind is set:
            self.sequence(value, "{", "}", "set(...)") if value else self.put("set()")
        elif kind is frozenset:
            if value:
                self.sequence(value, "frozenset({", "})", "frozenset(...)")
            else:
                self.put("frozenset()")
        elif id(kind) in COLLECTIONS:
            self.collection(value, COLLECTIONS[id(kind)])
        elif id(kind) in VIEWS:
            self.sequence(value, VIEWS[id(kind)], "])", "...")
        elif kind is MethodType and type(value.__func__) is FunctionType:
            self.method(value)
        elif self.is_own(kind):
            self.has_own = True
            if self.detailed:
                self.instance(value, kind)
            else:
                self.put(self.foreign.show(value))
        elif kind is FunctionType and value.__closure__ and is_main(value.__module__):
            self.has_own = True
            if self.detailed:
                self.closure(value)
            else:
                self.put(self.foreign.show(value))
        else:
            self.put(self.stranger.show(value))

    def literal(self, value):
        """`repr` of a string, of which only a visible prefix is escaped."""
        if len(value) <= self.max_chars:
            return repr(value)
        prefix = value[: self.max_chars + 1]
        # An added quote makes Python choose the quotes that the whole string would get.
        single, double = ("'", '"') if type(value) is str else (b"'", b'"')
        quote = single if single in value and double not in value else double
        text = repr(quote + prefix)
        return text[:1] + text[2:] if type(value) is str else text[:2] + text[3:]

    def sequence(self, value, left, right, recursive, kind=None):
        """`kind` is the builtin of which the value's type is a subclass."""
        items = list(islice(value if kind is None else kind.__iter__(value), self.visible))
        if not items:
            self.put(left + right)
            return
        flat = self.flat(items)
        if flat is not None:
            self.put(left + flat[1:-1] + right)
            return
        self.elements(value, items, left, right, recursive)

    def elements(self, value, items, left, right, recursive):
        if self.enter(value, recursive):
            self.put(left)
            first = True
            for item in items:
                if self.room < 0:
                    break
                if not first:
                    self.put(", ")
                first = False
                self.show(item)
            self.put(right)
            self.open.pop()

    def flat(self, items):
        """The text of a list of plain numbers or of short strings in one step, else None."""
        kinds = set(map(id, map(type, items)))
        if kinds <= NUMBERS or kinds == TEXTS and sum(map(len, items)) <= self.max_chars:
            try:
                return repr(items)
            except BaseException:
                return None
        return None

    def mapping(self, value, recursive="{...}"):
        items = list(islice(dict.items(value), self.visible))
        if items:
            self.entries(value, items, "{", "}", recursive)
        else:
            self.put("{}")

    def entries(self, value, items, left, right, recursive="{...}"):
        if self.enter(value, recursive):
            self.put(left)
            first = True
            for key, item in items:
                if self.room < 0:
                    break
                if not first:
                    self.put(", ")
                first = False
                self.show(key)
                self.put(": ")
                self.show(item)
            self.put(right)
            self.open.pop()

    def collection(self, value, how):
        if how == AS_DEQUE:
            close = "])" if value.maxlen is None else "], maxlen=%d)" % value.maxlen
            self.sequence(value, "deque([", close, "[...]")
        elif how == AS_DEFAULTDICT:
            self.put("defaultdict(")
            self.show(value.default_factory)
            self.put(", ")
            self.mapping(value)
            self.put(")")
        elif how != AS_COUNTER:
            self.ordered(value, how)
        elif all(type(count) is int for count in dict.values(value)):
            entries = sorted(dict.items(value), key=lambda entry: entry[1], reverse=True)
            if entries:
                self.entries(value, entries[: self.visible], "Counter({", "})")
            else:
                self.put("Counter()")
        else:
            # How others are ordered is for their own code to say.
            self.put(self.stranger.show(value))

    def ordered(self, value, how):
        items = None
        # To iterate asks keys for their hashes, which may be code of the program.
        if all(id(type(key)) in ATOMS for key in dict.keys(value)):
            try:
                items = list(islice(OrderedDict.items(value), self.visible))
            except Exception:
                # It was changed behind its back.
                pass
        if items is None:
            self.put(self.stranger.show(value))
        elif not items:
            self.put("OrderedDict()")
        elif how == AS_ORDERED:
            self.entries(value, items, "OrderedDict({", "})", "...")
        else:
            self.elements(value, items, "OrderedDict([", "])", "...")

    def method(self, value):
        name = value.__func__.__qualname__
        kept = self.detailed, self.has_own
        self.detailed = False
        if self.enter(value, "..."):
            self.put("<bound method %s of " % (name if type(name) is str else "?"))
            self.show(value.__self__)
            self.put(">")
            self.open.pop()
        self.detailed, self.has_own = kept

    def enter(self, value, recursive):
        """Whether to walk into a container: not twice into one, and not too deep."""
        if id(value) in self.open:
            self.put(recursive)
            return False
        if len(self.open) >= DEEPEST:
            is_safe = self.stranger is not self.foreign
            self.put(recursive if is_safe else self.foreign.show(value))
            return False
        self.open.append(id(value))
        return True

    @staticmethod
    def is_own(kind):
        """A class of the program that has nothing better to say than `object.__repr__`."""
        try:
            return is_main(MODULE_OF(kind)) and look_up(kind, "__repr__") is object.__repr__
        except BaseException:
            return False

    def instance(self, value, kind):
        self.named(value, type_name(kind), attributes(value, kind))

    def closure(self, function):
        """A function of the program with the variables it has captured."""
        captured = []
        for name, cell in zip(function.__code__.co_freevars, function.__closure__):
            try:
                captured.append((name, cell.cell_contents))
            except ValueError:
                # Not bound yet.
                pass
        self.named(function, function.__name__, captured)

    def named(self, value, name, parts):
        if self.enter(value, name + "(...)"):
            self.put(name + "(")
            first = True
            for part, item in islice(parts, self.visible):
                if self.room < 0:
                    break
                self.put(part + "=" if first else ", " + part + "=")
                first = False
                self.show(item)
            self.put(")")
            self.open.pop()


def is_main(module):
    """Compared only as exact text: a program may put anything into `__module__`."""
    return type(module) is str and module == "__main__"


def attributes(value, kind):
    """Name and value of the instance attributes: `__dict__` first, then slots, base classes first."""
    found = [(name, item) for name, item in list(own_dict(value, kind).items()) if type(name) is str]
    return found + slots(value, kind)


def own_dict(value, kind):
    """The `__dict__` of an instance, whatever its class says that is; empty if it has none."""
    for base in mro_of(kind):
        found = DICT_OF(base).get("__dict__")
        if type(found) is GetSetDescriptorType:
            own = found.__get__(value)
            return own if type(own) is dict else {}
    return {}


def slots(value, kind):
    """Name and value of the slots that are not empty."""
    found = []
    for base in reversed(mro_of(kind)):
        members = DICT_OF(base)
        for name in slot_names(members.get("__slots__"), type_name(base)):
            try:
                found.append((name, MemberDescriptorType.__get__(members[name], value)))
            except BaseException:
                # An empty slot, or a class attribute that took the slot's place.
                pass
    return found


def slots_in_turn(value):
    """The same in one tuple."""
    return tuple(part for slot in slots(value, type(value)) for part in slot)


def slot_names(slots, owner):
    """Names of the slots as declared (the class sorts them), private ones as Python spells them."""
    if type(slots) is str:
        slots = (slots,)
    if type(slots) not in (tuple, list, dict):
        return ()
    mangled = "_%s__" % owner.lstrip("_")
    private = [type(name) is str and name[:2] == "__" != name[-2:] for name in slots]
    return [mangled + name[2:] if p else name for name, p in zip(slots, private) if type(name) is str]
