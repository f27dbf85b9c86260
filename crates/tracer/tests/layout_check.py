"""Proves the layout of the running version, then that a wrong one is found out.

    python layout_check.py PATH_OF_LAYOUT_PY
"""

import os
import struct
import sys

space = {"__name__": "layout"}
with open(sys.argv[1]) as file:
    exec(compile(file.read(), "layout.py", "exec"), space)


class Native:
    """Reads memory as the extension does, by the kernel."""

    def __init__(self):
        self.memory = os.open("/proc/self/mem", os.O_RDONLY)
        self.counting = None

    def peek(self, address):
        try:
            return struct.unpack("<Q", os.pread(self.memory, 8, address))[0]
        except (OSError, OverflowError, ValueError, struct.error):
            return None

    def count_by(self, way):
        self.counting = way

    def end_peeking(self):
        pass


native = Native()
layout = space["proved_layout"](native)
assert layout == space["LAYOUTS"][sys.version_info[:2]], layout
assert native.counting == (1 if sys.version_info < (3, 12) else 2)
for entry in range(len(layout)):
    for step in (-16, -8, 8, 16):
        wrong = list(layout)
        wrong[entry] += step
        if wrong[entry] >= 0:
            assert space["proved_layout"](native, tuple(wrong)) is None, wrong
