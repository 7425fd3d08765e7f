"""A hostile header cannot make a small file claim a huge model: what is built is no larger than what the file holds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import TYPE_CHECKING, Any

from snn2chip.errors import FileFormatError

if TYPE_CHECKING:
    from torch import nn

MAKERS = ("empty", "zeros", "ones", "full", "rand", "randn")
"""Functions of torch that make a tensor of a size that they are given, and with which layers make theirs."""


@contextmanager
def no_larger_than(numbers: int, *, path: str | os.PathLike[str]) -> Iterator[None]:
    """Inside the block no module with more parameters than `numbers` can be built, nor a larger tensor be asked for.

    Raises FileFormatError before memory is touched.
    """
    import torch
    from torch.nn.modules.module import register_module_parameter_registration_hook
    from torch.overrides import TorchFunctionMode

    makers = {getattr(torch, name) for name in MAKERS}
    left = numbers

    def refuse() -> None:
        raise FileFormatError(f"{path}: the header describes a model with more than the {numbers} numbers in the file")

    class Sizes(TorchFunctionMode):
        """Looks at sizes before torch does: one that no memory has would be an error of the machine's."""

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func in makers and _asked(args, kwargs or {}) > numbers:
                refuse()
            return func(*args, **(kwargs or {}))

    def count(module: nn.Module, name: str, value: Any) -> None:
        nonlocal left
        left -= 0 if value is None else value.numel()
        if left < 0:
            refuse()

    handle = register_module_parameter_registration_hook(count)
    try:
        with Sizes():  # type: ignore[no-untyped-call]
            yield
    finally:
        handle.remove()


def _asked(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """How many numbers a call of one of `MAKERS` asks for: a size, or its axes one by one; 0 for what is neither."""
    size = kwargs.get("size", args[0] if args and not isinstance(args[0], int) else args)
    try:
        return prod(n for n in size if isinstance(n, int))
    except TypeError:
        return 0
