"""How deliberate mistakes are written down: one rule replaced, or one class with one method overridden."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from snn2chip.testing.rules import Rules

Registry = dict[str, type[Rules]]


class Faults:
    """A collection of faults by name."""

    def __init__(self) -> None:
        self.found: Registry = {}

    def add(self, cls: type[Rules]) -> type[Rules]:
        """Class decorator: a fault written as a subclass."""
        self.found[cls.__name__] = cls
        return cls

    def replace(self, method: str, name: str, wrong: Callable[..., Any], doc: str) -> None:
        """A fault that replaces one method; `wrong(right, *arguments)` also gets the right rule."""

        def call(rules: Rules, *arguments: Any) -> Any:
            return wrong(getattr(super(cls, rules), method), *arguments)

        cls: type[Rules] = type(name, (Rules,), {method: call, "__doc__": doc})
        self.found[name] = cls
