"""TOML texts from anywhere: tables, or one ValueError whatever is wrong with them."""

from __future__ import annotations

import sys
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LONGEST = 1 << 20
"""Bytes of a text."""
DEEPEST = 16
"""How deep tables and arrays may lie in each other."""


def toml_tables(content: bytes) -> dict[str, Any]:
    """Return the tables of a TOML text; ValueError for what is none, too long or nested too deeply."""
    if len(content) > LONGEST:
        raise ValueError(f"{len(content)} bytes, more than {LONGEST}")
    try:
        found = tomllib.loads(content.decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    level: list[Any] = [found]
    for _ in range(DEEPEST):
        level = [inner for value in level for inner in _inside(value)]
        if not level:
            return found
    raise ValueError(f"nested more than {DEEPEST} deep")


def _inside(value: Any) -> list[Any]:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [inner for inner in items if isinstance(inner, (dict, list))]
