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

RAW_REACH, EXACT = 1 << 24, 1 << 62
"""Raw integers into a host stem, and what its exact 64-bit arithmetic may reach."""


def encode(node: Input | Host, samples: Any, steps: int, *, time_axis: bool = False) -> IntArray:
    """Payloads `[T, B, *shape]` int64 of raw samples `[B, *raw]` (or `[T, B, *raw]` with `time_axis`).

    Raises InputError for wrong shapes, for NaN, and for values outside the declared range.
    """
    x = np.asarray(samples)
    raw_shape = node.raw_shape
    per_step = time_axis or node.coding == "steps"
    want = ("T", "B", *raw_shape) if per_step else ("B", *raw_shape)
    lead = 2 if per_step else 1
    if x.dtype.kind not in "biuf":
        raise InputError(f"{describe(node)}: samples must be finite numbers, got {x.dtype}; give integers or floats")
    if x.ndim != len(want) or x.shape[lead:] != raw_shape:
        hint = ""
        if not per_step and x.ndim == len(want) + 1 and x.shape[2:] == raw_shape:
            hint = "; samples that hold every step need time_axis=True (--steps-in-input)"
        if isinstance(node, Host) and node.frames and x.ndim == len(want) and x.shape[0] == node.frames:
            hint = "; the event frames of a sample go together, the batch first"
        raise InputError(f"{describe(node)}: expected samples {_fmt(want)}, got {_fmt(x.shape)}{hint}")
    if per_step and x.shape[0] != steps:
        raise InputError(f"{describe(node)}: expected {steps} steps on the first axis, got {x.shape[0]}")
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        bad = np.count_nonzero(~np.isfinite(x))
        raise InputError(f"{describe(node)}: samples must be finite numbers; {bad:,} of {x.size:,} are NaN or inf")
    if x.dtype.kind == "b" and (node.scale != 1.0 or (isinstance(node, Input) and node.hi > 1)):
        raise InputError(
            f"{describe(node)}: samples are bool, but this input takes {_wants(node)}; give numbers in that range, or "
            "compile with 0/1 calibration samples for a program that takes spikes"
        )
    rate = node.coding.startswith("rate") and not time_axis
    if isinstance(node, Host):
        raw = to_integers(node, x)
        if node.ops and raw.size and max(int(raw.max()), -int(raw.min())) > RAW_REACH:
            raise InputError(f"{describe(node)}: raw integers {int(raw.min())}..{int(raw.max())} exceed +-{RAW_REACH}")
        x = run_host(node, raw.reshape(-1, *raw_shape)).reshape(*x.shape[:lead], *node.shape)
    elif not rate:
        x = to_integers(node, x)
    x = x.reshape(*x.shape[:lead], *node.shape)
    payload = _rate(node, x, steps) if rate else x
    _in_range(node, payload)
    return payload if per_step or rate else np.broadcast_to(payload, (steps, *payload.shape))


MEANT, WIDE, LOST = 16, 15, 0.25
"""Integers 16 times smaller than a range of 15 and more, and floats that lose a quarter by rounding, are doubted."""


def doubts(node: Input | Host, samples: Any) -> dict[str, str]:
    """What makes samples that can be coded hardly mean what they say, by kind; empty for sound ones."""
    x = np.asarray(samples)
    if isinstance(node, Host) or not x.size or x.dtype.kind not in "iuf":
        return {}
    reach = max(-node.lo, node.hi)
    if x.dtype.kind == "f":
        units = x.astype(np.float64) / node.scale
        error = np.abs(units - np.rint(units))
        size = float(np.sqrt(np.square(units).mean()))
        lost = float(np.sqrt(np.square(error).mean()))
        if node.coding.startswith("rate") or lost <= LOST * size or not np.isfinite(size):
            return {}
        off, at = np.count_nonzero(error > 1e-6), int(error.argmax())
        return {
            "grid": f"{describe(node)}: {off:,} of {x.size:,} values are not multiples of {node.scale:g}, such as "
            f"{x.flat[at]:g}, and rounding them loses {lost / size:.0%} of the signal; this input takes "
            f"{_wants(node)}: scale the samples as those of the calibration were, or compile with calibration samples "
            "like these"
        }
    top = max(abs(int(x.min())), abs(int(x.max())))
    if not top or reach < WIDE or (top > 1 if node.scale == 1.0 else top * MEANT > reach):
        return {}
    return {
        "units": f"{describe(node)}: samples are integers up to {top}, taken as payload units of a range up to "
        f"{reach}, so they mean at most {top / reach:.2g} of it; this input takes {_wants(node)}: give floats in raw "
        "units if that is what they are"
    }


def _wants(node: Input | Host) -> str:
    """The raw values of an input, in words."""
    if isinstance(node, Host):
        return f"raw values with scale={node.scale:g}"
    low = node.lo + int(node.offset.min())
    high = node.hi + int(node.offset.max())
    if node.scale == 1.0:
        return f"whole numbers {low}..{high}"
    return f"floats {low * node.scale:.4g}..{high * node.scale:.4g} (or integer payloads {low}..{high})"


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
    raw = node.raw_shape
    offset = node.offset.reshape(node.offset.shape + (1,) * (len(raw) - node.offset.ndim))
    out: IntArray = x - (offset if node.offset.ndim else int(node.offset))
    return out


def _rate(node: Input | Host, x: Any, steps: int) -> IntArray:
    scaled = x.astype(np.float64) * steps
    if not isinstance(node, Host):
        scaled = scaled / node.scale
    wrong = (scaled < 0) | (scaled > steps * node.hi + 0.5)
    if wrong.any():
        raise InputError(
            f"{describe(node)}: rate coding takes values 0..{node.hi * node.scale:g}, got {x.min():g}..{x.max():g}; "
            f"{np.count_nonzero(wrong):,} of {x.size:,} values are outside"
        )
    k = np.floor(scaled + (0.5 if node.coding == "rate-round" else 0.0)).astype(np.int64)
    return np.stack([k * (t + 1) // steps - k * t // steps for t in range(steps)])


def _in_range(node: Input | Host, payload: IntArray) -> None:
    if payload.size == 0:
        return
    lo, hi = int(payload.min()), int(payload.max())
    if lo < node.lo or hi > node.hi:
        out = np.count_nonzero((payload < node.lo) | (payload > node.hi))
        worst = lo if node.lo - lo > hi - node.hi else hi
        raise InputError(
            f"{describe(node)}: values {lo}..{hi} are outside the declared range [{node.lo}, {node.hi}] of payloads; "
            f"{out:,} of {payload.size:,} are, the worst is {worst} (about {worst * node.scale:g} raw), and this input "
            f"takes {_wants(node)}; check the scale of the data, or compile with input_range=(lo, hi) "
            "(--input-range LO,HI) if such values are meant"
        )


def run_host(node: Host, x: IntArray) -> IntArray:
    """Run the host operations on integers `[B, *raw]` exactly."""
    for op in node.ops:
        x = _apply(op, x)
    return x


def _apply(op: HostOp, x: IntArray) -> IntArray:
    if op.kind == "relu":
        return np.maximum(x, 0)
    if op.kind == "sumframes":
        summed: IntArray = x.sum(1)
        return summed
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


def host_bounds(node: Host) -> list[str]:
    """What may leave the exact 64-bit range in a host stem, for raw integers within `RAW_REACH`.

    conv2d, linear: max |x| * largest sum of |weights| of an output; bias: + |b|; sumpool: * kernel area;
    rescale: |x * gain| before the shift, then [lo, hi].
    """
    reach = RAW_REACH
    for i, op in enumerate(node.ops):
        if op.kind in ("conv2d", "linear") and op.weight is not None:
            rows = op.weight.astype(object).reshape(len(op.weight), -1)
            reach *= max(int(np.abs(row).sum()) for row in rows)
        elif op.kind == "bias" and op.weight is not None:
            reach += max(abs(int(op.weight.max())), abs(int(op.weight.min())))
        elif op.kind == "sumframes":
            reach *= node.raw_shape[0]
        elif op.kind == "sumpool":
            reach *= op.kernel_size[0] * op.kernel_size[1]
        elif op.kind == "rescale":
            reach *= max(abs(int(op.gain.max())), abs(int(op.gain.min())))
        if reach >= EXACT:
            return [f"host operation {i} ({op.kind}): a value may reach {reach}, beyond the exact range {EXACT}"]
        if op.kind == "rescale":
            reach = max(abs(op.lo), abs(op.hi))
    return []


def host_shape(node: Host) -> tuple[tuple[int, ...], list[str]]:
    """Shape after the host operations and what does not fit, from shapes alone."""
    shape = node.raw_shape
    for i, op in enumerate(node.ops):
        where = f"host operation {i} ({op.kind})"
        if op.kind == "sumframes":
            if len(shape) < 2:
                return shape, [f"{where} needs frames [F, ...], got {shape}"]
            shape = shape[1:]
            continue
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
