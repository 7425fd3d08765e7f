"""Read lava-dl's `.net` description (HDF5) into plain records, with h5py alone and without trusting the file.

Layout: `/layer/<i>/{type, shape, weight, bias, delay, stride, padding, dilation, groups}` and
`/layer/<i>/neuron/{type, iDecay, vDecay, vThMant, ...}`, every value a dataset; layers in the order of the number <i>.
Only hard links to plain datasets of bounded size are read, so a file cannot pull in other files or exhaust memory.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import h5py
import numpy as np
from numpy.typing import NDArray

from snn2chip.errors import FileFormatError
from snn2chip.frontends.netx_heap import unreadable
from snn2chip.ir.types import IntArray

MAX_ELEMENTS = 1 << 27
"""Numbers that one file may hold in all, stored or implied by a declared shape."""
SMALL, MAX_RATIO = 1 << 16, 1100
"""Arrays above SMALL numbers must be stored, at no more than the best ratio of HDF5's own compression."""
MAX_LAYERS = 10_000
MAX_WHOLE = 1 << 40
"""Hyper-parameters beyond this are damage."""

READ = {
    "input": ("weight", "bias"),
    "conv": ("weight", "bias", "delay"),
    "dense": ("weight", "bias", "delay"),
    "dense_rec": ("weight", "weight_rec", "bias", "delay"),
    "pool": ("weight", "delay"),
    "average": (),
}
NEEDED = {
    "conv": ("shape", "weight", "stride", "padding", "dilation", "groups", "neuron"),
    "dense": ("shape", "weight"),
    "dense_rec": ("shape", "weight", "weight_rec"),
    "pool": ("shape", "weight", "stride", "padding", "dilation", "neuron"),
    "average": ("shape",),
}
WHOLE = ("shape", "stride", "padding", "dilation", "groups")
LIF_NUMBERS = ("iDecay", "vDecay", "vThMant", "refDelay", "wgtExp", "weight_exp", "gradedSpike")
NEURON_NUMBERS = {"LOIHI": LIF_NUMBERS, "CUBA": LIF_NUMBERS, "SDNN": ("vThMant", "weight_exp")}
READ_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError, AttributeError, OverflowError)
"""What h5py raises, besides its own, when the inside of a file is damaged."""


@attrs.frozen(kw_only=True)
class NeuronSpec:
    """A neuron group: its `type`, whole-number fields, the name of its activation; `keys` names all that is stored."""

    type: str
    fields: Mapping[str, IntArray]
    keys: tuple[str, ...]
    activation: str = ""


@attrs.frozen(kw_only=True)
class LayerSpec:
    """One entry of the file: `kind`, declared `shape` (torch order), numbers by name, neuron group or None.

    `keys` names everything the group stores, read or not; `inner` the keys of a weight that is a group.
    """

    index: int
    kind: str
    shape: tuple[int, ...] | None
    numbers: Mapping[str, NDArray[Any]]
    neuron: NeuronSpec | None
    keys: tuple[str, ...]
    inner: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """Where the layer is in the file."""
        return f"/layer/{self.index}"

    @property
    def name(self) -> str:
        """Path and type, for messages."""
        return f"{self.path} ({self.kind})"


@attrs.frozen(kw_only=True)
class NetFile:
    """Layers in order, and the sample length `tSample / Ts` the file suggests (None: it does not say)."""

    layers: tuple[LayerSpec, ...]
    sample_steps: int | None


def read_net(path: str | os.PathLike[str]) -> NetFile:
    """Read every layer of a `.net` file.

    Raises FileFormatError, naming all places at once, for a file that is missing, truncated or damaged.
    """
    if not Path(path).is_file():
        raise FileFormatError(f"{path}: no such file")
    reason = unreadable(Path(path))
    if reason:
        raise FileFormatError(f"{path}: {reason}")
    try:
        with h5py.File(path, "r") as file:
            reader = _Reader()
            net = reader.net(file)
    except READ_ERRORS as error:
        raise FileFormatError(f"{path}: damaged, truncated or not a .net (HDF5) file ({error})") from error
    if reader.problems:
        raise broken(path, reader.problems)
    return net


def broken(path: str | os.PathLike[str], problems: list[str]) -> FileFormatError:
    """One error that lists everything wrong with the file."""
    if len(problems) == 1:
        return FileFormatError(f"{path}: {problems[0]}")
    return FileFormatError(f"{path}: {len(problems)} problems in the file:\n" + "\n".join(f"  - {p}" for p in problems))


class _Reader:
    """Reads datasets one by one, counts their sizes, and collects what is wrong instead of stopping."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.left = MAX_ELEMENTS

    def net(self, file: Any) -> NetFile:
        layers = self._group(file, "layer")
        if layers is None:
            self.problems.append("/layer: missing; not a network description of lava-dl")
            return NetFile(layers=(), sample_steps=None)
        keys = list(layers)[: MAX_LAYERS + 1]
        if not 0 < len(keys) <= MAX_LAYERS or set(keys) != {str(i) for i in range(len(keys))}:
            self.problems.append(
                f"/layer: entries must be numbered 0, 1, 2, ... without gaps, got {', '.join(keys[:8]) or 'none'}"
            )
            return NetFile(layers=(), sample_steps=None)
        found = tuple(self._layer(layers, i) for i in range(len(keys)))
        return NetFile(layers=found, sample_steps=self._sample_steps(file))

    def _layer(self, layers: Any, index: int) -> LayerSpec:
        where = f"/layer/{index}"
        group = self._group(layers, str(index))
        if group is None:
            self.problems.append(f"{where}: expected a group")
            return LayerSpec(index=index, kind="?", shape=None, numbers={}, neuron=None, keys=())
        keys = tuple(group)
        kind = self._text(group, where, "type")
        self.problems += [f"{where} ({kind}): {key!r} is missing" for key in NEEDED.get(kind, ()) if key not in keys]
        numbers: dict[str, NDArray[Any]] = {}
        inner: tuple[str, ...] = ()
        for key in (k for k in (*WHOLE, *READ.get(kind, ())) if k in keys and kind in (*READ, "flatten")):
            part = self._group(group, key) if key == "weight" else None
            if part is not None:
                inner = tuple(part)
                continue
            value = self._numbers(group, where, key, whole=key in WHOLE)
            if value is not None:
                numbers[key] = value
        shape = tuple(int(n) for n in numbers.pop("shape").ravel()) if "shape" in numbers else None
        if shape is not None and (not 1 <= len(shape) <= 4 or min(shape) < 1 or np.prod(shape, dtype=object) > 1 << 31):
            self.problems.append(f"{where}/shape: expected up to 4 positive sizes, got {shape[:8]}")
            shape = None
        return LayerSpec(
            index=index,
            kind=kind,
            shape=shape,
            numbers=numbers,
            neuron=self._neuron(group, where) if "neuron" in keys and kind in READ else None,
            keys=keys,
            inner=inner,
        )

    def _neuron(self, layer: Any, where: str) -> NeuronSpec | None:
        group = self._group(layer, "neuron")
        if group is None:
            self.problems.append(f"{where}/neuron: expected a group")
            return None
        kind = self._text(group, f"{where}/neuron", "type")
        fields = {}
        for key in (k for k in NEURON_NUMBERS.get(kind, ()) if k in group):
            value = self._numbers(group, f"{where}/neuron", key, whole=True)
            if value is not None:
                fields[key] = value
        rule = self._text(group, f"{where}/neuron", "activation") if kind == "SDNN" and "activation" in group else ""
        return NeuronSpec(type=kind, fields=fields, keys=tuple(group), activation=rule)

    def _sample_steps(self, file: Any) -> int | None:
        group = self._group(file, "simulation")
        if group is None or "tSample" not in group:
            return None
        found = [self._numbers(group, "/simulation", key, whole=True) for key in ("tSample", "Ts") if key in group]
        if any(v is None or v.size != 1 or int(v.min()) < 1 for v in found):
            return None
        sample, step = (int(v.ravel()[0]) for v in (*found, np.ones(1, np.int64))[:2])
        return max(1, sample // step)

    def _get(self, group: Any, key: str) -> Any:
        if key not in group or not isinstance(group.get(key, getlink=True), h5py.HardLink):
            return None
        return group[key]

    def _group(self, group: Any, key: str) -> Any:
        found = self._get(group, key)
        return found if isinstance(found, h5py.Group) else None

    def _dataset(self, group: Any, where: str, key: str) -> Any:
        """The values of a plain dataset of bounded size; None, and a problem, otherwise."""
        data = self._get(group, key)
        if not isinstance(data, h5py.Dataset) or data.shape is None or data.is_virtual or data.external:
            self.problems.append(f"{where}/{key}: expected a plain dataset stored in this file")
            return None
        if data.size > self.left:
            self.problems.append(f"{where}/{key}: declares {data.shape}; a file may hold {MAX_ELEMENTS} numbers in all")
            return None
        self.left -= int(data.size)
        stored = data.id.get_storage_size()
        if data.size > SMALL and stored * MAX_RATIO < data.nbytes:
            self.problems.append(f"{where}/{key}: declares {data.shape}, but the file stores only {stored} bytes of it")
            return None
        try:
            return data[()]
        except READ_ERRORS as error:
            self.problems.append(f"{where}/{key}: damaged ({error})")
            return None

    def _text(self, group: Any, where: str, key: str) -> str:
        before = len(self.problems)
        value = self._dataset(group, where, key)
        items = [] if value is None else np.asarray(value).ravel().tolist()
        if len(items) >= 1 and isinstance(items[0], (bytes, str)):
            return items[0].decode("ascii", "replace") if isinstance(items[0], bytes) else items[0]
        if len(self.problems) == before:
            self.problems.append(f"{where}/{key}: expected a text, got {items[:3]}")
        return "?"

    def _numbers(self, group: Any, where: str, key: str, *, whole: bool) -> Any:
        value = self._dataset(group, where, key)
        if value is None:
            return None
        array = np.asarray(value)
        if array.dtype.kind not in "biuf" or array.size == 0 or array.ndim > 5:
            self.problems.append(f"{where}/{key}: expected numbers, got {array.dtype} {array.shape}")
        elif array.dtype.kind == "f" and not np.isfinite(array).all():
            self.problems.append(f"{where}/{key}: holds NaN or infinite values")
        elif np.abs(array.astype(np.float64)).max() > MAX_WHOLE:
            self.problems.append(f"{where}/{key}: values beyond {MAX_WHOLE} are damage")
        elif whole and array.dtype.kind == "f" and (array != np.rint(array)).any():
            self.problems.append(f"{where}/{key}: expected whole numbers, got {array.ravel()[:4].tolist()}")
        else:
            return array.astype(np.int64) if whole else array
        return None
