"""Work done outside the chip: raw samples to integer payloads, and the exact integer host stem.

integers:  p = x - offset          floats:  p = floor(x/scale + 1/2) - offset
repeat:    p at every step         rate:    k = floor(x*T/scale) (or + 1/2), s(t) = floor(k(t+1)/T) - floor(k t/T)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from snn2chip.errors import InputError
from snn2chip.ir.dynamics import rshift
from snn2chip.ir.geometry import conv_size
from snn2chip.ir.nodes import Host, HostOp, Input, describe
from snn2chip.ir.types import IntArray


def encode(node: Input | Host, samples: Any, steps: int, *, time_axis: bool = False) -> IntArray:
    """Payloads `[T, B, *shape]` int64 of raw samples `[B, *raw]` (or `[T, B, *raw]` with `time_axis`).

    Raises InputError for wrong shapes, for NaN, and for values outside the declared range.
    """
    x = np.asarray(samples)
    raw_shape = node.raw_shape if isinstance(node, Host) else node.shape
    per_step = time_axis or node.coding == "steps"
    want = ("T", "B", *raw_shape) if per_step else ("B", *raw_shape)
    lead = 2 if per_step else 1
    if x.ndim != len(want) or x.shape[lead:] != raw_shape:
        raise InputError(f"{describe(node)}: expected samples {_fmt(want)}, got {_fmt(x.shape)}")
    if per_step and x.shape[0] != steps:
        raise InputError(f"{describe(node)}: expected {steps} steps on the first axis, got {x.shape[0]}")
    if x.dtype.kind not in "biuf" or (x.dtype.kind == "f" and not np.isfinite(x).all()):
        raise InputError(f"{describe(node)}: samples must be finite numbers, got {x.dtype} with NaN or inf")
    rate = node.coding.startswith("rate") and not time_axis
    if isinstance(node, Host):
        x = run_host(node, to_integers(node, x).reshape(-1, *raw_shape)).reshape(*x.shape[:lead], *node.shape)
    elif not rate:
        x = to_integers(node, x)
    payload = _rate(node, x, steps) if rate else x
    if not per_step and not rate:
        payload = np.broadcast_to(payload, (steps, *payload.shape))
    _in_range(node, payload)
    return payload


def _fmt(shape: Any) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"


def to_integers(node: Input | Host, x: Any) -> IntArray:
    """Raw values to payload units: round floats half up, subtract the offset."""
    if x.dtype.kind == "f":
        x = np.floor(x.astype(np.float64) / node.scale + 0.5)
        if x.size and np.abs(x).max() >= 2**53:
            raise InputError(f"{describe(node)}: values are too large for exact integers; check scale={node.scale}")
    x = x.astype(np.int64)
    if not node.offset.any():
        return x
    raw = node.raw_shape if isinstance(node, Host) else node.shape
    offset = node.offset.reshape(node.offset.shape + (1,) * (len(raw) - node.offset.ndim))
    out: IntArray = x - (offset if node.offset.ndim else int(node.offset))
    return out


def _rate(node: Input | Host, x: Any, steps: int) -> IntArray:
    scaled = x.astype(np.float64) * steps
    if not isinstance(node, Host):
        scaled = scaled / node.scale
    if scaled.size and (scaled.min() < 0 or scaled.max() > steps * node.hi + 0.5):
        raise InputError(
            f"{describe(node)}: rate coding takes values 0..{node.hi * node.scale:g}, got {x.min():g}..{x.max():g}"
        )
    k = np.floor(scaled + (0.5 if node.coding == "rate-round" else 0.0)).astype(np.int64)
    return np.stack([k * (t + 1) // steps - k * t // steps for t in range(steps)])


def _in_range(node: Input | Host, payload: IntArray) -> None:
    if payload.size == 0:
        return
    lo, hi = int(payload.min()), int(payload.max())
    if lo < node.lo or hi > node.hi:
        raise InputError(
            f"{describe(node)}: values {lo}..{hi} are outside the declared range [{node.lo}, {node.hi}]; "
            f"check the data's scale (this input expects raw values with scale={node.scale:g})"
        )


def run_host(node: Host, x: IntArray) -> IntArray:
    """Run the host operations on integers `[B, *raw]` exactly."""
    for op in node.ops:
        x = _apply(op, x)
    return x


def _apply(op: HostOp, x: IntArray) -> IntArray:
    if op.kind == "relu":
        return np.maximum(x, 0)
    if op.kind == "bias":
        assert op.weight is not None
        return x + op.weight.reshape(op.weight.shape + (1,) * (x.ndim - 1 - op.weight.ndim))
    if op.kind == "rescale":
        gain = op.gain.reshape(op.gain.shape + (1,) * (x.ndim - 1 - op.gain.ndim)) if op.gain.ndim else op.gain
        return np.clip(rshift(x * gain, op.shift), op.lo, op.hi)
    if op.kind == "linear":
        assert op.weight is not None
        return x.reshape(len(x), -1) @ op.weight.T
    if op.kind == "conv2d":
        assert op.weight is not None
        return conv2d_int(x, op.weight, op.stride, op.padding, (1, 1), op.groups)
    return _pool(op, x)


def _pool(op: HostOp, x: IntArray) -> IntArray:
    low = np.iinfo(np.int64).min if op.kind == "maxpool" else 0
    pads = [(0, 0), (0, 0), (op.padding[0],) * 2, (op.padding[1],) * 2]
    padded = np.pad(x, pads, constant_values=low)
    view: IntArray = np.lib.stride_tricks.sliding_window_view(padded, op.kernel_size, axis=(2, 3))  # type: ignore[call-overload]
    view = view[:, :, :: op.stride[0], :: op.stride[1]]
    out: IntArray = view.max((-1, -2)) if op.kind == "maxpool" else view.sum((-1, -2))
    return out


def conv2d_int(
    x: IntArray,
    weight: IntArray,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> IntArray:
    """Exact integer cross-correlation of `[B, C, H, W]`: one product per kernel tap, summed."""
    out_c, per_group, kh, kw = weight.shape
    h = conv_size(x.shape[2], kh, stride[0], padding[0], dilation[0])
    w = conv_size(x.shape[3], kw, stride[1], padding[1], dilation[1])
    padded = np.pad(x, [(0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2])
    padded = padded.reshape(len(x), groups, per_group, *padded.shape[2:])
    grouped = weight.reshape(groups, out_c // groups, per_group, kh, kw)
    out = np.zeros((len(x), groups, out_c // groups, h, w), dtype=np.int64)
    for i in range(kh):
        for j in range(kw):
            rows = slice(i * dilation[0], i * dilation[0] + (h - 1) * stride[0] + 1, stride[0])
            cols = slice(j * dilation[1], j * dilation[1] + (w - 1) * stride[1] + 1, stride[1])
            out += np.einsum("goc,bgchw->bgohw", grouped[..., i, j], padded[:, :, :, rows, cols])
    return out.reshape(len(x), out_c, h, w)


def host_shape(node: Host) -> tuple[tuple[int, ...], list[str]]:
    """Shape after the host operations and what does not fit, from shapes alone."""
    shape = node.raw_shape
    for i, op in enumerate(node.ops):
        where = f"host operation {i} ({op.kind})"
        if op.kind in ("conv2d", "maxpool", "sumpool"):
            if len(shape) != 3:
                return shape, [f"{where} needs [C, H, W], got {shape}"]
            kernel, channels = op.kernel_size, shape[0]
            if op.kind == "conv2d":
                if op.weight is None or op.weight.ndim != 4 or op.weight.shape[1] * op.groups != shape[0]:
                    return shape, [f"{where}: its weight does not fit {shape[0]} channels"]
                kernel, channels = (op.weight.shape[2], op.weight.shape[3]), op.weight.shape[0]
            size = [conv_size(shape[1 + a], kernel[a], op.stride[a], op.padding[a], 1) for a in (0, 1)]
            if min(size) < 1:
                return shape, [f"{where}: the kernel is larger than {shape}"]
            shape = (channels, *size)
        elif op.kind == "linear":
            n = int(np.prod(shape))
            if op.weight is None or op.weight.ndim != 2 or op.weight.shape[1] != n:
                return shape, [f"{where}: its weight does not take {n} inputs"]
            shape = (op.weight.shape[0],)
        elif op.kind == "bias" and (op.weight is None or op.weight.shape not in ((), (shape[0],))):
            return shape, [f"{where}: the bias is a scalar or per channel [{shape[0]}]"]
    return shape, []
