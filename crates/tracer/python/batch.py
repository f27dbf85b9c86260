"""Makes many runs.  Part 9 of 11 of the collector.

A request of this kind loads a program once and calls functions of it one after the other in one process,
as long as no call can notice the ones before it (`state.py`).  In the log, the loading is a run of its own,
labelled `load`; each call's label is its number.  Or it has many programs, which are run one after the
other on the same condition, each labelled by its number.  The Rust side sends what is left to another
process.
"""

import gc
import os
import sys
import time

# Letters of the request's flags.
AS_SCRIPT, UNTRACED, WITH_RESULTS, DISTURBED, ALONE, PROGRAMS, GUARDED, TOGETHER = "surd1pgt"
# `co_flags` of generators and coroutines.
LAZY = 0x20 | 0x80


class Batch:
    """The calls of one request and how to make them."""

    def __init__(self, request, space, recorder, events):
        self.request = request
        self.space = space
        self.recorder = recorder
        self.events = events
        flags = request.function
        self.is_script = AS_SCRIPT in flags
        self.is_traced = UNTRACED not in flags
        self.has_results = WITH_RESULTS in flags
        self.is_alone = ALONE in flags
        self.is_together = TOGETHER in flags
        # Function and arguments of each call; source, function and arguments of each program.
        self.parts = request.args.split("\0")[:-1]
        self.code = None
        self.literals = None if self.is_script else Literals()
        self.printed = (0, 0)
        if hasattr(events, "watch"):
            # Switching these events on and off is dear; between runs they are ignored.
            recorder.stop = lambda: None
        if GUARDED in flags:
            # What it says of places must not depend on whose they are.
            os.chdir("/")
            os.environ["HOME"] = "/user"
            sys.addaudithook(Guard(recorder))
        # Takes up room in blocks of every size, so that addresses are others than in an undisturbed run.
        self.ballast = None
        if DISTURBED in flags:
            self.ballast = [bytes(n) for n in range(1, 600) for _ in range(n % 7)], [object() for _ in range(701)]
        self.seeds = sys.modules["random"] if "random" in request.source else None

    def load(self):
        request = self.request
        request.is_call = not self.is_script
        self.code = compile_program(request)
        self.recorder.add_codes(self.code)
        if self.is_script and self.is_traced:
            self.record(exec, (self.code, self.space), {})
        else:
            exec(self.code, self.space)

    def run(self, code, refused, args):
        """Runs another program, if it could be compiled: as a script, or a function of it."""
        if refused is not None:
            raise refused
        function = self.request.function
        self.recorder.add_codes(code)
        if function:
            exec(code, self.space)
            self.call(function, args)
        elif self.is_traced:
            self.record(exec, (code, self.space), {})
        else:
            exec(code, self.space)

    def record(self, function, args, named):
        """Calls a function and records its run."""
        recorder = self.recorder
        recorder.renew(True)
        self.events.start()
        try:
            result = function(*args, **named)
            if not recorder.over:
                finish(result)
            if not recorder.over and recorder.recorded():
                raise SwitchedOff
            return result
        finally:
            recorder.silence()

    def call(self, name, args):
        request, recorder = self.request, self.recorder
        request.function, request.args = name, args
        function = resolve(request, self.space)
        literals = self.literals.arguments(args)
        args, named = evaluate_arguments(request, self.space) if literals is None else (literals, {})
        try:
            if self.is_traced:
                result = self.record(function, args, named)
                if recorder.recorded() == 0:
                    raise bad_arguments("calling it ran no line of this file")
            else:
                result = function(*args, **named)
                if getattr(getattr(function, "__code__", None), "co_flags", 0) & LAZY:
                    finish(result)
        except TypeError as error:
            # It comes from the call itself if it has been in no frame below.
            if not has_come_from_below(error.__traceback__, self.request.file):
                raise bad_arguments(error)
            raise
        if self.has_results:
            recorder.write(SMALL[RESULT] + text_bytes(recorder.render.value(result)[0]))

    def begin(self, label):
        try:
            # What is written goes to the end wherever the place is.
            self.printed = os.lseek(1, 0, os.SEEK_END), os.lseek(2, 0, os.SEEK_END)
        except OSError:
            # The program has closed one; what was printed does not grow then.
            pass
        self.recorder.begin_run(label, self.printed)


def has_come_from_below(trace, file):
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            return True
        trace = trace.tb_next
    return False


def run_batch(request, space, recorder, events):
    """Makes the runs that can be made in this process; gives the exit status of the last."""
    batch = Batch(request, space, recorder, events)
    if PROGRAMS in request.function:
        return run_programs(batch)
    batch.begin("load")
    how, status = conclude(recorder, request, batch.load)
    if how != FINISHED or batch.code is None or batch.is_script:
        return status
    state = None
    calls = list(zip(batch.parts[::2], batch.parts[1::2]))
    is_watched = not batch.is_together
    if is_watched and len(calls) > 1 and not batch.is_alone and not request.stdin:
        state = State(batch.code, request.source, space)
    clock = CpuLimit()
    for number, (name, args) in enumerate(calls):
        if number and is_watched and (not state.is_known() or state.is_changed()):
            break
        clock.renew()
        if batch.seeds is not None:
            batch.seeds.seed(0)
        batch.begin(str(number))
        how, status = conclude(recorder, request, lambda: batch.call(name, args))
        if how not in (FINISHED, RAISED) or state is None and is_watched:
            break
    return status


def run_programs(batch):
    """The same for many programs."""
    request, recorder = batch.request, batch.recorder
    clock, modules = CpuLimit(), Modules()
    # Namespaces live on: what ends with one must not happen in the time of another.
    kept, status = [], 0
    programs = zip(batch.parts[::3], batch.parts[1::3], batch.parts[2::3])
    for number, (source, function, args) in enumerate(programs):
        request.source, request.function = source, function
        request.is_call = bool(function)
        code = refused = None
        try:
            code = compile_program(request)
        except Refused as error:
            refused = error
        keeps_to_itself = code is None or is_unnoticed(code, source)
        if number and not keeps_to_itself:
            break
        clock.renew()
        batch.space = new_main(request)
        kept.append(batch.space)
        # What earlier programs have left is not looked at any more, as in a process of one's own.
        gc.freeze()
        batch.begin(str(number))
        step = lambda: batch.run(code, refused, args)
        how, status = conclude(recorder, request, step)
        if how not in (FINISHED, RAISED) or not keeps_to_itself:
            break
        if "import" in source and modules.have_changed():
            break
    return status


class Modules:
    """What the stateless modules have in them, which a program may change all the same."""

    def __init__(self):
        loaded = {name: sys.modules.get(name) for name in STATELESS}
        self.known = {module: list(vars(module).items()) for module in loaded.values() if module}

    def have_changed(self):
        for module, items in self.known.items():
            now = vars(module)
            if len(now) != len(items) or any(now.get(name) is not value for name, value in items):
                return True
        return False


class CpuLimit:
    """Gives each run the processor time that the first one has."""

    def __init__(self):
        self.limits = None if resource is None else resource.getrlimit(resource.RLIMIT_CPU)
        self.next = time.process_time() + 0.5

    def renew(self):
        now = time.process_time()
        if self.limits is None or now < self.next:
            return
        self.next = now + 0.5
        soft, hard = self.limits
        if soft != resource.RLIM_INFINITY:
            soft += int(now)
            if hard != resource.RLIM_INFINITY:
                soft = min(soft, hard)
            resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))
