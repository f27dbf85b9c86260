"""Containers in containers that change in one place, at random, seen by several functions at once."""

import random
from collections import Counter, OrderedDict, defaultdict, deque


class Point:
    def __init__(self, x):
        self.x = x

    def move(self):
        pass


class Cell:
    __slots__ = ("value", "_next", "__hidden")

    def __init__(self, value):
        self.value = value
        self.__hidden = value


class Wide(Cell):
    __slots__ = "extra"


class Stack(list):
    pass


def collection(rng, depth):
    items = [element(rng, depth - 1) for _ in range(rng.randrange(4))]
    kind = rng.randrange(9)
    if kind == 0:
        return deque(items)
    if kind == 1:
        return deque(items, maxlen=3)
    if kind == 2:
        return defaultdict(rng.choice([int, list, None]), enumerate(items))
    if kind == 3:
        return Counter({n: rng.randrange(-2, 4) for n in range(len(items))})
    if kind == 4:
        return OrderedDict(enumerate(items))
    if kind == 5:
        view = rng.choice([dict.keys, dict.values, dict.items])
        return view(dict(enumerate(items)))
    if kind == 6:
        return rng.choice([Point(1).move, items.append, Stack(items).copy, deque])
    if kind == 7:
        return Wide(items)
    return Cell(rng.randrange(3))


def element(rng, depth):
    kind = rng.randrange(16)
    if depth and kind > 13:
        return collection(rng, depth)
    if depth and kind < 5:
        return [element(rng, depth - 1) for _ in range(rng.randrange(5))]
    if depth and kind == 5:
        return {n: element(rng, depth - 1) for n in range(rng.randrange(3))}
    if depth and kind == 6:
        return (element(rng, depth - 1), rng.randrange(10))
    if kind == 7:
        return Point(rng.randrange(3))
    if kind == 8:
        return rng.choice(["", "a, b", "é", "]", "it's", 1.5, -7, 2**70, b"x", True, None])
    if kind == 9 and depth:
        return Stack(range(rng.randrange(4)))
    return rng.randrange(300)


def change(rng, table):
    kind = rng.randrange(12)
    at = rng.randrange(len(table) + 1)
    if kind < 4 and table:
        row = rng.choice(table)
        if isinstance(row, list):
            row.insert(rng.randrange(len(row) + 1), element(rng, 1))
        else:
            table[at:at] = [element(rng, 2)]
    elif kind < 6 and table:
        row = rng.choice(table)
        if isinstance(row, list) and row:
            row[rng.randrange(len(row))] = element(rng, 1)
    elif kind == 6:
        table.insert(at, element(rng, 2))
    elif kind == 7 and table:
        table.pop(rng.randrange(len(table)))
    elif kind == 8 and len(table) > 1:
        table[0], table[-1] = table[-1], table[0]
    elif kind == 9:
        table[at : at + 2] = [element(rng, 2) for _ in range(rng.randrange(4))]
    elif kind == 10 and rng.randrange(6) == 0:
        table.append(table)
        table.pop()
    else:
        for row in table:
            if isinstance(row, list) and len(row) > 4:
                del row[1:3]
    return table


def inner(rng, table, row):
    table = change(rng, table)
    row = table[-1] if table else row
    return row


def walk(seed, steps):
    rng = random.Random(seed)
    table = [[rng.randrange(100) for _ in range(8)] for _ in range(4)]
    alias = [table, table]
    row = None
    for _ in range(steps):
        row = inner(rng, table, row)
        if rng.randrange(9) == 0:
            table = [list(row) if isinstance(row, list) else row for row in table][:9]
            alias[rng.randrange(2)] = table
    return row


def long_rows():
    table = [list(range(120)) for _ in range(6)]
    table[0][3] = "changed"
    table[5][3] = "not to be seen"
    table[1] = []
    table[2] = table[3] = []
    table[4].append(1)
    return table


def handed_on(grid, depth):
    grid[depth % 3][depth] = depth
    if depth < 7:
        handed_on(grid, depth + 1)
        grid[depth % 3][depth] = -depth
    return grid


def inside_themselves():
    queue = deque([1])
    queue.append(queue)
    groups = defaultdict(list)
    groups["self"] = groups
    cell = Cell(None)
    cell.value = cell
    counts = Counter("mississippi")
    counts.update("sip")
    counts["x"] = 1.5
    ring = deque(maxlen=2)
    for n in range(4):
        ring.append(n)
        ring.rotate()
    return queue, groups, cell, counts


def in_order():
    cache = OrderedDict()
    for name in "abc":
        cache[name] = [name]
        cache.items = name
    cache.move_to_end("a")
    cache["self"] = cache
    cache.move_to_end("b", last=False)
    del cache["c"]
    keyed = OrderedDict([((1, 2), "tuple"), (None, 0.5)])
    keyed.move_to_end((1, 2))
    broken = OrderedDict(one=1, two=2)
    dict.__delitem__(broken, "one")
    long = OrderedDict((n, {n: str(n)}) for n in range(300))
    long.move_to_end(0)
    nested = OrderedDict()
    for n in range(70):
        nested = OrderedDict(inner=nested)
    return cache, keyed, broken, long, nested


def everything():
    inside_themselves()
    in_order()
    for seed in range(12):
        walk(seed, 60)
    long_rows()
    return handed_on([[0] * 9 for _ in range(9)], 0)


everything()
