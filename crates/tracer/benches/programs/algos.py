"""Many small functions of the kind that tests and exercises are made of."""


def letters(text):
    counts = {}
    for c in text:
        if c.isalpha():
            counts[c] = counts.get(c, 0) + 1
    return counts


def bubble(xs):
    xs = list(xs)
    for i in range(len(xs)):
        for j in range(len(xs) - 1 - i):
            if xs[j] > xs[j + 1]:
                xs[j], xs[j + 1] = xs[j + 1], xs[j]
    return xs


def sieve(n):
    marks = [True] * (n + 1)
    primes = []
    for i in range(2, n + 1):
        if marks[i]:
            primes.append(i)
            for j in range(i * i, n + 1, i):
                marks[j] = False
    return primes


def fib(n):
    if n < 2:
        return n
    return fib(n - 1) + fib(n - 2)


def gcd(a, b):
    while b:
        a, b = b, a % b
    return a


def find(xs, wanted):
    low, high = 0, len(xs) - 1
    while low <= high:
        middle = (low + high) // 2
        if xs[middle] == wanted:
            return middle
        if xs[middle] < wanted:
            low = middle + 1
        else:
            high = middle - 1
    return -1


def frequent(text):
    counts = {}
    for word in text.split():
        counts[word] = counts.get(word, 0) + 1
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def common(a, b):
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i in range(len(a)):
        for j in range(len(b)):
            if a[i] == b[j]:
                table[i + 1][j + 1] = table[i][j] + 1
            else:
                table[i + 1][j + 1] = max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


def caesar(text, shift):
    out = ""
    for c in text:
        if c.islower():
            out += chr((ord(c) - 97 + shift) % 26 + 97)
        else:
            out += c
    return out


def runs(text):
    found = []
    i = 0
    while i < len(text):
        j = i
        while j < len(text) and text[j] == text[i]:
            j += 1
        found.append((text[i], j - i))
        i = j
    return found


def balanced(text):
    pairs = {")": "(", "]": "[", "}": "{"}
    stack = []
    for c in text:
        if c in "([{":
            stack.append(c)
        elif c in pairs:
            if not stack or stack.pop() != pairs[c]:
                return False
    return not stack


def product(a, b):
    rows = []
    for i in range(len(a)):
        row = []
        for j in range(len(b[0])):
            total = 0.0
            for k in range(len(b)):
                total += a[i][k] * b[k][j]
            row.append(total)
        rows.append(row)
    return rows


def distances(graph, start):
    seen = {start: 0}
    queue = [start]
    while queue:
        node = queue.pop(0)
        for other in graph[node]:
            if other not in seen:
                seen[other] = seen[node] + 1
                queue.append(other)
    return seen


def permutations(xs):
    if len(xs) <= 1:
        return [xs]
    found = []
    for i in range(len(xs)):
        for rest in permutations(xs[:i] + xs[i + 1:]):
            found.append([xs[i]] + rest)
    return found


def primes(n):
    for i in range(2, n):
        for j in range(2, i):
            if i % j == 0:
                break
        else:
            yield i


def numbers(words):
    found = []
    for word in words:
        try:
            found.append(int(word))
        except ValueError:
            found.append(None)
    return found


def collatz(n):
    steps = 0
    while n != 1:
        n = n // 2 if n % 2 == 0 else 3 * n + 1
        steps += 1
    return steps


def quicksort(xs):
    if len(xs) < 2:
        return xs
    pivot = xs[0]
    small = [x for x in xs[1:] if x < pivot]
    large = [x for x in xs[1:] if x >= pivot]
    return quicksort(small) + [pivot] + quicksort(large)


def transpose(rows):
    return [[row[i] for row in rows] for i in range(len(rows[0]))]


class Stack:
    def __init__(self):
        self.items = []

    def push(self, item):
        self.items.append(item)

    def pop(self):
        return self.items.pop()


def polish(text):
    stack = Stack()
    for token in text.split():
        if token in "+-*":
            b, a = stack.pop(), stack.pop()
            if token == "+":
                stack.push(a + b)
            elif token == "-":
                stack.push(a - b)
            else:
                stack.push(a * b)
        else:
            stack.push(int(token))
    return stack.pop()


def main():
    letters("hello world, this is text")
    bubble([5, 2, 9, 1, 7, 3, 8])
    sieve(60)
    fib(9)
    gcd(1071, 462)
    find(list(range(0, 100, 3)), 66)
    frequent("the cat and the dog and the bird")
    common("agcatgcat", "gacttacg")
    caesar("attack at dawn!", 3)
    runs("aaabbbccddddde")
    balanced("{[()()]}([)]")
    product([[1.0, 2.5, 3.0], [0.1, 0.2, 0.3]], [[1.5, 2.0], [0.5, 4.0], [3.25, 1.0]])
    distances({0: [1, 2], 1: [3], 2: [3, 4], 3: [5], 4: [5], 5: []}, 0)
    permutations([1, 2, 3, 4])
    list(primes(30))
    numbers(["1", "x", "22", "", "-7"])
    collatz(27)
    quicksort([3, 6, 1, 8, 2, 9, 2])
    transpose([[1, 2, 3], [4, 5, 6]])
    polish("3 4 + 2 * 7 - 5 6 + *")


def run(times):
    for _ in range(times):
        main()
