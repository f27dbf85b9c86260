"""Objects that answer with code of their own to whoever asks what they are, and classes that change."""

import re
from collections import Counter, OrderedDict, defaultdict

ASKED = []


def asked(what):
    print("asked:", what)
    return what


class Meta(type):
    __name__ = property(lambda cls: asked("name"))
    __module__ = property(lambda cls: asked("module"))

    def __hash__(cls):
        return hash(asked("hash of a class"))

    def __eq__(cls, other):
        return bool(asked("equal classes"))

    def __call__(cls, *args):
        return object.__new__(cls)


class Made(metaclass=Meta):
    pass


class Key:
    is_quiet = True

    def __hash__(self):
        return 1 if Key.is_quiet else hash(asked("hash"))

    def __eq__(self, other):
        return self is other if Key.is_quiet else bool(asked("equal"))


class Table(dict):
    pass


class Hiding:
    @property
    def __dict__(self):
        return {"x": asked("dict")}


class Name:
    def __str__(self):
        return asked("str")

    __repr__ = __str__


class Fields(tuple):
    _fields = (Name(),)


class Text(str):
    def __repr__(self):
        return asked("repr of a text")


class Number(int):
    def __repr__(self):
        return asked("repr of a number")


class Stack(list):
    pass


class Late:
    pass


def containers():
    counts = Counter()
    counts["a"] = Made()
    table = Table()
    table[Key()] = 1
    table[Key()] = 2
    groups = defaultdict(int)
    groups[Key()] = 3
    ordered = OrderedDict()
    ordered[Key()] = 4
    Key.is_quiet = False
    both = (table, counts)
    inside = [both, groups, ordered]
    Key.is_quiet = True
    return len(inside)


def instances():
    hiding = Hiding()
    fields = Fields((1,))
    pattern = re.compile(Text("a+"))
    numbers = range(Number(0), Number(9))
    plain = range(3), re.compile("b"), re.compile(b"c")
    several = [hiding, fields, pattern, numbers, plain, Made]
    return len(several)


def deep():
    flat = {1, 2}
    texts = ["a"]
    stack = Stack()
    for _ in range(62):
        flat = [flat]
        texts = (texts,)
        stack = Stack([stack])
    return len(flat)


def changing():
    first = Late()
    Late.__repr__ = lambda self: "late"
    second = Late()
    del Late.__repr__
    third = Late()
    return [first, second, third][:0]


def make(n):
    if n:
        def inner():
            return n
    else:
        def inner():
            return 0
    return inner


def closures():
    plain, own = make(0), make(1)
    row = [plain]
    row[0] = own
    row[0] = plain
    return len(row)


def everything():
    return containers(), instances(), deep(), changing(), closures()


print(everything())
