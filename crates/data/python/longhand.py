"""Operations worked out by hand: what comes before the step of a product, a division, a comparison, a sort.

`64 * 64` is one step, and for a small model as many facts as there are pairs of numbers. Written as one does on paper it is a
few facts about digits. Each function gives the texts of the steps before the one that tells the result, none where the
operands are so small that the result is such a fact itself.

The second part of the script that `known.py` begins.
"""

# Digits of a product's or a quotient's operands together.
MOST_DIGITS = 6
# Items that are taken in turn, and characters of lists that are sorted.
MOST_TAKEN = 12
LONGEST_SORT = 200


def digits(number):
    return str(abs(number))


def by_hand(symbol, left, right):
    """The steps before that of an operation on two numbers."""
    if type(left) is not int or type(right) is not int:
        return []
    if symbol == "*":
        return product(abs(left), abs(right))
    if symbol in ("//", "%") and left >= 0 and right > 0:
        return division(left, right)
    if symbol in ("<", "<=", ">", ">="):
        return comparison(left, right)
    return []


def product(left, right):
    """A digit of one factor after the other, the lowest first; and each of these products in the same way."""
    if len(digits(left)) + len(digits(right)) > MOST_DIGITS or is_power_of_ten(left) or is_power_of_ten(right):
        return []
    whole, apart = sorted((left, right), key=lambda factor: (significant(factor), factor))
    if significant(apart) < 2 or significant(whole) == 0:
        return []
    steps, total = [], None
    for place, digit in enumerate(reversed(digits(apart))):
        part = int(digit) * 10**place
        if part == 0:
            continue
        steps += product(whole, part)
        steps.append(f"{whole} * {part} = {whole * part}")
        if total is not None:
            steps.append(f"{total} + {whole * part} = {total + whole * part}")
        total = (total or 0) + whole * part
    return steps


def significant(number):
    """How many digits stand before the zeros at the end."""
    return len(digits(number).rstrip("0"))


def is_power_of_ten(number):
    return digits(number).rstrip("0") == "1"


def division(left, right):
    """Long division: a digit of the dividend after the other."""
    if left < 10 * right or len(digits(left)) + len(digits(right)) > MOST_DIGITS or is_power_of_ten(right):
        return []
    steps, rest = [], 0
    for digit in digits(left):
        rest = rest * 10 + int(digit)
        if rest < right and not steps:
            continue
        steps.append(f"{rest} // {right} = {rest // right}")
        steps.append(f"{rest} % {right} = {rest % right}")
        rest %= right
    return steps


def comparison(left, right):
    """Digit by digit, where two numbers have as many of them."""
    one, other = digits(left), digits(right)
    if len(one) != len(other) or len(one) < 2 or (left < 0) != (right < 0) or len(one) > MOST_DIGITS:
        return []
    steps = []
    for a, b in zip(one, other):
        sign = "=" if a == b else "<" if a < b else ">"
        steps.append(f"{a} {sign} {b}")
        if a != b:
            break
    return steps


def taken(values, index):
    """The items that a slice with a stride takes, by their places."""
    places = range(*index.indices(len(values)))
    if not 2 <= len(places) <= MOST_TAKEN:
        return []
    return [f"[{place}] = {values[place]!r}" for place in places]


def insertion(values, is_falling):
    """Sorting: each item put where it belongs among those before it."""
    if len(values) < 3 or len({type(value) for value in values}) > 1 or not all(map(is_scalar, values)):
        return []
    steps, made = [], []
    for value in values:
        made = sorted([*made, value], reverse=is_falling)
        steps.append(repr(made))
    steps = steps[1:-1]
    fits = all(len(step) <= LONGEST_STEP for step in steps) and sum(map(len, steps)) <= LONGEST_SORT
    return steps if fits else []
