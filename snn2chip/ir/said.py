"""What is wrong with stored values, in words: Python's own messages speak of Python, not of the file."""

from __future__ import annotations

import re

from snn2chip.errors import Snn2ChipError

INNER = re.compile(
    r"zip\(\)|dictionary update|invalid literal|could not convert|unpack|reshape|broadcast|array element|truth value"
)
"""Beginnings of ValueErrors that nobody wrote for a reader."""
LONGEST = 300


def said(error: BaseException) -> str:
    """One line about an error met while stored values were put together."""
    if isinstance(error, (Snn2ChipError, AssertionError)) or (
        isinstance(error, ValueError) and not INNER.search(str(error))
    ):
        text = " ".join(str(error).split())
    elif isinstance(error, KeyError):
        text = f"{str(error.args[0])[:60]!r} is missing" if error.args else "something is missing"
    elif isinstance(error, (IndexError, ValueError)):
        text = "lists or arrays of other lengths than expected"
    elif isinstance(error, (ArithmeticError, MemoryError)):
        text = "a number that is 0 or beyond every range"
    else:
        text = "a value of another kind than expected"
    return text[:LONGEST]
