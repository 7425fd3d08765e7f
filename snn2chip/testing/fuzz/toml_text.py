"""Damage to TOML texts (recipes, targets, widths): values, keys and tables of other kinds, nested without end."""

from __future__ import annotations

import random

from snn2chip.testing.fuzz.values import DEEP

VALUES = (
    "0", "-1", "1", "2", "3.5", "nan", "inf", "-inf", "true", "false", '""', '"x"', '"../../etc/passwd"', '"/dev/zero"',
    "99999999999999999999999999", "1e400", "[]", "[1]", "[[1]]", "{}", "{a = 1}", "1979-05-27", "07:32:00",
    '"""\n"""', "'''x'''", '"\\u0000"', '"\\u001b[31m"', '"' + "x" * 5000 + '"', "[" * DEEP + "]" * DEEP,
    "{a=" * DEEP + "1" + "}" * DEEP, "0x7fffffffffffffffffff", '"int99"', '"os:system"', "1" * 5000,
)  # fmt: skip


def toml_damage(data: bytes, rng: random.Random) -> bytes:
    """One to three lines damaged."""
    lines = data.decode().splitlines()
    for _ in range(rng.choice((1, 1, 2, 3))):
        at, way = rng.randrange(len(lines)), rng.randrange(9)
        key, sign, _ = lines[at].partition("=")
        if way == 0:
            lines.pop(at)
        elif way == 1:
            lines.insert(at, lines[at])
        elif way == 2:
            other = rng.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        elif way == 3:
            lines[at] = f"{rng.choice(('x', 'a.b', '[x', '[[x]]', chr(0), 'base', 'é'))}{sign}{rng.choice(VALUES)}"
        elif way == 4:
            lines.insert(at, f"[{'.'.join(['a'] * rng.choice((1, 5, DEEP)))}]")
        elif sign:
            lines[at] = f"{key}= {rng.choice(VALUES)}"
        if not lines:
            return b""
    return "\n".join(lines).encode("utf-8", "surrogatepass")
