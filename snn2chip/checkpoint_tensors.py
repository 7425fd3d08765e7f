"""Tensors out of a file and into a module: safetensors or `.pt` (weights_only), strict in names, shapes and types.

A file is read only as data. What does not fit is listed completely: missing, unexpected, other shape, other
type (a cast that could lose digits). Nothing is loaded unless everything fits.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import re
import struct
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snn2chip.checkpoint_legacy import overclaimed
from snn2chip.errors import FileFormatError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

PT_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
)
REFUSED = re.compile(r"(?:unsupported GLOBAL|Unsupported global: GLOBAL|Unsupported class) ([\w.]+)")
"""How torch names what it does not unpickle."""
SAVED = "save its state_dict alone: torch.save(model.state_dict(), path), or safetensors.torch.save_file"


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], str | None]:
    """Return the tensors of a file and the text of its snn2chip header (None if it has none).

    Raises FileFormatError for a missing, damaged, truncated or foreign file.
    """
    if not Path(path).is_file():
        raise FileFormatError(f"{path}: no such file")
    return _read_pt(path) if is_pickled(path) else _read_safetensors(path)


def is_pickled(path: str | os.PathLike[str]) -> bool:
    """Whether a file is torch.save's: by its first bytes, in doubt by its name; safetensors: a length, then `{`."""
    try:
        with open(path, "rb") as file:
            start = file.read(9)
    except OSError as error:
        raise FileFormatError(f"{path}: cannot be read ({short(error)})") from error
    return start[8:] != b"{" and (start[:4] == b"PK\x03\x04" or Path(path).suffix in PT_SUFFIXES)


def _read_safetensors(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], str | None]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            text = (file.metadata() or {}).get("snn2chip")
            return {name: file.get_tensor(name) for name in file.keys()}, text  # noqa: SIM118
    except (SafetensorError, *DAMAGE) as error:
        raise FileFormatError(f"{path}: damaged, truncated or not a safetensors checkpoint ({short(error)})") from error


def load_pickled(path: str | os.PathLike[str], *, advice: str, mmap: bool = False) -> Any:
    """What a file of torch.save holds, on the CPU; FileFormatError, with advice, for damage and for code."""
    import torch

    try:
        archive = zipfile.is_zipfile(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is guessed about a damaged file; the error below says it
            if archive:
                return torch.load(str(path), map_location="cpu", weights_only=True, mmap=mmap)
            data = Path(path).read_bytes()  # from memory: a text cannot claim more than the file holds
            if why := overclaimed(data):
                raise FileFormatError(f"{path}: damaged: {why}")
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except FileFormatError:
        raise
    except DAMAGE as error:
        raise FileFormatError(
            f"{path}: {_refusal(error)}; {advice}" if advice else f"{path}: {_refusal(error)}"
        ) from error


def _refusal(error: Exception) -> str:
    """What is wrong with a file of torch.save, in our words: torch's own recommend to unpickle it after all."""
    if not isinstance(error, pickle.UnpicklingError):
        return f"damaged, or no file of torch.save ({short(error)})"
    if found := REFUSED.search(str(error)):
        return f"holds {found[1]}, which is never unpickled: it is no tensor or plain value, and could run any code"
    return "damaged, or holds more than tensors and plain values, which is never unpickled: that could run any code"


def _read_pt(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], None]:
    import torch

    loaded = load_pickled(path, advice=f"where it was made, {SAVED}")
    if not isinstance(loaded, dict):
        raise FileFormatError(f"{path}: holds a {type(loaded).__name__}; save model.state_dict() alone")
    if "pytorch-lightning_version" in loaded:
        raise FileFormatError(
            f"{path}: Lightning's file for resuming a training run, not a model checkpoint; "
            "use the .safetensors file that `snn2chip train -o` wrote"
        )
    other = [str(k) for k, v in loaded.items() if not (isinstance(k, str) and isinstance(v, torch.Tensor))]
    if other:
        raise FileFormatError(
            f"{path}: no plain state_dict, other things under {short(', '.join(other))}; save model.state_dict() alone"
        )
    return loaded, None


def _holds(mine: torch.dtype, given: torch.dtype) -> bool:
    """Whether every number of type `given` is one of type `mine`; not where torch has no common type of the two."""
    import torch

    try:
        return torch.promote_types(mine, given) == mine
    except RuntimeError:  # the wider unsigned types
        return False


def strict_load(module: nn.Module, state: dict[str, Tensor], *, path: str | os.PathLike[str]) -> None:
    """Copy `state` into `module` if it fits completely, else raise FileFormatError that lists all misfits."""
    import torch

    own = {name: value for name, value in module.state_dict().items() if isinstance(value, torch.Tensor)}
    bad = [f"missing {name} {list(own[name].shape)}" for name in own if name not in state]
    bad += [f"unexpected {name} {list(state[name].shape)}" for name in state if name not in own]
    for name in own:
        if name not in state:
            continue
        mine, given = own[name], state[name]
        if mine.shape != given.shape:
            bad.append(f"shape of {name}: the model has {list(mine.shape)}, the file {list(given.shape)}")
        elif not _holds(mine.dtype, given.dtype):
            bad.append(f"type of {name}: the model has {_type(mine)}, the file {_type(given)}, which would lose digits")
        elif given.layout != torch.strided:
            bad.append(f"layout of {name}: {given.layout}; store dense tensors")
    if bad:
        raise FileFormatError(
            f"{path}: {len(bad)} tensors do not fit {type(module).__name__}:\n"
            + "\n".join(f"  - {text}" for text in bad)
        )
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise FileFormatError(f"{path}: {type(module).__name__} refuses these weights ({short(error)})") from error


def _type(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def short(error: Any) -> str:
    text = " ".join(str(error).split())
    return (text or type(error).__name__)[:200]


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, as `sha256sum` prints it."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(1 << 20):
            found.update(part)
    return found.hexdigest()
