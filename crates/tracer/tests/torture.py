import asyncio
import collections
import contextlib
import dataclasses
import enum
import functools


def plain(n):
    got = yield n
    if got:
        yield got
    return "end"


def delegating(n):
    result = yield from plain(n)
    yield result


def generators():
    a, b = plain(1), plain(2)
    firsts = [next(a), next(b)]
    a.send("x")
    try:
        b.throw(ValueError("thrown"))
    except ValueError as error:
        caught = error
    a.close()
    many = [delegating(i) for i in range(3)]
    for g in many:
        next(g)
    rest = [list(g) for g in many]
    return firsts, rest, caught


async def waiter(n):
    await asyncio.sleep(0)
    return n


async def ticker(n):
    for i in range(n):
        yield i
        await asyncio.sleep(0)


async def gathered():
    both = await asyncio.gather(waiter(1), waiter(2))
    return both, [i async for i in ticker(2)]


def comprehensions(n):
    squares = [i * i for i in range(n) if i % 2]
    table = {k: [k] * 2 for k in range(2)}
    unique = {len(w) for w in ("a", "bb", "cc")}
    total = sum(x for x in squares)
    double = lambda v: v * n
    return squares, table, unique, total, double(2)


def closures():
    count = 0
    log = []

    def bump(by=1, *more, flag=False, **rest):
        nonlocal count
        count += by
        log.append(count)
        return count

    bump()
    bump(2, 3, flag=True, other=[1])
    return count, log


def sinks(n):
    if n:
        sinks(n - 1)
    raise KeyError("deep")


def failures():
    found = []
    for f in (lambda: 1 // 0, lambda: [][1], lambda: {}["k"], lambda: int("x")):
        try:
            f()
        except Exception as error:
            found.append(repr(error))
        else:
            found.append(None)
        finally:
            last = len(found)
    with contextlib.suppress(KeyError):
        sinks(2)
    return found, last


class Shape:
    sides = 3
    names = ["a"] * sides
    del sides

    def __init__(self, size):
        self.size = size
        self.parts = []

    @property
    def area(self):
        return self.size**2


class Told(Shape):
    def __repr__(self):
        return "Told(%r)" % self.size


@dataclasses.dataclass
class Pair:
    left: int
    right: list = dataclasses.field(default_factory=list)


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


def objects():
    shape, told = Shape(2), Told(3)
    shape.parts.append(told)
    shape.extra = {"self": shape}
    pair = Pair(1)
    pair.right.append(shape.area)
    colour = Colour.RED
    part = functools.partial(int, base=2)
    point = collections.namedtuple("Point", "x y")(1, [2])
    point.y.append(part("11"))
    queue = collections.deque([1, 2], maxlen=2)
    queue.append(3)
    counts = collections.Counter("abca")
    groups = collections.defaultdict(list)
    groups["k"].append(told)
    thing = object()
    return shape, told, pair, colour, point, queue, counts, groups, thing


def changes():
    x = 1
    y = x
    del x
    x = [y]
    alias = x
    alias.append(alias)
    del x[0]
    deep = {"a": [{"b": ()}]}
    deep["a"][0]["b"] += (1,)
    big = list(range(5000))
    big[4000] = -1
    big[3] = -1
    text = "s" * 10000
    for i in range(70):
        text = "q" * i
    return y, deep


@contextlib.contextmanager
def managed(name):
    yield [name]


def layout():
    with managed("a") as a, managed("b") as b:
        both = (
            a
            + b
        )
    n = 3
    while n: n -= 1
    for i in range(2): n += i
    if (m := n) > 0:
        n = m
    return dict(
        both=both,
        n=n,
    )


class Broken:
    def __repr__(self):
        raise RuntimeError("no")


def broken():
    b = Broken()
    holder = [b, 1]
    return holder


class Dying:
    def __init__(self, out):
        self.out = out


def everything():
    generators()
    asyncio.run(gathered())
    comprehensions(4)
    closures()
    failures()
    objects()
    changes()
    layout()
    broken()


if __name__ == "__main__":
    rows = [i
            for i in range(2)]
    everything()
