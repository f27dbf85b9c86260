# This should add up all numbers of the list, but the answer is too small.
# Step to the end of the loop: which number was never added?


def add_all(numbers):
    total = 0
    for i in range(len(numbers) - 1):
        total += numbers[i]
    return total


print(add_all([4, 8, 15, 16]))
