# How often does each letter occur? A dict is built one letter at a time.


def histogram(word):
    counts = {}
    for letter in word:
        counts[letter] = counts.get(letter, 0) + 1
    return counts


print(histogram("pepper"))
