"""Times the native collector against other tracers, in interleaved pairs, by CPU time.

    python benches/peers.py [--python PYTHON] [--library LIBRARY] [--pairs 7] [--out RESULT.json]

Each pair is two processes, one right after the other: ours and the peer's, on the same workload.  The
result has every run, and for each peer the median of the pairs' ratios.  The peers (coverage 7.17.3,
hunter 3.9.0, viztracer 1.1.1) must be installed in the interpreter that `--python` names; one that is
absent is named and left out.  The library is what `build.rs` makes: by default the newest below the
target folder.
"""

import argparse
import glob
import json
import os
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
# Repetitions of each workload, by tool: slow ones run fewer, and are compared by time per repetition.
TIMES = {"algos": 200, "sudoku": 1}
SLOW = {("hunter", "algos"): 20}
PEERS = ("coverage", "viztracer", "hunter")


def newest_library():
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(HERE, "..", "..", "..", "target"))
    found = glob.glob(os.path.join(target, "*", "build", "cwm-tracer-*", "out", "cwm_native.so"))
    if not found:
        sys.exit("no native library below %s: build the crate, or name one" % target)
    return max(found, key=os.path.getmtime)


def run(python, tool, workload, library):
    times = SLOW.get((tool, workload), TIMES[workload])
    command = [python, os.path.join(HERE, "one.py"), tool, workload, str(times), library]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        return None
    result = json.loads(done.stdout)
    result["times"] = times
    return result


def compare(python, peer, workload, library, pairs):
    """The pairs of runs, and the medians of what they say; None where the peer cannot run."""
    runs = []
    for _ in range(pairs):
        ours = run(python, "cwm", workload, library)
        if ours is None:
            sys.exit("our own collector failed on %s" % workload)
        theirs = run(python, peer, workload, library)
        if theirs is None:
            return None
        runs.append((ours, theirs))

    def cost(result):
        return result["traced"] / result["times"]

    ours = statistics.median(cost(ours) for ours, _ in runs)
    theirs = statistics.median(cost(theirs) for _, theirs in runs)
    events = runs[0][0]["events"] / runs[0][0]["times"]
    return {
        "peer": peer,
        "workload": workload,
        "mode": runs[0][0]["mode"],
        "events_per_repetition": events,
        "bytes_per_event": runs[0][0]["bytes"] / runs[0][0]["events"],
        "our_events_per_second": events / ours,
        "our_nanoseconds_per_event": 1e9 * ours / events,
        "peer_nanoseconds_per_event": 1e9 * theirs / events,
        "our_cost_in_the_peers": statistics.median(cost(a) / cost(b) for a, b in runs),
        "lowest_by_lowest": min(cost(a) for a, _ in runs) / min(cost(b) for _, b in runs),
        "runs": runs,
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--library", dest="native", metavar="LIBRARY")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--out")
    options = parser.parse_args()
    library = options.native or newest_library()
    results = []
    for workload in TIMES:
        for peer in options.peers.split(","):
            result = compare(options.python, peer, workload, library, options.pairs)
            if result is None:
                print("SKIPPED: %s does not run in %s" % (peer, options.python))
                continue
            results.append(result)
            print(
                "%-7s %-10s ours %5.0f ns, peer %6.0f ns an event: %.2f of its cost (lowest: %.2f)"
                % (
                    workload,
                    peer,
                    result["our_nanoseconds_per_event"],
                    result["peer_nanoseconds_per_event"],
                    result["our_cost_in_the_peers"],
                    result["lowest_by_lowest"],
                )
            )
    if options.out:
        with open(options.out, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
