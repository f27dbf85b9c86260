"""Where CPython keeps what the native extension reads.  Part 5 of 11 of the collector.

Reading a variable where it lies is many times faster than asking for it, and has no effect on the
program, as reading `f_locals` may have.  But where it lies is no promise of CPython's: so the offsets of
the running version are proved here, on frames and objects made for the purpose, and not used if one is
off.
"""

import os
import sys

# Version: frame object -> inner frame (0: they are one), code, globals, namespace, first slot (from the
# inner frame), `f_trace_lines` (from the frame object), function -> qualname, ASCII string -> text, how
# an int tells its size (1: signed number of digits, 2: number of digits and tag).
LAYOUTS = {
    (3, 8): (0, 32, 48, 56, 360, 88, 104, 48, 1),
    (3, 9): (0, 32, 48, 56, 360, 88, 104, 48, 1),
    (3, 10): (0, 32, 48, 56, 352, 84, 40, 48, 1),
    (3, 11): (24, 32, 8, 24, 72, 44, 40, 48, 1),
    (3, 12): (24, 0, 24, 40, 72, 44, 40, 40, 2),
    (3, 13): (24, 0, 24, 40, 72, 44, 40, 40, 2),
}


class WrongLayout(Exception):
    """Something is not where the table says."""


def slot_places(code):
    """For each variable of a function, in the order of `Code.names`: slot number * 2, + 1 for a cell."""
    count = len(code.co_varnames)
    captured = code.co_cellvars + code.co_freevars
    places = {name: at << 1 for at, name in enumerate(code.co_varnames)}
    if sys.version_info >= (3, 11):
        for name in captured:
            at = places[name] >> 1 if name in places else len(places)
            places[name] = at << 1 | 1
    else:
        # A captured argument has a cell of its own, and its plain slot is empty.
        for at, name in enumerate(captured):
            places[name] = count + at << 1 | 1
    return tuple(places.values())


class Prover:
    """Compares words in memory with what they ought to be.  Reading never faults."""

    def __init__(self, native, layout):
        self.peek = native.peek
        self.layout = layout

    def word(self, address):
        found = self.peek(address)
        if found is None:
            raise WrongLayout
        return found

    def expect(self, address, *wanted):
        for at, word in enumerate(wanted):
            if self.word(address + 8 * at) != word:
                raise WrongLayout

    def inner(self, frame):
        offset = self.layout[0]
        return self.word(id(frame) + offset) if offset else id(frame)

    def frames(self):
        """Code, globals and slots: bound, unbound, captured arguments and free variables."""
        _, code_at, globals_at, space_at, slots_at = self.layout[:5]
        prover = self

        def probe(first, shared, second):
            gone = first
            del gone
            unset = second if shared is None else first

            def inside():
                frame = sys._getframe()
                prover.slots(frame, {"shared": shared, "free": free, "frame": frame})
                return shared

            frame = sys._getframe()
            inner = prover.inner(frame)
            prover.expect(inner + code_at, id(frame.f_code))
            prover.expect(inner + globals_at, id(frame.f_globals))
            known = {"first": first, "second": second, "shared": shared, "unset": first}
            prover.slots(frame, known, ["gone"])
            del unset
            prover.slots(frame, known, ["gone", "unset"])
            inside()

        free = object()
        probe(object(), [object()], 10**20)

        class Probe:
            frame = sys._getframe()
            prover.expect(prover.inner(frame) + space_at, id(locals()))

    def slots(self, frame, known, unbound=()):
        code = frame.f_code
        names = dict.fromkeys(code.co_varnames + code.co_cellvars + code.co_freevars)
        seen = 0
        for name, place in zip(names, slot_places(code)):
            word = self.word(self.inner(frame) + self.layout[4] + 8 * (place >> 1))
            if name in unbound:
                wanted = 0
            elif name in known:
                wanted = id(known[name])
                if place & 1:
                    word = self.word(word + 16)
            else:
                continue
            seen += 1
            if word != wanted:
                raise WrongLayout
        if seen != len(set(known) | set(unbound)):
            raise WrongLayout

    def objects(self):
        """Builtin containers, cells, functions and types."""
        one, two = object(), object()
        items = [one, two]
        self.expect(id(items) + 16, 2)
        self.expect(self.word(id(items) + 24), id(one), id(two))
        pair, table = (one, two), {one: 1, two: 2}
        self.expect(id(pair) + 16, 2, id(one), id(two))
        self.expect(id(table) + 16, 2)
        self.sets()

        def captures():
            return one

        self.expect(id(captures.__closure__[0]) + 16, id(one))
        self.expect(id(captures) + self.layout[6], id(captures.__qualname__))

        class Plain:
            pass

        class Told:
            def __repr__(self):
                return "told"

        default = self.word(id(object) + 88)
        self.expect(id(Plain) + 88, default)
        self.expect(id(type(iter([]))) + 88, default)
        if default in (self.word(id(Told) + 88), self.word(id(int) + 88), 0):
            raise WrongLayout

    def sets(self):
        objects = [object() for _ in range(4)]
        items = set(objects)
        items.discard(objects[0])
        mask, table = self.word(id(items) + 32), self.word(id(items) + 40)
        if self.word(id(items) + 24) != 3 or mask > 63:
            raise WrongLayout
        found = []
        for at in range(mask + 1):
            key, hashed = self.word(table + 16 * at), self.word(table + 16 * at + 8)
            if key and hashed != 2**64 - 1:
                found.append(key)
        if found != [id(item) for item in items]:
            raise WrongLayout

    def atoms(self):
        """Ints of at most two digits, and texts."""
        text_at, ints = self.layout[7:]
        if sys.int_info.bits_per_digit != 30 or sys.int_info.sizeof_digit != 4:
            raise WrongLayout
        for number in (0, 1, -1, 7, 2**30 - 1, 1 - 2**30, 2**30, -(2**30), 2**60 - 1, 1 - 2**60):
            size = abs(number)
            digits = (size > 0) + (size >= 2**30)
            signed = digits if number >= 0 else 2**64 - digits
            tagged = digits << 3 | (1 if number == 0 else 2 if number < 0 else 0)
            self.expect(id(number) + 16, {1: signed, 2: tagged}.get(ints))
            # One digit is read from in front of it, since behind it the object ends; so is the state of a
            # text below.
            last = self.word(id(number) + 20) >> 32
            found = last if digits < 2 else self.word(id(number) + 24)
            if digits and found != (size & 2**30 - 1 | size >> 30 << 32):
                raise WrongLayout
        for text in ("abcdefgh", "", "a" * 100, "\u00e9", "a\u6f22"):
            is_ascii = self.word(id(text) + 28) >> 32 & 0x60 == 0x60
            if self.word(id(text) + 16) != len(text) or is_ascii != text.isascii():
                raise WrongLayout
        text = "abcdefgh"
        self.expect(id(text) + text_at, int.from_bytes(text.encode(), "little"))

    def counts(self):
        """How references are counted, as the native `count_by` takes it."""
        if hasattr(sys, "gettotalrefcount"):
            raise WrongLayout
        thing = object()
        more = [thing]
        before = self.word(id(thing)) & 0xFFFFFFFF
        more.append(thing)
        if self.word(id(thing)) & 0xFFFFFFFF != before + 1 or before > 8:
            raise WrongLayout
        if sys.version_info < (3, 12):
            return 1
        if not self.word(id(None)) & 0x80000000:
            raise WrongLayout
        return 2

    def lines(self):
        """The flag that switches off the line events of a frame."""
        frame = sys._getframe()
        at = id(frame) + self.layout[5]
        seen = []
        for wanted in (False, True, False, True):
            frame.f_trace_lines = wanted
            seen.append(self.word(at) & 255)
        if seen != [0, 1, 0, 1]:
            raise WrongLayout


def proved_layout(native, layout=None):
    """The layout of this interpreter, if it is known and right; else None."""
    if layout is None:
        layout = LAYOUTS.get(sys.version_info[:2])
    if layout is None or sys.platform != "linux" or os.uname().machine != "x86_64":
        return None
    prover = Prover(native, layout)
    try:
        prover.objects()
        prover.atoms()
        prover.frames()
        prover.lines()
        native.count_by(prover.counts())
    except WrongLayout:
        return None
    finally:
        native.end_peeking()
    return layout
