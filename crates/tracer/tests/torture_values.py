import collections


def texts():
    quotes = 'it\'s "both"'
    single = "it's"
    double = 'say "x"'
    control = "a\n\t\\\r\0\x1f\x7f"
    wide = "é漢\U0001f600"
    lone = "\udc80"
    binary = b"\x00'\xff"
    long = "ab" * 40
    long = "ab" * 40
    long = "ab" * 39 + "ac"
    escaped = "\n" * 40 + "x" * 40
    literal = "\\n" * 40 + "x" * 40
    escaped = literal
    accents = "é" * 100
    accents = "é" * 99 + "e"
    huge = "q" * 3000
    huge = "q" * 3000 + "'"
    huge = huge[:-1] + '"' + "'"
    return quotes, single, double, control, wide, lone, binary


def numbers():
    values = [1e16, 1e-5, 0.1, -0.0, 5e-324, 1.7976931348623157e308, 123456789.125, 2.0**70]
    values += [float("inf"), float("-inf"), float("nan"), 1 / 3, 100.0, 1e15, 123e-7]
    ints = [0, 9, 10, 99, 100, 101, -1, -10, 2**31, 2**62, -(2**63), 2**63, 10**30]
    others = (1j, True, None, ..., range(3), slice(1, 2), NotImplemented)
    for n in ints:
        square = n * n
    for v in values:
        half = v / 2
    return others


def containers():
    empty = [(), [], {}, set(), frozenset(), (1,), frozenset({"a"})]
    keyed = {(): 1, (1, "a"): [2], None: {3}}
    view = keyed.items()
    deep = {"a": [{"b": ({"c": [1]},)}]}
    deep["a"][0]["b"][0]["c"].append(2)
    deep["a"][0]["b"][0]["c"][0] = "x"
    numbers = {1, 2, 3}
    numbers.discard(2)
    numbers.add(4)
    numbers |= {"m"}
    numbers.clear()
    keyed.pop(())
    keyed[()] = 2
    keyed[None].add(5)
    pairs = [(i, str(i)) for i in range(3)]
    pairs[1] = (1, "one")
    mixed = [1, "a", None, 2.5, b"x", True]
    mixed[3] = 2.5
    mixed[3] = [2.5]
    mixed[3][0] = 3
    long = list(range(5000))
    long[4000] = -1
    long[3] = -1
    long.append(0)
    rows = [[0] * 3 for _ in range(3)]
    rows[1][1] = 5
    rows[2] = rows[1]
    rows[1][1] = 6
    ring = [1]
    ring.append(ring)
    ring[0] = 2
    knot = {}
    knot["k"] = (knot, [knot])
    return view


class Plain:
    pass


class Holder:
    unit = 1

    def __init__(self, item):
        self.item = item


class Slotted:
    __slots__ = ("a", "b")


class Broken:
    def __repr__(self):
        raise RuntimeError("no")


class Counting:
    seen = 0

    def __init__(self, n):
        self.n = n

    def __repr__(self):
        return "Counting(%d)" % self.n


class Odd(type):
    def __hash__(cls):
        raise RuntimeError("hash")

    def __eq__(cls, other):
        raise RuntimeError("eq")


class Strange(metaclass=Odd):
    def __eq__(self, other):
        raise RuntimeError("equal")

    def __hash__(self):
        raise RuntimeError("hashed")


class Keys(dict):
    pass


def objects():
    plain = Plain()
    plain.x = 1
    holder = Holder([plain])
    holder.item.append(holder)
    holder.item = 3
    slotted = Slotted()
    slotted.a = 1
    broken = [Broken(), 1, {"k": Broken()}]
    broken[1] = 2
    counting = Counting(1)
    counting.n = 2
    inside = [Counting(3)]
    inside[0].n = 4
    strange = Strange()
    keys = Keys(a=1)
    keys["b"] = 2
    queue = collections.deque([1], maxlen=2)
    queue.append(2)
    names = [Plain, Holder(1).__init__, objects, len, [].append, str.upper, Plain.__name__]
    lines = iter([1, 2])
    numbers = (i for i in range(3))
    next(numbers)
    made = type("Made", (), {})()
    made = type("Other", (), {})()
    for i in range(5):
        kind = type("Kind%d" % i, (), {})
        thing = kind()
        del kind
    Plain.__repr__ = lambda self: "told"
    told = plain
    del Plain.__repr__
    back = plain
    return strange


def addresses():
    for i in range(6):
        reused = [i % 2]
        nested = [[i], (i, [i])]
        del reused, nested


def cells():
    total = 0

    def outer(x, y=2):
        def inner():
            nonlocal total
            total += x
            return unset if x > 99 else total

        if x < 0:
            unset = 1
        x += 1
        first = inner()
        del y
        return inner, first

    step, one = outer(1)
    two = step()
    compare = lambda v, *more, k=one: (v, more, k, total)
    return compare(1, 2)


def leaving():
    def three(n):
        try:
            yield n
            yield n + 1
        finally:
            n = -1

    first, second = three(1), three(10)
    got = [next(first), next(second), next(first)]
    first.close()
    second.close()
    for n in three(5):
        if n > 5:
            break
    try:
        list(three("x"))
    except TypeError as error:
        caught = str(error)
    finally:
        done = True
    return got


class Body:
    first = 1
    second = [first]
    second.append(2)
    del first
    third = [i for i in range(2)]
    first = "again"


def run():
    texts()
    numbers()
    containers()
    objects()
    addresses()
    cells()
    leaving()


run()
one = 1
two = [one]
two.append(two)
del one
other = run
one = two
