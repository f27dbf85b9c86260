# A generator runs only as far as it is asked to: step through and see
# how control goes back and forth between the loop and `evens`.


def evens(limit):
    number = 0
    while number < limit:
        yield number
        number += 2


total = 0
for value in evens(7):
    total += value
print(total)
