"""Damage to a JSON value: a place in it exchanged, taken out, doubled, nested or filled from another place."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

PATHS = ("../../etc/passwd", "/etc/passwd", "..", "a/../../b", "a\x00b", "C:\\x", "~/x", "$HOME", "")
TEXTS = (*PATHS, "\x1b[31mred", "x" * 5000, "名前", "__import__('os')", "os.system", "NaN", "1e999", "%s%n{0}")
ODD: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 255, 1 << 31, 1 << 62, 1 << 63, 1 << 64, 10**12, 10**400, -(1 << 63),
    0.5, -0.5, 1e308, float("nan"), float("inf"), [], [1], [[]], [0] * 300, [10**6, 10**6], {}, {"a": {}},
    {"array": "x"}, {"tensor": "x"}, {"csr": "x", "shape": [10**6, 10**6]}, *TEXTS,
)  # fmt: skip
DEEP = 3000


def odd_value(rng: random.Random) -> Any:
    """A value that hardly fits anywhere."""
    return copy.deepcopy(rng.choice(ODD))


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += places(item, (*path, key))
    return found


def changed(value: Any, rng: random.Random) -> Any:
    """A copy of a JSON value with one to three places damaged."""
    made = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 2, 3))):
        found = places(made)
        if not found:
            return odd_value(rng)
        path = rng.choice(found)
        _damage(_at(made, path[:-1]), path[-1], rng, other=_at(made, rng.choice(found)))
    return made


def json_text(value: Any, rng: random.Random) -> str:
    """The JSON text of a value, now and then nested deeper than any parser goes."""
    text = json.dumps(value)
    return "[" * DEEP + text + "]" * DEEP if rng.random() < 0.01 else text


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def _damage(owner: Any, key: Any, rng: random.Random, *, other: Any) -> None:
    old, way = owner[key], rng.randrange(8)
    if way == 0:
        del owner[key]
    elif way == 1 and isinstance(owner, dict):
        owner[str(rng.choice(TEXTS))[:200]] = owner.pop(key)
    elif way == 2:
        owner[key] = copy.deepcopy(other)
    elif way == 3 and isinstance(old, (int, float)):
        owner[key] = rng.choice((old + 1, old - 1, -old, old * 2, old * 10**6, str(old), old % 1000 + 0.0))
    elif way == 4:
        owner[key] = rng.choice(([old], {"x": old}, [old, old]))
    elif way == 5 and isinstance(owner, list):
        owner.insert(key, old)
    else:
        owner[key] = odd_value(rng)
