"""Convolutions of 3 x 3 by Winograd's F(2 x 2, 3 x 3) on whole numbers: 16 products instead of 36, nothing rounded.

    4 Y = A^T [ (2G) g (2G)^T  *  B^T d B ] A        Y: 2 x 2 outputs of the patch d [4, 4]

    B^T = [1  0 -1  0]    2G = [2  0  0]    A^T = [1  1  1  0]
          [0  1  1  0]         [1  1  1]          [0  1 -1 -1]
          [0 -1  1  0]         [1 -1  1]
          [0  1  0 -1]         [0  0  2]

Doubling G makes every number on the way whole; the sum is a multiple of 4 and its quarter exact. With U = (2G) g (2G)^T
and |d| <= p, no partial sum, in whatever order, leaves

    max over outputs and channels k of   sum over c and the 9 entries (i, j) that the output reads of  |U[i,j,c,k]| * 4p

(an entry of B^T d B adds up four of d), so that float32 holds all of them where this is at most 2^24.
Source: Lavin and Gray, CVPR 2016.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from snn2chip.ir.geometry import out_shape
from snn2chip.ir.nodes import Synapse
from snn2chip.ir.types import IntArray
from snn2chip_backends.torch.exact import FLOAT32_EXACT

DOUBLED_G = np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]], dtype=np.int64)
WORTH = 1 << 17
"""Pairs of channels from which transforms cost less than the products they save (measured: docs/speed.md)."""
ROWS = 512
"""Patches that are transformed together: they and their products stay in the second-level cache or near it."""


def transformed(weight: IntArray) -> IntArray:
    """U `[4, 4, Cin, Cout]` of weights `[Cout, Cin, 3, 3]`, four times Winograd's."""
    out: IntArray = np.einsum(
        "ia,kcab,jb->ijck", DOUBLED_G, np.asarray(weight, dtype=np.int64), DOUBLED_G, optimize=True
    )
    return out


def winograd_bound(weight: IntArray, magnitude: int) -> int:
    """Largest partial sum on the way for payloads up to `magnitude`, the transformed payloads included."""
    sums = np.abs(transformed(weight)).sum(2)  # [4, 4, Cout]
    read = max(int(sums[i : i + 3, j : j + 3].sum((0, 1)).max()) for i in (0, 1) for j in (0, 1))
    return 4 * magnitude * max(read, 1)


def applies(synapse: Synapse, magnitude: int) -> bool:
    """Whether F(2 x 2, 3 x 3) computes this synapse exactly in float32."""
    s = synapse
    plain = s.stride == s.dilation == (1, 1) and s.groups == 1
    if s.kind != "conv2d" or s.kernel_size != (3, 3) or not plain:
        return False
    return winograd_bound(s.weight, magnitude) <= FLOAT32_EXACT


def worth(synapse: Synapse) -> bool:
    """Whether it has enough channels for its transforms to be the smaller part of the work."""
    return int(synapse.stored.shape[0] * synapse.stored.shape[1]) >= WORTH


def winograd(synapse: Synapse, shape: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
    """The convolution of float32 payloads `[N, *shape]`, channels last; the caller has asked `applies`."""
    u = transformed(synapse.weight)
    products = torch.from_numpy(u.reshape(16, *u.shape[2:])).to(torch.float32)
    factor = float(1 << synapse.exponent) / 4
    (_, high, wide), (ph, pw) = out_shape(synapse, shape)[0], synapse.padding
    h, w = -(-high // 2), -(-wide // 2)
    below, right = 2 * h + 2 - shape[1] - ph, 2 * w + 2 - shape[2] - pw
    at_once = max(1, ROWS // (h * w))

    def convolve(p: Tensor) -> Tensor:
        out = p.new_empty(len(p), 2 * h, 2 * w, products.shape[2])
        for start in range(0, len(p), at_once):
            part = p[start : start + at_once].permute(0, 2, 3, 1)
            patches = _patches(functional.pad(part, (0, 0, pw, right, ph, below)), h, w)
            made = torch.bmm(patches, products).view(4, 4, len(part), h, w, -1)
            _outputs(made, factor, out[start : start + at_once])
        return out[:, :high, :wide].permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)

    return convolve


def _patches(padded: Tensor, h: int, w: int) -> Tensor:
    """B^T d B of all patches of `[N, 2h+2, 2w+2, C]`: `[16, N*h*w, C]`."""
    d = [padded[:, i : i + 2 * h : 2] for i in range(4)]
    out = padded.new_empty(16, len(padded), h, w, padded.shape[3])
    for i, row in enumerate((d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3])):
        e = [row[:, :, j : j + 2 * w : 2] for j in range(4)]
        torch.sub(e[0], e[2], out=out[4 * i])
        torch.add(e[1], e[2], out=out[4 * i + 1])
        torch.sub(e[2], e[1], out=out[4 * i + 2])
        torch.sub(e[1], e[3], out=out[4 * i + 3])
    return out.flatten(1, 3)


def _outputs(made: Tensor, factor: float, out: Tensor) -> None:
    """A^T m A of products `[4, 4, N, h, w, K]`, times a power of two, into `[N, 2h, 2w, K]`."""
    n, h, w = made.shape[2:5]
    tiles = out.view(n, h, 2, w, 2, -1)
    for i, m in enumerate((made[0] + made[1] + made[2], made[1] - made[2] - made[3])):
        torch.mul(m[0] + m[1] + m[2], factor, out=tiles[:, :, i, :, 0])
        torch.mul(m[1] - m[2] - m[3], factor, out=tiles[:, :, i, :, 1])
