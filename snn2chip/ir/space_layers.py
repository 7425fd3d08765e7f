"""Float layers that rearrange space and channels: resampling by a fixed integer map, and concatenation.

resample   y[c, i, j] = factor[c] * sum_uv rows[i, u] * cols[j, v] * x[c, u, v]
upsample nearest        rows[i, u] = 1 where u = floor(i*H/H')
zero stuffing           rows[s*u + first, u] = 1: what a transposed convolution reads
adaptive average        rows[i, u] = n/n_i inside of window i of n_i rows, n = lcm of all n_i, factor 1/(n*m)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import attrs
import torch
from torch import Tensor

from snn2chip.ir.layers import Layer, Shape, as_tensor, brief, per_channel
from snn2chip.ir.planes import as_plane, plane_of


def _one() -> Tensor:
    return torch.ones((), dtype=torch.float64)


@attrs.frozen(kw_only=True, eq=False)
class ResampleLayer(Layer):
    """A fixed map of every channel's plane by itself: integer `rows` `[H', H]`, `cols` `[W', W]`, scale `factor`."""

    kind: ClassVar[str] = "resample"
    rows: Tensor = attrs.field(converter=as_tensor)
    cols: Tensor = attrs.field(converter=as_tensor)
    factor: Tensor = attrs.field(factory=_one, converter=as_tensor)

    @property
    def largest(self) -> int:
        """Largest entry of the map, without the factor."""
        return int(self.rows.max()) * int(self.cols.max())

    @property
    def taps(self) -> int:
        """Largest sum of the map's entries into one position, without the factor."""
        return int(self.rows.sum(1).max()) * int(self.cols.sum(1).max())

    def out_shape(self, shapes: Sequence[Shape]) -> tuple[Shape, list[str]]:
        """Return `[C, H', W']`."""
        plane, bad = plane_of(shapes[0])
        if bad:
            return shapes[0], bad
        want = (plane[0], self.rows.shape[1], self.cols.shape[1])
        if self.rows.is_floating_point() or self.cols.is_floating_point():
            bad.append("the map must be integers")
        if plane != want:
            bad.append(f"the map takes planes {list(want[1:])}, the source has {list(shapes[0])}")
        if tuple(self.factor.shape) not in ((), (1,), plane[:1]):
            bad.append(f"factor has shape {list(self.factor.shape)}, expected a number or [{plane[0]}]")
        return as_plane((plane[0], self.rows.shape[0], self.cols.shape[0]), like=shapes[0]), bad

    def apply(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return the resampled planes."""
        x = inputs[0]
        flat = x.dim() == 4
        y = torch.einsum("iu,tbcuv,jv->tbcij", self.rows.to(x), x.unsqueeze(3) if flat else x, self.cols.to(x))
        y = y * per_channel(self.factor, y, lead=2)
        return y.squeeze(3) if flat else y

    def details(self) -> list[str]:
        """Return the factor and the map."""
        return [f"factor={brief(self.factor)}", f"rows={brief(self.rows)}", f"cols={brief(self.cols)}"]


@attrs.frozen(kw_only=True, eq=False)
class ConcatLayer(Layer):
    """Sources one behind the other along the channels, `[C1, ..], [C2, ..] -> [C1 + C2, ..]`."""

    kind: ClassVar[str] = "concat"
    arity: ClassVar[int | None] = None

    def out_shape(self, shapes: Sequence[Shape]) -> tuple[Shape, list[str]]:
        """Return the shape with all channels."""
        shown = ", ".join(str(list(s)) for s in shapes)
        fine = all(s and s[1:] == shapes[0][1:] for s in shapes)
        return (sum(s[0] for s in shapes if s), *shapes[0][1:]), [] if fine else [f"joins values of shapes {shown}"]

    def apply(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return the joined values; what does not change in time is repeated."""
        steps = max(x.shape[0] for x in inputs)
        return torch.cat([x.expand(steps, *x.shape[1:]) for x in inputs], 2)


def nearest(size: int, wanted: int) -> Tensor:
    """Return `[wanted, size]`: position i takes floor(i*size/wanted)."""
    at = torch.arange(wanted) * size // wanted
    return torch.nn.functional.one_hot(at, size)


def stuffed(size: int, *, stride: int, first: int, length: int) -> Tensor:
    """Return `[length, size]`: input u goes to position stride*u + first, all other positions are zero."""
    at = torch.arange(size) * stride + first
    inside = (at >= 0) & (at < length)
    out = torch.zeros(length, size, dtype=torch.int64)
    out[at[inside], torch.arange(size)[inside]] = 1
    return out


def windows(size: int, wanted: int) -> tuple[Tensor, int]:
    """Return the averages of `wanted` windows over `size` positions as integers `[wanted, size]` over one divisor.

    Window i is floor(i*size/wanted) .. ceil((i+1)*size/wanted), as in adaptive average pooling.
    """
    edges = [(i * size // wanted, -(-(i + 1) * size // wanted)) for i in range(wanted)]
    divisor = math.lcm(*(end - start for start, end in edges))
    out = torch.zeros(wanted, size, dtype=torch.int64)
    for i, (start, end) in enumerate(edges):
        out[i, start:end] = divisor // (end - start)
    return out, divisor
