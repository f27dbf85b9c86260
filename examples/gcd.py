# Euclid's algorithm: the pair (a, b) shrinks until b is 0.


def gcd(a, b):
    while b != 0:
        a, b = b, a % b
    return a


print(gcd(84, 36))
print(gcd(17, 5))
