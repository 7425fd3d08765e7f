"""Which fields every primitive of a `.nir` file has (nir 1.0.8): others are refused, for nothing would compute them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np

from snn2chip.frontends.nir_file import NirNode


@attrs.frozen
class Fields:
    """Names of fields that must be there, and of those that may."""

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()


_CONV = Fields(("weight",), ("bias", "stride", "padding", "dilation", "groups", "input_shape", "padding_mode"))
_POOL = Fields(("kernel_size", "stride"), ("padding", "ceil_mode"))
FIELDS: Mapping[str, Fields] = {
    "Input": Fields(("shape",)),
    "Output": Fields((), ("shape",)),
    "Linear": Fields(("weight",)),
    "Affine": Fields(("weight", "bias")),
    "Conv1d": _CONV,
    "Conv2d": _CONV,
    "SumPool2d": _POOL,
    "AvgPool2d": _POOL,
    "Flatten": Fields((), ("start_dim", "end_dim", "input_type")),
    "Scale": Fields(("scale",)),
    "Delay": Fields(("delay",)),
    "Threshold": Fields(("threshold",)),
    "I": Fields(("r",)),
    "IF": Fields(("r", "v_threshold"), ("v_reset",)),
    "LI": Fields(("tau", "r", "v_leak")),
    "LIF": Fields(("tau", "r", "v_leak", "v_threshold"), ("v_reset",)),
    "CubaLI": Fields(("tau_syn", "tau_mem", "r", "v_leak"), ("w_in",)),
    "CubaLIF": Fields(("tau_syn", "tau_mem", "r", "v_leak", "v_threshold"), ("w_in", "v_reset")),
}
_NEUTRAL: Mapping[str, Any] = {"padding_mode": "zeros", "ceil_mode": 0}
"""Fields that nir does not have and torch's layers do: the value that changes nothing."""
TEXTS = ("padding", "padding_mode")
NEURONS = ("Threshold", "I", "IF", "LI", "LIF", "CubaLI", "CubaLIF")


def field_breaches(node: NirNode) -> list[str]:
    """What is missing, too much or a text where numbers belong; nothing for a type that is not known."""
    if node.kind not in FIELDS:
        return []
    wanted, given = FIELDS[node.kind], set(node.fields)
    known = (*wanted.required, *wanted.optional)
    bad = [f"{key} is missing" for key in wanted.required if key not in given]
    if unknown := sorted(given - set(known)):
        names = ", ".join(key.encode("unicode_escape").decode("ascii")[:40] for key in unknown[:6])
        bad.append(f"{names}: no field of this type, which has {', '.join(known)}")
    bad += [
        f"{key} is the text {value[:20]!r}, expected numbers"
        for key, value in node.fields.items()
        if key in known and key not in TEXTS and isinstance(value, str)
    ]
    for key, neutral in _NEUTRAL.items():
        if key in known and key in given and not _is(node.fields[key], neutral):
            bad.append(f"{key} = {_said(node.fields[key])}; only {neutral} can be compiled")
    return bad


def _is(value: Any, neutral: Any) -> bool:
    if isinstance(value, str) or isinstance(neutral, str):
        return bool(isinstance(value, str) and value == neutral)
    return bool(np.size(value) == 1 and (np.asarray(value) == neutral).all())


def _said(value: Any) -> str:
    return repr(value[:20]) if isinstance(value, str) else str(np.ravel(value)[:4].tolist())


def shape_breaches(node: NirNode, shape: tuple[int, ...]) -> list[str]:
    """What the node declares of its source that its source is not."""
    key = {"Conv1d": "input_shape", "Conv2d": "input_shape", "Flatten": "input_type"}.get(node.kind)
    if key is None or node.fields.get(key) is None:
        return []
    given = tuple(np.ravel(node.fields[key]).tolist())
    whole = given[len(given) > len(shape) :]  # some write the batch, too
    if whole == shape or (key == "input_shape" and given == shape[1:]):
        return []
    return [f"{key} {list(given[:6])} contradicts what it reads, {list(shape)}"]
