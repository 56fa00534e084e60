"""Reads the part of HCL2 that Nomad job files of this project use.

In:    the text of a job file, and values for its `variable` blocks.
Out:   nested dicts: a block is a list of (labels, body) under its type; an attribute is its value.
Holds: what it does not know is an error that names the line, never a guess.
Not here: functions, conditionals, `for`: a real Nomad knows them, our job files do without.
"""

import re

TOKEN = re.compile(
    r"""(?P<space>[ \t\r]+|\#[^\n]*|//[^\n]*|/\*.*?\*/)|(?P<line>\n)
    |(?P<heredoc><<-?(?P<mark>[A-Z_a-z0-9]+)\n(?P<text>.*?\n)?[ \t]*(?P=mark)(?=\n|\Z))
    |(?P<string>"(?:\\.|\$\{(?:[^}"]|"[^"]*")*\}|[^"\\])*")
    |(?P<number>-?\d+(?:\.\d+)?)|(?P<name>[A-Za-z_][A-Za-z0-9_.-]*)|(?P<sign>[{}\[\]=,:])""",
    re.S | re.X,
)
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}


class HclError(ValueError):
    """The text is not what this reader knows."""


class _Reader:
    def __init__(self, text, variables):
        self.tokens, self.at, self.variables = list(_tokens(text)), 0, dict(variables)

    def peek(self):
        return self.tokens[self.at] if self.at < len(self.tokens) else (None, None, 0)

    def take(self, kind=None, value=None):
        token = self.peek()
        if (kind and token[0] != kind) or (value and token[1] != value):
            raise HclError(f"line {token[2]}: expected {value or kind}, found {token[1]!r}")
        self.at += 1
        return token[1]

    def skip_lines(self):
        while self.peek()[0] == "line":
            self.at += 1

    def body(self, until):
        result = {}
        while True:
            self.skip_lines()
            kind, value, line = self.peek()
            if kind == until[0] and value == until[1]:
                self.at += 1
                return result
            name = self.take("name") if kind == "name" else self.take("string")
            if self.peek()[1] == "=":
                self.at += 1
                result[name] = self.value()
            else:
                labels = []
                while self.peek()[0] in ("string", "name"):
                    labels.append(self.take())
                if self.peek()[1] != "{":
                    raise HclError(f"line {line}: {name} is neither an attribute nor a block")
                self.at += 1
                block = self.body(("sign", "}"))
                if name == "variable" and labels and "default" in block:
                    self.variables.setdefault(labels[0], block["default"])
                result.setdefault(name, []).append((labels, block))

    def value(self):
        kind, value, line = self.peek()
        self.at += 1
        if kind in ("string", "heredoc"):
            return self.interpolate(value, line)
        if kind == "number":
            return float(value) if "." in value else int(value)
        if kind == "name":
            return self.named(value, line)
        if value == "[":
            return self.sequence()
        if value == "{":
            return self.mapping()
        raise HclError(f"line {line}: no value starts with {value!r}")

    def named(self, value, line):
        words = {"true": True, "false": False, "null": None}
        if value in words:
            return words[value]
        if value.startswith("var."):
            return self.variable(value[4:], line)
        if value in ("string", "number", "bool"):  # the type of a variable
            return value
        raise HclError(f"line {line}: {value} is not known here")

    def variable(self, name, line):
        if name not in self.variables:
            raise HclError(f"line {line}: variable {name} has no value")
        return self.variables[name]

    def sequence(self):
        result = []
        while True:
            self.skip_lines()
            if self.peek()[1] == "]":
                self.at += 1
                return result
            result.append(self.value())
            self.skip_lines()
            if self.peek()[1] == ",":
                self.at += 1

    def mapping(self):
        result = {}
        while True:
            self.skip_lines()
            if self.peek()[1] == "}":
                self.at += 1
                return result
            key = self.take()
            if self.peek()[1] not in ("=", ":"):
                raise HclError(f"line {self.peek()[2]}: expected = after {key}")
            self.at += 1
            result[key] = self.value()
            self.skip_lines()
            if self.peek()[1] == ",":
                self.at += 1

    def interpolate(self, text, line):
        # `${var.x}` is ours to fill; any other `${...}` is for Nomad at run time; `$${` is `${`.
        def fill(found):
            return str(self.variable(found[1], line))

        return re.sub(r"(?<!\$)\$\{var\.([A-Za-z0-9_]+)\}", fill, text).replace("$${", "${")


def _tokens(text):
    at, line = 0, 1
    while at < len(text):
        found = TOKEN.match(text, at)
        if not found:
            raise HclError(f"line {line}: cannot read {text[at:at + 20]!r}")
        kind = found.lastgroup if not found["heredoc"] else "heredoc"
        if kind == "string":
            raw = found["string"][1:-1]
            value = re.sub(r"\\(.)", lambda m: ESCAPES.get(m[1], m[0]), raw)
            yield "string", value, line
        elif kind == "heredoc":
            yield "heredoc", _heredoc(found), line
        elif kind != "space":
            yield kind, found[0], line
        line += found[0].count("\n")
        at = found.end()


def _heredoc(found):
    text = found["text"] or ""
    if found[0].startswith("<<-"):
        lines = text.split("\n")
        indents = [len(l) - len(l.lstrip(" \t")) for l in lines if l.strip()]
        text = "\n".join(l[min(indents, default=0):] for l in lines)
    return text


def read(text, variables=()):
    """The blocks and attributes of a file; HclError with the line for what is not known."""
    return _Reader(text, dict(variables)).body((None, None))
