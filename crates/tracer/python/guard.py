"""Ends a run that reaches for the world outside.  Part 10 of 11 of the collector.

Real code from libraries is run on inputs that nobody has looked at. A mistake then must not write a file,
start a process or open a connection. The interpreter announces such things to its audit hooks (PEP 578); the
hook here ends the process before they happen, and says in the log what was about to be done.

It guards against accidents: code that means harm finds ways that are not announced.
"""

import os
import sys

# Events, or what stands before the dot in their names.
FORBIDDEN_KINDS = frozenset(
    "_posixsubprocess _winapi ctypes dbm fcntl ftplib http imaplib marshal mmap msvcrt nntplib poplib pty shutil signal"
    " smtplib socket sqlite3 subprocess syslog telnetlib tempfile urllib webbrowser winreg".split()
)
FORBIDDEN_EVENTS = frozenset(
    "_thread.start_joinable_thread _thread.start_new_thread os.chflags os.chmod os.chown os.exec os.fork os.forkpty os.kill os.killpg os.link os.lockf"
    " os.mkdir os.posix_spawn os.remove os.removexattr os.rename os.rmdir os.setxattr os.spawn os.startfile os.symlink"
    " os.system os.utime".split()
)
# Modules that start processes or share memory in ways that are not announced.
FORBIDDEN_IMPORTS = frozenset("_posixshmem multiprocessing".split())
# The loading of modules takes these from `marshal`.
READING = frozenset("marshal.load marshal.loads".split())
LOOKING = frozenset("glob.glob glob.glob/2 os.listdir os.scandir os.walk os.fwalk".split())
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Guard:
    """An audit hook that lets a run read the interpreter's own library and nothing else."""

    def __init__(self, recorder):
        self.recorder = recorder
        # Not all that lies below the interpreter's prefix, which may be that of the whole system.
        places = [os.path.dirname(os.__file__)] + [path for path in sys.path if path.endswith("lib-dynload")]
        self.readable = tuple(os.path.realpath(place) + os.sep for place in places)
        # Looked through for modules, whether they are there or not.
        self.searched = frozenset(sys.path) | {None, "", "."}
        sys.dont_write_bytecode = True

    def __call__(self, event, arguments):
        if self.is_forbidden(event, arguments):
            recorder = self.recorder
            recorder.silence()
            recorder.close(FAILED, text_bytes("forbidden: " + describe(event, arguments)))
            os._exit(1)

    def is_forbidden(self, event, arguments):
        if event == "open":
            path, _, flags = arguments
            if path == os.devnull:
                return False
            return bool((flags or 0) & WRITING) or not self.is_library(path)
        if event == "import":
            return str(arguments[0]).partition(".")[0] in FORBIDDEN_IMPORTS
        if event in LOOKING:
            return not self.is_library(arguments[0])
        if event == "os.truncate":
            # What records makes room in its own file, which is open.
            return not isinstance(arguments[0], int)
        if event in FORBIDDEN_EVENTS:
            return True
        return event.partition(".")[0] in FORBIDDEN_KINDS and event not in READING

    def is_library(self, path):
        if isinstance(path, int):
            return True
        try:
            return path in self.searched or os.path.realpath(path).startswith(self.readable)
        except (TypeError, ValueError):
            return False


def describe(event, arguments):
    """The event, and of what: a file, a host, a command."""
    first = arguments[0] if arguments else None
    return "%s %s" % (event, first[:200]) if type(first) is str else event
