# A closure: `step` keeps its own `count` between calls,
# although make_counter has returned long ago.


def make_counter(start):
    count = start

    def step():
        nonlocal count
        count += 2
        return count

    return step


tick = make_counter(10)
tick()
tick()
print(tick())
