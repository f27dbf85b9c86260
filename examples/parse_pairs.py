# Text parsing: from "name=value;..." to a dict of numbers.


def parse(text):
    settings = {}
    for part in text.split(";"):
        key, value = part.split("=")
        settings[key] = int(value)
    return settings


config = parse("x=3;size=12")
print(config)
