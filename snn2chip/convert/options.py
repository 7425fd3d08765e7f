"""The options of every conversion by name, as `--option key=value` and `convert(.., key=value)` take them.

parallel   form graded | ladder | steps           order first | last (of the spikes of a train)
           quantile, eps (thresholds of ReLU)     phi integral | ema, momentum, passes, fc (calibration)
qcfs       levels, window
ic-snn     initial zero | weights | data          compensation bias | potential | none
           residual in-range | clamp | literal    strict, printed I-weights | I-data | C | IC
           quantile, zeros, search (thresholds)   units block | layer
hybrid     levels, form normalised | printed | first-only, learn_window, learn_leak
serialise  form A | B
collapse   tolerance
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from snn2chip.errors import InputError

Words = tuple[str, ...]
Kind = type | Words

OPTIONS: Mapping[str, Mapping[str, Kind]] = MappingProxyType(
    {
        "parallel": {
            "form": ("graded", "ladder", "steps"),
            "order": ("first", "last"),
            "quantile": float,
            "eps": float,
            "phi": ("integral", "ema"),
            "momentum": float,
            "passes": int,
            "fc": bool,
        },
        "qcfs": {"levels": int, "window": bool},
        "ic-snn": {
            "initial": ("zero", "weights", "data"),
            "compensation": ("bias", "potential", "none"),
            "residual": ("in-range", "clamp", "literal"),
            "strict": bool,
            "printed": ("I-weights", "I-data", "C", "IC"),
            "quantile": float,
            "zeros": bool,
            "search": bool,
            "units": ("block", "layer"),
        },
        "hybrid": {
            "levels": int,
            "form": ("normalised", "printed", "first-only"),
            "learn_window": bool,
            "learn_leak": bool,
        },
        "serialise": {"form": ("A", "B")},
        "collapse": {"tolerance": float},
    }
)
NEEDS_STEPS = ("parallel", "qcfs", "ic-snn", "hybrid")
"""The methods that are told T; the others keep the number of steps of their source."""


def check_method(method: str, steps: int | None) -> None:
    """Raise InputError for an unknown method, a missing T, or a T where the source says it."""
    if method not in OPTIONS:
        raise InputError(f"conversion {method!r} is unknown; known: {', '.join(OPTIONS)}")
    if method in NEEDS_STEPS and (steps is None or steps < 1):
        raise InputError(f"conversion {method!r} needs the number of steps, an integer >= 1: --steps T")
    if method not in NEEDS_STEPS and steps is not None:
        raise InputError(f"conversion {method!r} takes the steps of its source; leave out --steps {steps}")


def check_options(method: str, given: Mapping[str, Any]) -> None:
    """Raise InputError that lists every option the method does not have, and every value of another kind."""
    known = OPTIONS[method]
    bad = [f"{method} has no option {key!r}; it has {', '.join(known)}" for key in given if key not in known]
    for key, value in given.items():
        kind = known.get(key)
        if isinstance(kind, tuple) and value not in kind:
            bad.append(f"{key}={value!r} is none of {', '.join(kind)}")
        elif isinstance(kind, type) and not _is(value, kind):
            bad.append(f"{key}={value!r}, expected {_word(kind)}")
    if bad:
        raise InputError(bad)


def parse_options(method: str, texts: Sequence[str]) -> dict[str, Any]:
    """Return the options of `key=value` texts; InputError lists everything that is wrong with them."""
    found: dict[str, Any] = {}
    bad = []
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign or key in found:
            bad.append(f"option {text!r}: " + ("given twice" if sign else "expected key=value"))
        found[key] = _read(value, OPTIONS.get(method, {}).get(key))
    if bad:
        raise InputError(bad)
    check_options(method, found)
    return found


def _read(text: str, kind: Kind | None) -> Any:
    """The value a text stands for, or the text itself if it is none of that kind (which is refused later)."""
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if kind in (int, float):
        try:
            return int(text) if kind is int else float(text)
        except ValueError:
            return text
    return text


def _is(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is kind


def _word(kind: type) -> str:
    return {bool: "true or false", int: "a whole number", float: "a number"}[kind]
