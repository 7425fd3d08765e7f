"""Rounding of weights that the soma's current feels least: later weights make up for the errors of earlier ones.

    error of a channel   e = (w - delta q) H (w - delta q)^T       H: second moments of what the layer reads, [K, K]
    column by column     q_j = round(w_j / delta),   w_k -= (w_j - delta q_j) U_jk / U_jj   for k > j,   H^-1 = U^T U
    unit                 of a few shares of the plain one the best; then delta = (w H q^T) / (q H q^T), least squares

A spike is lost where the current is wrong, not where a weight is; weights of inputs that fire together may share an
error that cancels. After E. Frantar et al., GPTQ, ICLR 2023 (there with the plain unit).
"""

from __future__ import annotations

import numpy as np

from snn2chip.quantize.spec import FloatArray
from snn2chip.quantize.weights import IntValues, unit_of

DAMPING = 0.01
"""Share of the mean of H's diagonal that is added to it."""
COLUMNS_AT_ONCE = 64
FEW_BITS = 31
FEW_SHARES, SHARES = (0.7, 0.8, 0.9, 1.0, 1.15), (0.9, 1.0)
"""Units tried, relative to the one with the least error of single weights."""


def damped(moments: FloatArray) -> FloatArray:
    """Second moments `[K, K]` with something on the diagonal, so that they have an inverse."""
    size = float(np.trace(moments)) / len(moments)
    out: FloatArray = moments + np.eye(len(moments)) * (DAMPING * size if size > 0 else 1.0)
    return out


def round_with_feedback(target: FloatArray, moments: FloatArray, most: int) -> tuple[IntValues, FloatArray]:
    """Integers `[O, K]` within +-`most` and the unit `delta [O]` for weights `[O, K]` read with moments `[K, K]`."""
    plain = unit_of(target, most)
    plain = np.where(plain > 0, plain, float(plain.max()) or 1.0)  # a channel without weights: any unit does
    order = np.argsort(-np.diag(moments), kind="stable")
    back = np.argsort(order, kind="stable")
    h = damped(moments)[np.ix_(order, order)]
    upper = np.linalg.cholesky(np.linalg.inv(h)).T
    w = target[:, order]
    values = np.zeros(target.shape, dtype=np.int8)
    delta, least = plain.copy(), np.full(len(target), np.inf)
    for share in FEW_SHARES if most <= FEW_BITS else SHARES:
        tried = _columns(w, plain * share, upper, most)
        unit = _fitted(w, tried, h, plain * share)
        off = w - unit[:, None] * tried
        error = np.einsum("ij,ij->i", off @ h, off)
        better = error < least
        values[better], delta[better], least[better] = tried[better], unit[better], error[better]
    return values[:, back], delta


def _columns(target: FloatArray, delta: FloatArray, upper: FloatArray, most: int) -> IntValues:
    """Round column after column, each error passed on to the columns that follow; blocks keep the updates cheap."""
    w = target.copy()
    values = np.empty(w.shape, dtype=np.int8)
    for start in range(0, w.shape[1], COLUMNS_AT_ONCE):
        stop = min(start + COLUMNS_AT_ONCE, w.shape[1])
        errors = np.empty((len(w), stop - start))
        for j in range(start, stop):
            q = np.clip(np.floor(w[:, j] / delta + 0.5), -most, most)
            values[:, j] = q
            error = errors[:, j - start] = (w[:, j] - q * delta) / upper[j, j]
            w[:, j + 1 : stop] -= error[:, None] * upper[j, j + 1 : stop]
        w[:, stop:] -= errors @ upper[start:stop, stop:]
    return values


def _fitted(w: FloatArray, q: IntValues, h: FloatArray, delta: FloatArray) -> FloatArray:
    """The unit of least squares for given integers; as it was where they are all 0 or it would turn over."""
    qh = q @ h
    over = np.einsum("ij,ij->i", qh, q.astype(np.float64))
    found = np.einsum("ij,ij->i", qh, w) / np.where(over > 0, over, 1.0)
    out: FloatArray = np.where((over > 0) & (found > delta / 2), found, delta)
    return out
