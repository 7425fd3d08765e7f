"""Pooling and averaging layers of a `.net` file: lava-dl exports them, its NetX builds none; slayer's forward says what
they compute.

    pool       z = K * s, one kernel K [kh, kw] for all channels, slid over the channels laid under each other
               ([C H, W], rows and columns of zeros added where H or W is no multiple of the kernel), then the neuron
    average    mean over equal groups of neurons, in torch order: here their sum, read after the last step

Where a window reaches from one channel into the next, it does so here, too. Source: lava-dl 0.6.0 (slayer, synapse and
block layers).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import sparse

from snn2chip.frontends.netx_file import LayerSpec
from snn2chip.frontends.netx_issues import Issues
from snn2chip.frontends.netx_synapse import Delayed
from snn2chip.ir.geometry import conv_size
from snn2chip.ir.nodes import Synapse
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import LEAK_ONE, IntArray

MOST = 1 << 24
"""Numbers of a pool's matrix beyond which the file is taken for damaged."""


def pool_synapse(layer: LayerSpec, shape: tuple[int, ...], *, issues: Issues) -> list[Delayed]:
    """The synapse of a pooling layer that reads payloads `[C, H, W]`; empty after telling `issues` why not.

    A convolution by channel where windows stay inside of their channel, else a matrix of the same sums.
    """
    kernel: Any = layer.numbers["weight"]
    kernel = kernel.reshape(kernel.shape[2:4]) if kernel.ndim in (4, 5) and kernel.size == kernel[0, 0].size else kernel
    pairs = {key: layer.numbers[key].ravel() for key in ("stride", "padding", "dilation")}
    sound = kernel.ndim == 2 and all(pair.size in (1, 2) for pair in pairs.values())
    if not sound or min(pairs["stride"].min(), pairs["dilation"].min()) < 1 or pairs["padding"].min() < 0:
        issues.damaged(layer, f"weight {layer.numbers['weight'].shape} and {sorted(pairs)} do not make a pool")
        return []
    delay = layer.numbers.get("delay")
    if delay is not None and delay.any():
        issues.refuse(layer, f"delays of a pool (up to {delay.max():g}) are not imported")
        return []
    weight: IntArray = kernel.astype(np.int64)
    if (weight != kernel).any() or np.abs(weight).max() > 127:
        issues.refuse(layer, "the weights of a pool must be whole numbers of 8 bits")
        return []
    stride, padding, dilation = ((int(p[0]), int(p[-1])) for p in pairs.values())
    name = f"layer{layer.index}.weight"
    c, h, w = shape
    inside = stride == weight.shape and padding == (0, 0) and dilation == (1, 1)
    if inside and not h % weight.shape[0] and not w % weight.shape[1]:
        taps = np.broadcast_to(weight, (c, 1, *weight.shape)).copy()
        made: tuple[int, ...] = (c, h // stride[0], w // stride[1])
        synapse = Synapse(name, "conv2d", taps, stride=stride, groups=c, layer=layer.path)
    else:
        matrix, made = _matrix(weight, shape, stride, padding, dilation)
        if matrix is None:
            issues.damaged(layer, f"a pool of {weight.shape} over {shape} makes no whole channels")
            return []
        synapse = Synapse(name, "linear", matrix, sparse=True, shape=made, layer=layer.path)
    if made != layer.shape:
        issues.damaged(layer, f"declares neurons {layer.shape}, but its pool makes {made} of {shape}")
        return []
    return [Delayed(synapse)]


def _matrix(
    weight: IntArray, shape: tuple[int, ...], stride: Any, padding: Any, dilation: Any
) -> tuple[Any, tuple[int, ...]]:
    """The sums of a pool as a sparse matrix `[outputs, inputs]`, and the shape they have; None if they have none."""
    c, h, w = shape
    rows, columns = h + h % weight.shape[0], w + w % weight.shape[1]
    size = [
        conv_size(n, weight.shape[i], stride[i], padding[i], dilation[i]) for i, n in enumerate((c * rows, columns))
    ]
    if min(size) < 1 or size[0] % c or math.prod(size) * weight.size > MOST:
        return None, ()
    number = np.full((c, rows, columns), -1)
    number[:, :h, :w] = np.arange(c * h * w).reshape(shape)
    pads = tuple((p, p) for p in padding)
    number = np.pad(number.reshape(c * rows, columns), pads, constant_values=-1)
    top, left = (np.arange(n) * stride[i] for i, n in enumerate(size))
    found = []
    for (a, b), value in np.ndenumerate(weight):
        source = number[np.ix_(top + a * dilation[0], left + b * dilation[1])].ravel()
        target = np.flatnonzero(source >= 0)
        found.append((np.full(len(target), value), target, source[target]))
    values, targets, sources = (np.concatenate(part) for part in zip(*found, strict=True))
    matrix = sparse.coo_matrix((values, (targets, sources)), shape=(math.prod(size), c * h * w)).tocsr()
    return matrix, (c, size[0] // c, size[1])


def average_read_out(layer: LayerSpec, inputs: int, *, issues: Issues) -> tuple[Synapse, Soma] | None:
    """The read-out of an averaging layer over `inputs` payloads: sums over groups and steps, never a spike."""
    groups = math.prod(layer.shape or (0,))
    if not groups or inputs % groups:
        issues.damaged(layer, f"{inputs} neurons do not make {groups} equal groups")
        return None
    each = inputs // groups
    weight = sparse.csr_matrix(
        (np.ones(inputs, np.int64), np.arange(inputs), np.arange(groups + 1) * each), shape=(groups, inputs)
    )
    issues.note(layer, f"the average is read as the sum of {each} neurons over all steps")
    name = f"layer{layer.index}"
    synapse = Synapse(f"{name}.weight", "linear", weight, sparse=True, layer=layer.path)
    return synapse, Soma(name, (groups,), fire="none", leak=LEAK_ONE, layer=layer.path)
