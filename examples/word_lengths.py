# From a sentence to a dict of word lengths, and then to the longest word.


def word_lengths(sentence):
    lengths = {}
    for word in sentence.split():
        lengths[word] = len(word)
    return lengths


def longest(lengths):
    best = ""
    for word in lengths:
        if best == "" or lengths[word] > lengths[best]:
            best = word
    return best


lengths = word_lengths("the quick fox")
print(longest(lengths))
