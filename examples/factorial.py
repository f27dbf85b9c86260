# Recursion: each call waits for the one inside it.
# Step in until n is 1, then watch the answers come back.


def factorial(n):
    if n <= 1:
        return 1
    return n * factorial(n - 1)


print(factorial(5))
