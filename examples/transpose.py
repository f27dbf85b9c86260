# Rows become columns. Watch `row` fill up and then move into `result`.


def transpose(matrix):
    result = []
    for j in range(len(matrix[0])):
        row = []
        for i in range(len(matrix)):
            row.append(matrix[i][j])
        result.append(row)
    return result


print(transpose([[1, 2, 3], [4, 5, 6]]))
