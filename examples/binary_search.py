# Binary search halves the range between `low` and `high` at each step.


def search(items, target):
    low = 0
    high = len(items) - 1
    while low <= high:
        mid = (low + high) // 2
        if items[mid] == target:
            return mid
        if items[mid] < target:
            low = mid + 1
        else:
            high = mid - 1
    return -1


print(search([2, 5, 8, 12, 17, 21], 17))
