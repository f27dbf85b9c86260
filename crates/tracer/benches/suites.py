"""Times test suites recorded by our pytest plugin against coverage's C tracer, in interleaved pairs.

    python benches/suites.py --python PYTHON [--library LIBRARY] [--pairs 5] [--out RESULT.json] NAME=FOLDER[:TESTS]...

FOLDER is an unpacked source distribution (toolz 1.0.0 with TESTS `toolz`, boltons 26.2.0 with `tests`);
PYTHON has pytest and coverage.  A round is three processes: untraced, coverage (`coverage run -m pytest`, no
data file), and ours, which writes its log.  Cost is the processor time of the whole process.  The outcomes
of all tests are compared with those of the untraced run.
"""

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
PARTS = ("values", "safe", "recorder", "layout", "files", "tests")
OPTIONS = ["-q", "-rA", "-p", "no:cacheprovider", "-p", "no:doctest", "-p", "no:randomly"]


def newest_library():
    sys.path.insert(0, HERE)
    import peers

    return peers.newest_library()


def plugin(folder):
    """The script that `src/tests.rs` puts together."""
    path = os.path.join(folder, "cwm_tests.py")
    with open(path, "w") as file:
        for part in PARTS:
            with open(os.path.join(HERE, "..", "python", part + ".py")) as source:
                file.write(source.read())
    return path


def spent(command, folder):
    """The processor time of a command, and what it printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = dict(os.environ, PYTHONHASHSEED="0", COVERAGE_CORE="ctrace", PYTHONDONTWRITEBYTECODE="1")
    done = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    time = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time, done.stdout


def outcomes(output):
    """How pytest counts each test: its `-rA` lines, without what they say after the id."""
    found = re.findall(r"^(PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS) (\S+)", output, re.M)
    return sorted(found)


def measure(python, library, folder, tests, pairs):
    rounds = []
    changed = 0
    with tempfile.TemporaryDirectory() as scratch:
        script = plugin(scratch)
        log = os.path.join(scratch, "log")
        plain = [python, "-m", "pytest", *OPTIONS, tests]
        include = os.path.join(folder, "*")
        covered = [python, "-m", "coverage", "run", "--data-file=", "--include=" + include]
        covered += ["-m", "pytest", *OPTIONS, tests]
        ours = [python, script, log, library, "direct", "safe", "100000000", "2000", "1", folder]
        for _ in range(pairs):
            open(log, "w").close()
            base, expected = spent(plain, folder)
            peer, _ = spent(covered, folder)
            own, found = spent([*ours, *OPTIONS, tests], folder)
            if not outcomes(expected):
                sys.exit("no tests ran in %s:\n%s" % (folder, expected[-2000:]))
            changed += len(set(outcomes(expected)) ^ set(outcomes(found)))
            rounds.append({"untraced": base, "coverage": peer, "ours": own})
        size = os.path.getsize(log)
    return {
        "tests": len(outcomes(expected)),
        "changed_outcomes": changed,
        "log_bytes": size,
        "untraced": statistics.median(r["untraced"] for r in rounds),
        "coverage": statistics.median(r["coverage"] for r in rounds),
        "ours": statistics.median(r["ours"] for r in rounds),
        "our_cost_in_coverages": statistics.median(r["ours"] / r["coverage"] for r in rounds),
        "rounds": rounds,
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--library", dest="native")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--out")
    parser.add_argument("suites", nargs="+", metavar="NAME=FOLDER[:TESTS]")
    options = parser.parse_args()
    library = options.native or newest_library()
    results = {}
    for suite in options.suites:
        name, _, place = suite.partition("=")
        folder, _, tests = place.partition(":")
        folder = os.path.abspath(folder)
        result = results[name] = measure(options.python, library, folder, tests or "tests", options.pairs)
        print(
            "%s: untraced %.2f s, coverage %.2f s, ours %.2f s: %.2f of coverage's cost; %d of %d outcomes changed"
            % (
                name,
                *(result[key] for key in ("untraced", "coverage", "ours", "our_cost_in_coverages")),
                *(result["changed_outcomes"], result["tests"]),
            )
        )
    if options.out:
        with open(options.out, "w") as file:
            json.dump(results, file, indent=1)


main()
