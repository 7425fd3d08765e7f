"""What the user asks of the quantizer, and what the quantizer decided."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from snn2chip.errors import InputError

FloatArray = NDArray[np.float64]
ROUNDINGS = ("nearest", "fitted")
MODES = re.compile(r"(keep|binary|ternary|int[2-8])\Z")


def _check_mode(_: Any, attribute: Any, value: str) -> None:
    if not isinstance(value, str) or not MODES.match(value):
        raise InputError(f"{attribute.name}: weights must be keep, binary, ternary or int2..int8, got {value!r}")


def _check_overrides(owner: Any, attribute: Any, value: Mapping[str, str]) -> None:
    for mode in value.values():
        _check_mode(owner, attribute, mode)


def _check_rounding(_: Any, __: Any, value: str) -> None:
    if value not in ROUNDINGS:
        raise InputError(f"rounding must be {' or '.join(ROUNDINGS)}, got {value!r}")


def _check_payload(owner: Any, attribute: Any, value: int) -> None:
    if not isinstance(value, int) or not 4 <= value <= 16:
        raise InputError(f"payload_bits must be 4..16, got {value!r}")


@attrs.frozen(kw_only=True)
class QuantSpec:
    """How to quantize.

    weights: `keep` (binary, ternary and few-bit layers exactly as trained, float layers to 8 bits), or
    `binary`, `ternary`, `int2`..`int8` for every float layer. `overrides` maps name or layer-path patterns
    (`fc*`) to another mode. `spare_bits` stay free above the largest potential seen on calibration data.
    `payload_bits`, 4..16, of a real-valued payload (excess firing) without a step of its own.
    `bias_correction`: what rounding the weights adds to the mean current is taken off the biases.
    `rounding`: every weight to the nearest, or `fitted`: weights, units and biases chosen on the calibration samples.
    `strict`: neurons fire at v > theta instead of v >= theta.
    `residual_shift`: fraction bits under a binary branch that shares its soma with other branches.
    """

    weights: str = attrs.field(default="keep", validator=_check_mode)
    overrides: Mapping[str, str] = attrs.field(factory=dict, validator=_check_overrides)
    spare_bits: int = 1
    payload_bits: int = attrs.field(default=8, validator=_check_payload)
    residual_shift: int = 3
    input_bits: int = 8
    bias_correction: bool = False
    rounding: str = attrs.field(default="nearest", validator=_check_rounding)
    strict: bool = False

    def mode(self, name: str, path: str) -> str:
        """The weight mode of one layer: the first override whose pattern matches, else `weights`."""
        for pattern, mode in self.overrides.items():
            if fnmatchcase(name, pattern) or fnmatchcase(path, pattern):
                return mode
        return self.weights

    def mode_of(self, layer: Any) -> str:
        """The weight mode of a layer: its own, if it has a fixed one."""
        return str(getattr(layer, "fixed_mode", "") or self.mode(layer.name, layer.path))

    def unused(self, layers: Iterable[tuple[str, str]]) -> list[str]:
        """Patterns of `overrides` that fit none of the layers (name, path)."""
        named = list(layers)
        return [p for p in self.overrides if not any(fnmatchcase(n, p) or fnmatchcase(path, p) for n, path in named)]


@attrs.frozen(kw_only=True)
class QuantRecord:
    """One decision: which field of which node, its unit, the float value, the integer, the relative error.

    Arrays are given as [smallest, largest]; `error` is the largest relative error of any entry.
    """

    node: str
    layer: str
    field: str
    unit: str
    source: Any
    integer: Any
    error: float

    def as_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return attrs.asdict(self)


def _brief(value: Any) -> Any:
    array = np.asarray(value)
    if array.size == 1:
        return array.ravel()[0].item()
    return [array.min().item(), array.max().item()]


def record(
    node: str, layer: str, field: str, *, unit: str, source: Any, integer: Any, lsb: Any, floor: float = 0.0
) -> QuantRecord:
    """Record `integer * lsb` standing for `source`; `floor` is the magnitude below which an error is absolute."""
    want = np.asarray(source, dtype=np.float64)
    got = np.asarray(integer, dtype=np.float64) * np.asarray(lsb, dtype=np.float64)
    size = np.maximum(np.abs(want), floor)
    error = np.abs(got - want) / np.where(size > 0, size, 1.0)
    return QuantRecord(
        node=node,
        layer=layer,
        field=field,
        unit=unit,
        source=_brief(want),
        integer=_brief(np.asarray(integer)),
        error=float(error.max()) if error.size else 0.0,
    )


def half_up(value: Any) -> NDArray[np.int64]:
    """Round to the nearest integer, halves up."""
    return np.floor(np.asarray(value, dtype=np.float64) + 0.5).astype(np.int64)
