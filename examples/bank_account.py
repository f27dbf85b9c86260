# An object with state: see `balance` inside `self` change.
# The second withdrawal is refused.


class Account:
    def __init__(self, balance):
        self.balance = balance

    def deposit(self, amount):
        self.balance += amount

    def withdraw(self, amount):
        if amount > self.balance:
            return False
        self.balance -= amount
        return True


account = Account(20)
account.deposit(15)
first = account.withdraw(30)
second = account.withdraw(10)
print(account.balance, first, second)
