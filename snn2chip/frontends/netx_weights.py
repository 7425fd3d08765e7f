"""Which weights NetX's Dense block really multiplies with, and how to store weights in 8 bits.

NetX scales an integer matrix up by 2^s until it fills 9 bits, declares a width, and shifts the summed current right
by s; the synapse process clips and truncates what it was given. For w = 2^n * odd parts this is the identity, except
where the two disagree about the sign mode: a matrix without positive weights is scaled to reach -256 but clipped at
-255. Sources: lava-dl 0.6.0 (netx), lava-nc 0.10.0 (dense, weight utilities); each rule is tested against them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
from scipy import sparse

from snn2chip.ir.types import IntArray

MAX_EXPONENT = 16


@attrs.frozen(kw_only=True)
class EffectiveWeights:
    """`weight` as NetX applies it, `changes` in words (empty: the file's own), `refusal` if no linear map says it."""

    weight: IntArray
    changes: str = ""
    refusal: str = ""


def netx_dense_weights(weight: IntArray) -> EffectiveWeights:
    """The linear map that NetX makes of a dense weight matrix.

    Scale s and width: `s = floor(log2(limit / extreme)) + mixed`, `n` = common factors of two (at most 8); then
    `w' = (clip(w << s) >> k) << k`, `k = s + n` (mixed or one-signed), and `a = (w' p) >> s` rounding down.
    That is linear when every w' is a multiple of 2^s; where it is not, `refusal` says so.
    """
    return netx_joined_weights([weight])[0]


def netx_joined_weights(weights: Sequence[IntArray]) -> list[EffectiveWeights]:
    """The same of matrices side by side (a recurrent layer's two): scaled as one, then clipped and truncated alone."""
    given = [np.asarray(weight, dtype=np.int64) for weight in weights]
    whole = np.concatenate([part.ravel() for part in given])
    if not whole.any():
        text = "all weights are zero, where NetX itself stops with OverflowError"
        return [EffectiveWeights(weight=part, changes=text) for part in given]
    clipped = _clip9(whole)
    hi, lo = int(clipped.max()), int(clipped.min())
    mixed = lo < 0 <= hi
    s = _scale_bits(lo, hi, mixed)
    if s < 0:
        text = f"weights {lo}..{hi} are beyond 8 bits and a sign; NetX shifts them by {s}, which gives 0"
        return [EffectiveWeights(weight=part, refusal=text) for part in given]
    low_bits = s + _common_twos(clipped, 8) - mixed
    ends = np.cumsum([part.size for part in given])[:-1]
    parts = [part.reshape(own.shape) for part, own in zip(np.split(clipped, ends), given, strict=True)]
    return [_acting(part, own, s, low_bits) for part, own in zip(parts, given, strict=True)]


def _acting(w: IntArray, given: IntArray, s: int, low_bits: int) -> EffectiveWeights:
    """One matrix scaled by `2^s`, of which the synapse process keeps all but the lowest bits."""
    hi, lo = int(w.max()), int(w.min())
    used = _clip_and_truncate(w << s, int(low_bits + (lo < 0 < hi)))
    if (used & ((1 << s) - 1)).any():
        return EffectiveWeights(
            weight=given,
            refusal=f"weights {lo}..{hi} without positive ones: NetX turns {lo} into {used.min() / (1 << s):g} and "
            "rounds the summed current down, which no integer weights express",
        )
    effective = used >> s
    return EffectiveWeights(weight=effective, changes=_difference(given, effective))


def _clip9(w: IntArray) -> IntArray:
    hi, lo = int(w.max()), int(w.min())
    return np.clip(w, -256, 254) if (hi > 254 and lo < 0) or (lo < -256 and hi > 0) else w


def _scale_bits(lo: int, hi: int, mixed: bool) -> int:
    if not mixed:
        return math.floor(math.log2(255 / hi if lo >= 0 else -256 / lo))
    scales = [127 / hi] if hi > 0 else []
    return math.floor(math.log2(min(*scales, -128 / lo) if scales else -128 / lo)) + 1


def _common_twos(w: IntArray, most: int) -> int:
    joined = int(np.bitwise_or.reduce(np.abs(w).ravel()))
    return min(most, (joined & -joined).bit_length() - 1)


def _clip_and_truncate(w: IntArray, low_bits: int) -> IntArray:
    """Clip and truncation of the synapse process; it truncates the magnitude of one-signed negative weights."""
    negative = bool((w <= 0).all())
    magnitude = -w if negative else w
    magnitude = np.clip(magnitude, -256 if (w < 0).any() and not negative else 0, 255)
    kept = (magnitude >> low_bits) << low_bits if low_bits >= 0 else np.zeros_like(w)
    return -kept if negative else kept


def _difference(given: IntArray, effective: IntArray) -> str:
    wrong = given != effective
    if not wrong.any():
        return ""
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    first = f"first {list(at)}: {given[at]} becomes {effective[at]}"
    return f"NetX changes {int(wrong.sum())} of {given.size} weights, {first}"


@attrs.frozen(kw_only=True)
class StoredWeights:
    """One stored matrix or kernel: `weight * 2^exponent`, sign mode and whether only its non-zeros exist."""

    suffix: str
    weight: Any
    exponent: int
    sign: str
    sparse: bool


def store(weight: IntArray, *, sparse_only: bool = False) -> list[StoredWeights] | None:
    """Write integer weights as at most 8-bit matrices with an exponent each; None where that cannot be done.

    One matrix if it fits 8 bits signed, 0..255 or -255..0, if need be with a common exponent; 9-bit weights with odd
    entries become an excitatory and an inhibitory part (and one for -256), stored without zeros, so that each
    synapse is still stored once. The parts sum to `weight`.
    """
    if not weight.any():
        return [_stored("", weight, 0, "mixed", sparse_only)]
    e = _common_twos(weight, MAX_EXPONENT)
    for exponent in sorted({0, e}):
        sign = _fits(weight >> exponent)
        if sign:
            return [_stored("", weight >> exponent, exponent, sign, sparse_only)]
    units = weight >> e
    lowest = units == -256
    parts = [
        ("plus", np.maximum(units, 0), 0, "excitatory"),
        ("minus", np.where(lowest, 0, np.minimum(units, 0)), 0, "inhibitory"),
        ("lowest", np.where(lowest, -128, 0), 1, "mixed"),
    ]
    if int(units.max()) > 255 or int(units.min()) < -256 or e + 1 > MAX_EXPONENT:
        return None
    return [_stored(name, part, e + more, sign, True) for name, part, more, sign in parts if part.any()]


def _fits(w: IntArray) -> str:
    lo, hi = int(w.min()), int(w.max())
    if lo >= -128 and hi <= 127:
        return "mixed"
    if lo >= 0 and hi <= 255:
        return "excitatory"
    return "inhibitory" if hi <= 0 and lo >= -255 else ""


def _stored(suffix: str, weight: IntArray, exponent: int, sign: str, sparse_only: bool) -> StoredWeights:
    matrix: Any = sparse.csr_matrix(weight) if sparse_only and weight.ndim == 2 else weight
    return StoredWeights(suffix=suffix, weight=matrix, exponent=exponent, sign=sign, sparse=sparse_only)
