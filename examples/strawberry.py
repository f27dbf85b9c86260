# How many times does a letter occur in a word?
# Watch `count`: it changes only on the three lines where `char` is "r".


def count_letters(text, letter):
    count = 0
    for char in text:
        if char == letter:
            count += 1
    return count


print(count_letters("strawberry", "r"))
