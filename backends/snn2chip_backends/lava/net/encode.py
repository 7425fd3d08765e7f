"""Raw samples to integer payloads, outputs from recorded payloads; NumPy alone.

integers:  p = x - offset          floats:  p = floor(x/scale + 1/2) - offset, then the host operations
repeat:    p at every step         rate:    k = floor(x*T/scale) (or + 1/2), s(t) = floor(k(t+1)/T) - floor(k t/T)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def encode(node: Mapping[str, Any], samples: Any, steps: int) -> Any:
    """Payloads `[T, N, *shape]` of raw samples `[N, *raw]` (coding `steps`: `[N, T, *raw]`).

    Raises ValueError for shapes and values that do not fit.
    """
    x = np.asarray(samples)
    coding, raw = node["coding"], tuple(node["raw_shape"])
    lead = (x.shape[0], steps) if coding == "steps" else (x.shape[0],)
    if x.shape != (*lead, *raw):
        raise ValueError(f"input {node['name']}: expected samples {['N', *lead[1:], *raw]}, got {list(x.shape)}")
    if x.dtype.kind not in "biuf" or (x.dtype.kind == "f" and not np.isfinite(x).all()):
        raise ValueError(f"input {node['name']}: samples must be finite numbers, got {x.dtype}")
    rate = coding.startswith("rate")
    if node["host"] or not rate:
        x = host(node, integers(node, x).reshape(-1, *raw)).reshape(*lead, *node["shape"])
    else:
        x = x.reshape(*lead, *node["shape"])
    if coding == "steps":
        payload = np.moveaxis(x, 1, 0)
    elif rate:
        payload = rate_code(node, x, steps)
    else:
        payload = np.broadcast_to(x, (steps, *x.shape))
    if payload.size and (payload.min() < node["lo"] or payload.max() > node["hi"]):
        raise ValueError(
            f"input {node['name']}: values {payload.min()}..{payload.max()} are outside {node['lo']}..{node['hi']} "
            f"(raw values are expected with scale={node['scale']:g})"
        )
    return payload


def integers(node: Mapping[str, Any], x: Any) -> Any:
    """Round floats half up in units of the scale, subtract the offset (scalar or per channel)."""
    if x.dtype.kind == "f":
        x = np.floor(x.astype(np.float64) / node["scale"] + 0.5)
    offset = np.asarray(node["offset"])
    return x.astype(np.int64) - offset.reshape(offset.shape + (1,) * (len(node["raw_shape"]) - offset.ndim))


def rate_code(node: Mapping[str, Any], x: Any, steps: int) -> Any:
    """Evenly spread spikes, k of them in the sample."""
    scaled = x.astype(np.float64) * steps
    if not node["host"]:
        scaled = scaled / node["scale"]
    if scaled.size and (scaled.min() < 0 or scaled.max() > steps * node["hi"] + 0.5):
        raise ValueError(f"input {node['name']}: rate coding takes 0..{node['hi'] * node['scale']:g}")
    k = np.floor(scaled + (0.5 if node["coding"] == "rate-round" else 0.0)).astype(np.int64)
    return np.stack([k * (t + 1) // steps - k * t // steps for t in range(steps)])


def host(node: Mapping[str, Any], x: Any) -> Any:
    """The declared exact integer work before the input, on `[B, *raw]`."""
    for op in node["ops"]:
        x = OPERATIONS[op["kind"]](op, x)
    return x


def per_channel(value: Any, x: Any) -> Any:
    """A scalar or `[C]` value, ready to broadcast against `[B, C, ..]`."""
    array = np.asarray(value)
    return array.reshape(array.shape + (1,) * (x.ndim - 1 - array.ndim))


def rescale(op: Mapping[str, Any], x: Any) -> Any:
    """`clip((x*gain + half) >> shift, lo, hi)`."""
    shift = op["shift"]
    return np.clip((x * per_channel(op["gain"], x) + ((1 << shift) >> 1)) >> shift, op["lo"], op["hi"])


def patches(op: Mapping[str, Any], x: Any, fill: int = 0) -> Any:
    """Kernel windows `[B, C, H', W', kh, kw]`."""
    (ph, pw), (sh, sw) = op["padding"], op["stride"]
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)), constant_values=fill)
    view: Any = np.lib.stride_tricks.sliding_window_view(padded, tuple(op["kernel_size"]), axis=(2, 3))  # type: ignore[call-overload]
    return view[:, :, ::sh, ::sw]


def conv(op: Mapping[str, Any], x: Any) -> Any:
    """Exact integer cross-correlation, weight `[Cout, Cin/groups, kh, kw]`."""
    weight, groups = op["weight"].astype(np.int64), op["groups"]
    view = patches({**op, "kernel_size": weight.shape[2:]}, x)
    b, c, h, w = view.shape[:4]
    view = view.reshape(b, groups, c // groups, h, w, *weight.shape[2:])
    grouped = weight.reshape(groups, -1, *weight.shape[1:])
    return np.einsum("bgchwij,gocij->bgohw", view, grouped).reshape(b, -1, h, w)


OPERATIONS: dict[str, Any] = {
    "sumframes": lambda op, x: x.sum(1),
    "relu": lambda op, x: np.maximum(x, 0),
    "bias": lambda op, x: x + per_channel(op["weight"], x),
    "rescale": rescale,
    "linear": lambda op, x: x.reshape(len(x), -1) @ op["weight"].astype(np.int64).T,
    "conv2d": conv,
    "maxpool": lambda op, x: patches(op, x, np.iinfo(np.int64).min).max((-1, -2)),
    "sumpool": lambda op, x: patches(op, x).sum((-1, -2)),
}


def read_output(read: str, recorded: Any) -> Any:
    """One output `[N, size]` from what a sink kept, `[T, N, *shape]`: last potential, count or payload sum."""
    values = recorded.astype(np.int64)
    if read == "potential":
        values = values[-1]
    elif read == "count":
        values = (values != 0).sum(0)
    else:
        values = values.sum(0)
    return values.reshape(len(values), -1)
