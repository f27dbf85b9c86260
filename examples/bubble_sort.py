# Bubble sort: after each pass of the outer loop, one more item at the
# right end is in its place. Watch `values` change by swaps of neighbours.


def bubble_sort(values):
    n = len(values)
    for i in range(n - 1):
        for j in range(n - 1 - i):
            if values[j] > values[j + 1]:
                values[j], values[j + 1] = values[j + 1], values[j]
    return values


print(bubble_sort([5, 2, 9, 1]))
