def kind(value):
    match value:
        case [first, *rest]:
            return "sequence", first, rest
        case {"k": inner, **others}:
            return "mapping", inner, others
        case int(n) if n > 3:
            return "int", n
        case _:
            return "other"


found = [kind(v) for v in ([1, 2, 3], {"k": (), "l": 0}, 7, 2, None)]
