"""The files that are traced, where that is more than one.  Part 6 of 11 of the collector.

Code is met as it is executed for the first time: an audit hook sees every module body that Python runs,
whoever imported it.  Functions, classes and comprehensions are constants of a body.
"""

import os
import sys
from _thread import get_ident
from types import CodeType, FunctionType

NOT_MEANT = (os.sep + ".", os.sep + "site-packages" + os.sep)


class Files:
    """Gives the recorder the code of all files below some folders, or of single files.

    Installed packages and hidden folders inside a folder are not meant by it.
    """

    def __init__(self, recorder, roots):
        self.recorder = recorder
        self.roots = {os.path.abspath(root) for root in roots}
        self.wanted = {}
        self.numbers = {}
        # Code that was met while the recorder could not take it.
        self.pending = []
        self.thread = get_ident()
        self.is_open = False

    def watch(self):
        """Meets all code from now on, and that of functions which exist."""
        import gc

        sys.addaudithook(self.hook)
        for found in gc.get_objects():
            if type(found) is FunctionType:
                self.meet(found.__code__)

    def hook(self, event, args):
        if event == "exec" and args and type(args[0]) is CodeType:
            try:
                self.meet(args[0])
            except Exception as error:
                self.recorder.failed(error)

    def meet(self, code):
        path = code.co_filename
        is_wanted = self.wanted.get(path)
        if is_wanted is None:
            is_wanted = self.wanted[path] = self.is_below(path)
        if is_wanted and not self.recorder.disowned:
            self.pending.append(code)
            if self.is_open and self.thread == get_ident():
                self.flush()

    def is_below(self, path):
        if path[:1] == "<":
            return False
        path = os.path.abspath(path)
        for root in self.roots:
            rest = path[len(root) :]
            if path.startswith(root) and rest[:1] in ("", os.sep):
                if not any(part in rest for part in NOT_MEANT):
                    return True
        return False

    def open(self, first=None):
        """From now on the recorder can take code; `first` is of the file that the trace is named after."""
        if first is not None:
            self.pending.insert(0, first)
        self.is_open = True
        self.flush()

    def close(self):
        """The recorder can take no code until the next `open`."""
        self.is_open = False

    def flush(self):
        pending, self.pending = self.pending, []
        for code in pending:
            self.recorder.add_codes(code, self.number(code.co_filename))

    def number(self, path):
        number = self.numbers.get(path)
        if number is None:
            number = self.numbers[path] = len(self.numbers)
            self.recorder.write(SMALL[FILE] + text_bytes(path) + text_bytes(source_of(path)))
        return number


def source_of(path):
    """The text of a file; empty if there is none."""
    from importlib.util import decode_source

    try:
        with open(path, "rb") as file:
            return decode_source(file.read())
    except (OSError, SyntaxError, UnicodeError, LookupError):
        return ""


class CannotRun(Exception):
    """What `runpy` raises for us."""


def find_module(name, folder, recorder):
    """What `python -m` would run: spec and code of the module, and the files of its package."""
    import runpy
    from importlib.util import find_spec

    sys.path[:] = [folder] + [path for path in sys.path if path]
    try:
        whole = find_spec(name.partition(".")[0])
        if whole is None:
            raise CannotRun("No module named %s" % name)
        roots = whole.submodule_search_locations or [whole.origin or ""]
        files = Files(recorder, [root for root in roots if root])
        files.watch()
        _, spec, code = runpy._get_module_details(name, CannotRun)
    except CannotRun as error:
        raise Refused(NO_MODULE, text_bytes(str(error)))
    except Exception as error:
        raise Refused(NO_MODULE, text_bytes("%s: %s" % (type(error).__name__, error)))
    files.open(code)
    return spec, code
