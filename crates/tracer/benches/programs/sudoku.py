"""A backtracking search: a list of lists is live in every frame."""

PUZZLE = """
53..7....
6..195...
.98....6.
8...6...3
4..8.3..1
7...2...6
.6....28.
...419..5
....8..79
"""


def read(text):
    return [[0 if c == "." else int(c) for c in line] for line in text.split()]


def fits(board, row, column, digit):
    for i in range(9):
        if board[row][i] == digit:
            return False
        if board[i][column] == digit:
            return False
    top, left = row // 3 * 3, column // 3 * 3
    for i in range(3):
        for j in range(3):
            if board[top + i][left + j] == digit:
                return False
    return True


def solve(board):
    for row in range(9):
        for column in range(9):
            if board[row][column] == 0:
                for digit in range(1, 10):
                    if fits(board, row, column, digit):
                        board[row][column] = digit
                        if solve(board):
                            return True
                        board[row][column] = 0
                return False
    return True


def run(times):
    for _ in range(times):
        board = read(PUZZLE)
        solve(board)
