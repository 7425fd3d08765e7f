"""What a model checkpoint says about its weights: which model, which input, which classes, where it came from.

    input   x = (raw*scale - mean) / std,   raw `[N, *shape]`, or `[N, T, *shape]` when `time` is set
            x enters the model as `[N, *shape]`, or `[T, N, *shape]`

The header is JSON under the key `snn2chip` of the safetensors metadata. `method`, `T` and `L` describe the
neurons, `provenance` holds recipe, data, seed and versions, `metrics` the figures measured after training.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from snn2chip.errors import FileFormatError, InputError

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = "snn2chip-checkpoint"
VERSION = 1
_REQUIRED = ("format", "version", "model", "args", "method", "T", "L", "input", "classes")
_OPTIONAL = ("provenance", "metrics")


def _numbers(value: Any) -> tuple[float, ...]:
    return (float(value),) if isinstance(value, (int, float)) else tuple(float(v) for v in value)


def _single(value: float) -> float:
    """The number as models have it: what float32 cannot hold is infinite there, or 0."""
    with np.errstate(over="ignore"):
        return float(np.float32(value))


def _sizes(value: Iterable[int]) -> tuple[int, ...]:
    return tuple(value)


def _texts(value: Iterable[str]) -> tuple[str, ...]:
    return tuple(value)


@attrs.frozen(kw_only=True)
class InputSpec:
    """How raw samples become the model's input; `mean` and `std` hold one number or one per channel."""

    shape: tuple[int, ...] = attrs.field(converter=_sizes)
    scale: float = attrs.field(default=1.0, converter=float)
    mean: tuple[float, ...] = attrs.field(default=(0.0,), converter=_numbers)
    std: tuple[float, ...] = attrs.field(default=(1.0,), converter=_numbers)
    time: bool = False

    def __attrs_post_init__(self) -> None:
        if breaches := self._breaches():
            raise InputError(breaches)

    def _breaches(self) -> list[str]:
        channels = self.shape[0] if self.shape else 1
        bad = []
        if not all(type(n) is int and n > 0 for n in self.shape):
            bad.append(f"input: shape={list(self.shape)}, expected positive whole numbers")
        for name, value in (("mean", self.mean), ("std", self.std)):
            if len(value) not in (1, channels):
                bad.append(f"input: {name} has {len(value)} numbers; give one, or one per channel")
            if not all(math.isfinite(_single(v)) for v in value):
                bad.append(f"input: {name}={list(value)} is not finite in 32 bits")
        if not (math.isfinite(_single(self.scale)) and _single(self.scale) > 0):
            bad.append(f"input: scale={self.scale} must be positive and finite in 32 bits")
        if not all(_single(v) > 0 for v in self.std):
            bad.append(f"input: std={list(self.std)} must be positive, also in 32 bits")
        return bad

    @property
    def normalisation(self) -> dict[str, Any]:
        """Arguments `scale`, `mean`, `std` of `snn2chip.compile(normalise=)`; mean and std a number or `[C]`."""
        mean, std = (v[0] if len(v) == 1 else list(v) for v in (self.mean, self.std))
        return {"scale": self.scale, "mean": mean, "std": std}

    @property
    def unit(self) -> float | None:
        """The value of one raw unit in the model's input, scale/std, where mean/scale is whole; else None.

        For normalised raw integers only: with scale 1, mean 0 and std 1 raw values may be of any kind.
        """
        mean = [value / self.scale for value in self.mean]
        plain = (self.scale, *self.mean, *self.std) == (1.0, *[0.0] * len(self.mean), *[1.0] * len(self.std))
        whole = all(abs(value - round(value)) < 1e-9 for value in mean)
        return None if plain or not whole or len(set(self.std)) > 1 else self.scale / self.std[0]

    def apply(self, raw: Any) -> Tensor:
        """Return the model's input of raw samples, float32, the steps first when `time` is set.

        Raises InputError for samples of another shape.
        """
        import torch

        x = raw if isinstance(raw, torch.Tensor) else torch.from_numpy(np.array(raw))
        lead = 2 if self.time else 1
        if tuple(x.shape[lead:]) != self.shape or x.dim() != lead + len(self.shape):
            want = ", ".join(map(str, ("N", *(("T",) if self.time else ()), *self.shape)))
            raise InputError(f"expected raw samples [{want}], got {list(x.shape)}")
        view = (-1, *[1] * (len(self.shape) - 1)) if self.shape else ()
        mean, std = (torch.tensor(v, dtype=torch.float32, device=x.device).view(view) for v in (self.mean, self.std))
        x = (x.to(torch.float32) * self.scale - mean) / std
        return x.transpose(0, 1) if self.time else x


@attrs.frozen(kw_only=True)
class CheckpointHeader:
    """The JSON header of a checkpoint; `model` is a zoo name or the user's `module:function`."""

    model: str
    args: Mapping[str, Any]
    method: str
    T: int
    L: int
    input: InputSpec
    classes: tuple[str, ...] = attrs.field(converter=_texts)
    provenance: Mapping[str, Any] = attrs.field(factory=dict)
    metrics: Mapping[str, float] = attrs.field(factory=dict)

    def to_json(self) -> str:
        """Return the header as text, the same for equal headers; InputError for values JSON does not have."""
        fields = {"format": FORMAT, "version": VERSION, **attrs.asdict(self)}
        try:
            return json.dumps(fields, sort_keys=True, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InputError(f"a checkpoint header holds plain JSON values only: {error}") from error

    @classmethod
    def from_json(cls, text: str, *, path: Any) -> CheckpointHeader:
        """Read a header; FileFormatError lists everything that is missing or malformed."""
        try:
            fields = json.loads(text, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise FileFormatError(f"{path}: the header is not JSON ({error})") from error
        if not isinstance(fields, dict) or fields.get("format") != FORMAT:
            kind = fields.get("format") if isinstance(fields, dict) else None
            hint = "; this is a compiled program: use `snn2chip run`" if kind == "s2c" else ""
            raise FileFormatError(f"{path}: not a model checkpoint of snn2chip (format {kind!r:.60}){hint}")
        if fields.get("version") != VERSION:
            raise FileFormatError(
                f"{path}: checkpoint version {fields.get('version')!r:.60}; this snn2chip reads version {VERSION}"
            )
        if bad := _header_breaches(fields):
            raise FileFormatError(f"{path}: damaged header: " + "; ".join(bad))
        try:
            spec = InputSpec(**fields["input"])
        except (InputError, TypeError, ValueError, OverflowError) as error:
            raise FileFormatError(f"{path}: damaged header: input: {error}") from error
        names = [f.name for f in attrs.fields(cls) if f.name != "input"]
        return cls(input=spec, **{name: fields[name] for name in names if name in fields})


def _no_constant(word: str) -> float:
    raise ValueError(f"{word} is no JSON number")


def _header_breaches(fields: Mapping[str, Any]) -> list[str]:
    bad = [f"{key} is missing" for key in _REQUIRED if key not in fields]
    bad += [f"unknown key {key!r:.60}" for key in sorted(set(fields) - {*_REQUIRED, *_OPTIONAL})]
    kinds: Sequence[tuple[str, type, str]] = (
        ("model", str, "text"),
        ("args", dict, "an object"),
        ("method", str, "text"),
        ("T", int, "a whole number"),
        ("L", int, "a whole number"),
        ("input", dict, "an object"),
        ("classes", list, "a list"),
        ("provenance", dict, "an object"),
        ("metrics", dict, "an object"),
    )
    for key, kind, words in kinds:
        value = fields.get(key, kind())
        if not isinstance(value, kind) or isinstance(value, bool):
            bad.append(f"{key} must be {words}, got {value!r:.60}")
    bad += [
        f"{key}={fields[key]} must be at least 1"
        for key in ("T", "L")
        if isinstance(fields.get(key), int) and fields[key] < 1
    ]
    if isinstance(fields.get("classes"), list) and not all(isinstance(c, str) for c in fields["classes"]):
        bad.append("classes must be texts")
    return bad
