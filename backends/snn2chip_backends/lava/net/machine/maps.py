"""Linear maps and products on payloads `[B, *shape]`: `a = W p * 2^exponent`, exact in the number type of the plan.

A map is made once for a batch size and owns its buffers: what `current` returns holds until its next call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

COLUMNS = 256
"""Output positions that one matrix product of a convolution should have at least (several samples if need be)."""


def make_map(par: Mapping[str, Any], batch: int) -> Any:
    """The map of one synapse or product from its arguments (see `snn2chip_backends.lava.blocks`)."""
    kind = par["map"]
    if kind == "product":
        return Product(par)
    if kind == "linear":
        return Sparse(par, batch) if hasattr(par["weight"], "indptr") else Linear(par, batch)
    if kind == "identity":
        return Scale(par, batch)
    depthwise = kind == "conv2d" and par["groups"] == par["in_shape"][0] == par["out_shape"][0]
    return Taps(par, batch) if depthwise or kind == "sumpool" else Conv(par, batch)


def scaled(par: Mapping[str, Any]) -> Any:
    """`W * 2^exponent` in the number type."""
    return (par["weight"] * (1 << par["exponent"])).astype(par["number"])


class Linear:
    """`[B, N] @ [N, M]`."""

    def __init__(self, par: Mapping[str, Any], batch: int) -> None:
        weight = scaled(par)
        self.weight = np.ascontiguousarray(weight).T
        self.x = np.empty((batch, weight.shape[1]), par["number"])
        self.a = np.empty((batch, weight.shape[0]), par["number"])
        self.out = self.a.reshape(batch, *par["out_shape"])

    def current(self, payloads: Sequence[Any]) -> Any:
        """Current of one payload."""
        np.copyto(self.x, payloads[0].reshape(self.x.shape))
        np.matmul(self.x, self.weight, out=self.a)
        return self.out


class Sparse:
    """A csr matrix on the transposed payload."""

    def __init__(self, par: Mapping[str, Any], batch: int) -> None:
        self.weight = scaled(par)
        self.shape = (batch, *par["out_shape"])

    def current(self, payloads: Sequence[Any]) -> Any:
        """Current of one payload."""
        flat = payloads[0].reshape(len(payloads[0]), -1).astype(self.weight.dtype)
        return np.ascontiguousarray((self.weight @ flat.T).T).reshape(self.shape)


class Scale:
    """Elementwise: weight ready to broadcast."""

    def __init__(self, par: Mapping[str, Any], batch: int) -> None:
        self.weight = scaled(par)
        self.out = np.empty((batch, *par["out_shape"]), par["number"])

    def current(self, payloads: Sequence[Any]) -> Any:
        """Current of one payload."""
        np.copyto(self.out, payloads[0])
        np.multiply(self.out, self.weight, out=self.out)
        return self.out


class Padded:
    """A payload `[B, C, H, W]` in the number type with zeros around it, and its kernel windows."""

    def __init__(self, par: Mapping[str, Any], batch: int) -> None:
        (ph, pw), (c, h, w) = par["padding"], par["in_shape"]
        self.array = np.zeros((batch, c, h + 2 * ph, w + 2 * pw), par["number"])
        self.inner = self.array[:, :, ph : ph + h, pw : pw + w]
        (sh, sw), (dh, dw) = par["stride"], par["dilation"]
        b, c_, y, x = self.array.strides
        shape = (batch, c, *par["kernel_size"], *par["out_shape"][1:])
        strides = (b, c_, y * dh, x * dw, y * sh, x * sw)
        self.windows = np.lib.stride_tricks.as_strided(self.array, shape, strides, writeable=False)


class Conv:
    """Cross-correlation, weight `[Cout, Cin/groups, kh, kw]`: windows as columns, then one product per group."""

    def __init__(self, par: Mapping[str, Any], batch: int) -> None:
        groups, number = par["groups"], par["number"]
        cout, h, w = par["out_shape"]
        kh, kw = par["kernel_size"]
        channels = par["in_shape"][0]
        self.padded = Padded(par, batch)
        self.weight = np.ascontiguousarray(scaled(par).reshape(groups, cout // groups, -1))
        self.span = max(1, min(batch, COLUMNS // (h * w)))
        self.cols = np.empty((channels, kh, kw, self.span, h, w), number)
        self.parts = np.empty((groups, cout // groups, self.span * h * w), number)
        self.out = np.empty((batch, cout, h, w), number)

    def current(self, payloads: Sequence[Any]) -> Any:
        """Current of one payload."""
        self.padded.inner[...] = payloads[0]
        groups, cout = len(self.weight), self.out.shape[1]
        for start in range(0, len(self.out), self.span):
            windows = self.padded.windows[start : start + self.span]
            n = len(windows)
            cols = self.cols if n == self.span else self.cols[:, :, :, :n].copy()
            np.copyto(cols, windows.transpose(1, 2, 3, 0, 4, 5))
            flat = cols.reshape(groups, self.weight.shape[2], -1)
            if n == 1 and self.span == 1:
                np.matmul(self.weight, flat, out=self.out[start].reshape(groups, cout // groups, -1))
                continue
            parts = self.parts if n == self.span else None
            parts = np.matmul(self.weight, flat, out=parts)
            self.out[start : start + n] = parts.reshape(cout, n, *self.out.shape[2:]).transpose(1, 0, 2, 3)
        return self.out


class Taps:
    """Sum pooling and depthwise convolutions: one weighted, shifted payload per kernel tap."""

    def __init__(self, par: Mapping[str, Any], batch: int) -> None:
        weight = scaled(par)
        self.pool = par["map"] == "sumpool"
        self.weight = weight if self.pool else weight[:, 0, :, :, None, None]
        self.padded = Padded(par, batch)
        self.out = np.empty((batch, *par["out_shape"]), par["number"])
        self.part = np.empty_like(self.out)

    def current(self, payloads: Sequence[Any]) -> Any:
        """Current of one payload."""
        self.padded.inner[...] = payloads[0]
        self.out[...] = 0
        _, _, kh, kw = self.padded.windows.shape[:4]
        for i in range(kh):
            for j in range(kw):
                window = self.padded.windows[:, :, i, j]
                if not self.pool:
                    window = np.multiply(window, self.weight[:, i, j], out=self.part)
                self.out += window
        if self.pool:
            self.out *= self.weight
        return self.out


class Product:
    """`(p*q + half) >> shift`; the smaller payload is per channel."""

    def __init__(self, par: Mapping[str, Any]) -> None:
        self.number, self.shape = np.dtype(par["number"]), tuple(par["out_shape"])
        self.shift = par["shift"]

    def current(self, payloads: Sequence[Any]) -> Any:
        """Current of two payloads."""
        p, q = (self.spread(payload).astype(self.number) for payload in payloads)
        total = p * q + ((1 << self.shift) >> 1)
        return np.floor(total / (1 << self.shift)) if self.number.kind == "f" else total >> self.shift

    def spread(self, payload: Any) -> Any:
        """A per-channel payload, ready to broadcast over space."""
        if payload.shape[1:] == self.shape:
            return payload
        return payload.reshape(payload.shape[:2] + (1,) * (len(self.shape) - 1))
