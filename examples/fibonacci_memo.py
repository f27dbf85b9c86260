# A dict remembers what was computed before, so no number is worked out
# twice. Watch `memo` grow on the way back.


def fib(n, memo):
    if n in memo:
        return memo[n]
    if n < 2:
        return n
    memo[n] = fib(n - 1, memo) + fib(n - 2, memo)
    return memo[n]


print(fib(5, {}))
