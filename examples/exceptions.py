# Exceptions: which parts are numbers? The except branch runs for the
# one that is not, and the loop goes on.


def parse_all(parts):
    total = 0
    bad = 0
    for part in parts:
        try:
            total += int(part)
        except ValueError:
            bad += 1
    return total, bad


print(parse_all(["4", "x", "15"]))
