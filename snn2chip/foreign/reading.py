"""A file somebody else wrote to its tensors: torch.save (weights_only) or safetensors, unwrapped and unprefixed.

    {"model": {..}, "epoch": 3}     the tensors are those under `model` (or `state_dict`, or `net`)
    module.conv1.weight, ..         `module.` goes when every tensor has it, and only then

Whatever is not a tensor of the state_dict (epoch, optimizer, ..) is named in `left_out` and not loaded.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from snn2chip.checkpoint_tensors import SAVED, is_pickled, load_pickled, read_tensors
from snn2chip.errors import FileFormatError

if TYPE_CHECKING:
    from torch import Tensor

WRAPPERS = ("model", "state_dict", "net")
PREFIX = "module."


@attrs.frozen(kw_only=True, eq=False)
class ForeignFile:
    """The tensors of a foreign state_dict by name, and the names of what the file holds besides."""

    tensors: dict[str, Tensor]
    left_out: tuple[str, ...]
    half_prefixed: bool = False


def read_foreign(path: str | os.PathLike[str]) -> ForeignFile:
    """Return the tensors of a foreign file, on the CPU.

    Raises FileFormatError for a missing or damaged file, for one that holds code or objects, and for tensors that
    are not dense numbers lying in the file.
    """
    if not Path(path).is_file():
        raise FileFormatError(f"{path}: no such file")
    if is_pickled(path):
        loaded = _load_pickled(path)
    else:
        loaded, header = read_tensors(path)
        if header is not None:
            raise FileFormatError(f"{path}: a checkpoint of snn2chip itself; it loads as it is, without conversion")
    inner, left_out = _unwrap(loaded, path)
    tensors = _tensors(inner, left_out, path)
    prefixed = [name.startswith(PREFIX) for name in tensors]
    if all(prefixed):
        tensors = {name.removeprefix(PREFIX): value for name, value in tensors.items()}
    return ForeignFile(tensors=tensors, left_out=tuple(left_out), half_prefixed=any(prefixed) and not all(prefixed))


def _load_pickled(path: str | os.PathLike[str]) -> Mapping[Any, Any]:
    loaded = load_pickled(path, advice=f"where it was made, {SAVED}", mmap=True)
    if not isinstance(loaded, Mapping):
        raise FileFormatError(f"{path}: holds a {type(loaded).__name__}, expected a state_dict")
    return loaded


def _unwrap(loaded: Mapping[Any, Any], path: str | os.PathLike[str]) -> tuple[Mapping[Any, Any], list[str]]:
    """Return the state_dict in a file, and the names of what stands beside it."""
    wrapped = [key for key in WRAPPERS if isinstance(loaded.get(key), Mapping)]
    if len(wrapped) > 1:
        raise FileFormatError(
            f"{path}: holds several state_dicts, under {', '.join(wrapped)}; save the one to load in a file of its own"
        )
    if not wrapped:
        return loaded, []
    return loaded[wrapped[0]], [str(key) for key in loaded if key != wrapped[0]]


def _tensors(inner: Mapping[Any, Any], left_out: list[str], path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Return the tensors of a state_dict; names of other values are appended to `left_out`."""
    import torch

    tensors: dict[str, Tensor] = {}
    bad: list[str] = []
    for key, value in inner.items():
        if not isinstance(value, torch.Tensor) or not isinstance(key, str):
            left_out.append(str(key))
            continue
        dense = value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized
        if not dense or value.numel() * value.element_size() > value.untyped_storage().nbytes():
            bad.append(f"{key} {list(value.shape)}")
        tensors[key] = value.detach()
    if bad:
        raise FileFormatError(f"{path}: no dense tensors with all their numbers in the file: {', '.join(bad)}")
    if not tensors:
        others = f", only {', '.join(left_out)}" if left_out else ""
        raise FileFormatError(f"{path}: no tensors under names{others}; expected a state_dict")
    return tensors
