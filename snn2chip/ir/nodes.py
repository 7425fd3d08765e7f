"""The nodes of an integer program besides the soma: Input, Host, Synapse, Product, Output.

Payload sources (Input, Host, Soma) feed synapses, products and outputs; synapses and products are
current sources and feed somas; a synapse never feeds a synapse.
"""

from __future__ import annotations

import reprlib
from typing import Any, NamedTuple

import attrs
import numpy as np
from scipy import sparse

from snn2chip.errors import ParameterError
from snn2chip.ir.mapped import unchanged
from snn2chip.ir.soma import Soma, _shape
from snn2chip.ir.types import IntArray, PayloadType, WeightType, as_int, whole

CODINGS = ("repeat", "rate-floor", "rate-round", "steps")
KINDS = ("linear", "conv2d", "sumpool", "identity")
READS = ("potential", "count", "payload")
HOST_OPS = ("conv2d", "linear", "bias", "relu", "maxpool", "sumpool", "rescale", "sumframes")


def _pair(value: Any) -> tuple[int, int]:
    items = tuple(whole(v) for v in value) if np.iterable(value) else (whole(value),) * 2
    if len(items) != 2:
        raise ParameterError(f"expected one number or two, got {value!r}")
    return items[0], items[1]


def _bits(value: Any) -> Any:
    return value if value is None or isinstance(value, str) else whole(value)


def _real(value: Any) -> float:
    if isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim):
        raise ParameterError(f"expected one number, got {reprlib.repr(value)}")
    return float(value)


def _flag(value: Any) -> Any:
    return bool(value) if isinstance(value, np.bool_) else value


def _opt_pair(value: Any) -> tuple[int, int] | None:
    return None if value is None else _pair(value)


@attrs.frozen(eq=False)
class Input:
    """Integers fed at each step: `payload = round(x/scale) - offset` for floats, `x - offset` for integers.

    coding: `repeat` (one frame, the same payload at every step), `rate-floor` / `rate-round`
    (k = floor or round of x*T/scale spikes spread evenly: s(t) = floor(k(t+1)/T) - floor(k t/T)),
    `steps` (a frame per step). `scale`: the raw value of one payload unit; `offset` scalar or `[C]`.
    `sample_shape`: how a raw sample comes, where that is not `shape`; it holds as many numbers in the same order.
    """

    name: str
    shape: tuple[int, ...] = attrs.field(converter=_shape)
    lo: int = attrs.field(default=0, converter=whole)
    hi: int = attrs.field(default=1, converter=whole)
    coding: str = attrs.field(default="repeat", kw_only=True)
    scale: float = attrs.field(default=1.0, converter=_real, kw_only=True)
    offset: IntArray = attrs.field(default=np.int64(0), converter=as_int, kw_only=True)
    sample_shape: tuple[int, ...] | None = attrs.field(
        default=None, converter=attrs.converters.optional(_shape), kw_only=True
    )
    layer: str = attrs.field(default="", kw_only=True)

    @property
    def raw_shape(self) -> tuple[int, ...]:
        """Shape of one raw sample."""
        return self.sample_shape if self.sample_shape is not None else self.shape

    def payload_type(self) -> PayloadType:
        """The declared range `[lo, hi]`."""
        return PayloadType(self.lo, self.hi)


@attrs.frozen(kw_only=True, eq=False)
class HostOp:
    """One exact integer operation of a host stem; `kind` is one of `HOST_OPS`.

    conv2d / linear: `weight`; bias: `[C]`; maxpool, sumpool: `kernel_size`, `stride`, `padding`;
    rescale: `clip(rshift(x * gain, shift), lo, hi)` with scalar or `[C]` gain; sumframes: the first axis summed.
    """

    kind: str
    weight: IntArray | None = attrs.field(default=None, converter=attrs.converters.optional(as_int))
    gain: IntArray = attrs.field(default=np.int64(1), converter=as_int)
    shift: int = attrs.field(default=0, converter=whole)
    lo: int = attrs.field(default=-(1 << 23), converter=whole)
    hi: int = attrs.field(default=(1 << 23) - 1, converter=whole)
    kernel_size: tuple[int, int] = attrs.field(default=(1, 1), converter=_pair)
    stride: tuple[int, int] = attrs.field(default=(1, 1), converter=_pair)
    padding: tuple[int, int] = attrs.field(default=(0, 0), converter=_pair)
    groups: int = attrs.field(default=1, converter=whole)


def _ops(items: Any) -> tuple[HostOp, ...]:
    return tuple(items)


@attrs.frozen(eq=False)
class Host:
    """Declared work done outside the chip before the input, with exact integer results, counted apart.

    The raw sample `[*sample_shape]` becomes integers (`round(x/scale) - offset`), runs through `ops` in
    exact integer arithmetic and is coded over the steps like an `Input`.
    """

    name: str
    shape: tuple[int, ...] = attrs.field(converter=_shape)
    lo: int = attrs.field(default=0, converter=whole)
    hi: int = attrs.field(default=1, converter=whole)
    sample_shape: tuple[int, ...] | None = attrs.field(
        default=None, converter=attrs.converters.optional(_shape), kw_only=True
    )
    ops: tuple[HostOp, ...] = attrs.field(default=(), converter=_ops, kw_only=True)
    coding: str = attrs.field(default="repeat", kw_only=True)
    scale: float = attrs.field(default=1.0, converter=_real, kw_only=True)
    offset: IntArray = attrs.field(default=np.int64(0), converter=as_int, kw_only=True)
    layer: str = attrs.field(default="", kw_only=True)

    @property
    def raw_shape(self) -> tuple[int, ...]:
        """Shape of one raw sample."""
        return self.sample_shape if self.sample_shape is not None else self.shape

    @property
    def frames(self) -> int | None:
        """How many event frames a raw sample holds on its first axis, None for an ordinary sample."""
        return self.raw_shape[0] if self.ops and self.ops[0].kind == "sumframes" else None

    def payload_type(self) -> PayloadType:
        """The declared range `[lo, hi]`."""
        return PayloadType(self.lo, self.hi)


def _weight(value: Any) -> Any:
    if value is None:
        return None
    if sparse.issparse(value):
        stored = sparse.csr_matrix(value)
        stored.sum_duplicates()
        stored.eliminate_zeros()
        stored.sort_indices()
        return sparse.csr_matrix((_weight(stored.data), stored.indices, stored.indptr), shape=stored.shape)
    try:
        return as_int(value)
    except TypeError as error:
        raise ParameterError(f"the weight of a synapse: {error}; quantize it first") from error


SMALL = 4096
"""Weights up to which an array is kept in 64 bits; larger ones take a byte each where they fit."""


class Unchanging(NamedTuple):
    """Numbers that nobody else changes (a mapped file): a synapse keeps them where they are if it stores them so."""

    array: Any


def _packed(value: Any) -> Any:
    """Weights as they are stored: csr, or dense in 8 bits if there are many and they fit, else in 64."""
    value = unchanged(value)  # those of another synapse may be mapped
    if isinstance(value, Unchanging):
        value = value.array
        if value.dtype == np.int8 and value.size > SMALL and value.flags.c_contiguous:
            kept = value.view()
            kept.setflags(write=False)
            return kept
    many = isinstance(value, np.ndarray) and value.dtype.kind == "i" and value.size > SMALL
    if not many or int(value.min()) < -128 or int(value.max()) > 127:
        return _weight(value)
    stored = np.array(value, dtype=np.int8)
    stored.setflags(write=False)
    return stored


@attrs.frozen(eq=False)
class Synapse:
    """A linear map with integer weights: current `a = (W p) * 2^exponent`.

    kind: `linear` (`weight [M, N]`, the payload is flattened; may be a scipy sparse matrix), `conv2d`
    (`weight [Cout, Cin/groups, kh, kw]`, cross-correlation as in PyTorch, zero padding), `sumpool`
    (`kernel_size`, `stride` defaults to it), `identity`; the last two take a scalar or `[C]` weight
    (default 1). `shape`: in which a linear map gives its M currents, last axis fastest (default `(M,)`).
    `bits`: 1, "ternary" or 2..8 (smallest that fits when left out); `sign`: `mixed`,
    `excitatory` (0..2^b-1) or `inhibitory`. `sparse` weights are stored, run and counted without zeros.
    """

    name: str
    kind: str = attrs.field(default="linear")
    _weight: Any = attrs.field(default=None, converter=_packed)
    bits: int | str = attrs.field(default=None, converter=_bits)
    exponent: int = attrs.field(default=0, kw_only=True, converter=whole)
    stride: tuple[int, int] = attrs.field(default=None, kw_only=True, converter=_opt_pair)
    padding: tuple[int, int] = attrs.field(default=(0, 0), kw_only=True, converter=_pair)
    dilation: tuple[int, int] = attrs.field(default=(1, 1), kw_only=True, converter=_pair)
    groups: int = attrs.field(default=1, kw_only=True, converter=whole)
    kernel_size: tuple[int, int] = attrs.field(default=None, kw_only=True, converter=_opt_pair)
    sign: str = attrs.field(default="mixed", kw_only=True)
    sparse: bool = attrs.field(default=None, kw_only=True, converter=_flag)
    shape: tuple[int, ...] | None = attrs.field(default=None, converter=attrs.converters.optional(_shape), kw_only=True)
    layer: str = attrs.field(default="", kw_only=True)

    def __attrs_post_init__(self) -> None:
        put = object.__setattr__
        if self.sparse is None:
            put(self, "sparse", sparse.issparse(self.stored))
        elif self.sparse and self.kind == "linear" and isinstance(self.stored, np.ndarray):
            put(self, "_weight", _weight(sparse.csr_matrix(self.weight)))
        if self.stored is None and self.kind in ("sumpool", "identity"):
            put(self, "_weight", as_int(1))
        if self.kernel_size is None:
            if self.kind == "conv2d" and self.stored is not None and self.stored.ndim == 4:
                put(self, "kernel_size", (int(self.stored.shape[2]), int(self.stored.shape[3])))
            else:
                put(self, "kernel_size", self.stride or (1, 1))
        if self.stride is None:
            put(self, "stride", self.kernel_size if self.kind == "sumpool" else (1, 1))
        if self.bits is None and self.stored is not None:
            put(self, "bits", self._smallest_bits())

    @property
    def weight(self) -> Any:
        """The weights as a read-only int64 array (a new one where they are stored in fewer bits) or a csr matrix."""
        stored = self.stored
        if not isinstance(stored, np.ndarray) or stored.dtype == np.int64:
            return stored
        whole = stored.astype(np.int64)
        whole.setflags(write=False)
        return whole

    @property
    def stored(self) -> Any:
        """The weights as they are kept, nothing widened: enough for shapes, sizes and zeros, not for arithmetic.

        Raises InputError where they are mapped from a file that was changed in place since.
        """
        return unchanged(self._weight)

    def _smallest_bits(self) -> int | str:
        values = self.narrow_values()
        for bits in (1, "ternary", 2, 3, 4, 5, 6, 7, 8):
            if not WeightType(bits, self.sign).breaches(values, stored_only=bool(self.sparse)):
                return bits
        return 8

    @property
    def weight_type(self) -> WeightType:
        """The declared width and sign mode."""
        return WeightType(self.bits, self.sign)

    def values(self) -> IntArray:
        """The stored weights as one flat array (sparse: without the zeros)."""
        return np.asarray(self.narrow_values(), dtype=np.int64)

    def narrow_values(self) -> Any:
        """The same in the type they are stored in: for comparing and counting, not for arithmetic."""
        if sparse.issparse(self.stored):
            return np.asarray(self.stored.data)
        flat = self.stored.ravel()
        return flat[flat != 0] if self.sparse else flat

    def dense(self) -> IntArray:
        """The weights as a dense array."""
        weight = self.weight
        out: IntArray = weight.toarray() if sparse.issparse(weight) else weight
        return out


@attrs.frozen(eq=False)
class Product:
    """Elementwise product of two payloads: current `rshift(p * q, shift)`; one may be per channel.

    The first edge into the node carries p, the second q; a `[C]` or `[C, 1, ..]` payload is broadcast
    over space.
    """

    name: str
    shift: int = attrs.field(default=0, kw_only=True, converter=whole)
    layer: str = attrs.field(default="", kw_only=True)


@attrs.frozen(eq=False)
class Output:
    """What a user reads of one soma at the end of the sample, as int64.

    read: `potential` (of a non-firing soma, after the last step), `count` (number of steps with a
    payload other than 0), `payload` (sum of the payloads over the steps).
    """

    name: str
    read: str = attrs.field(default="potential")
    layer: str = attrs.field(default="", kw_only=True)


Node = Input | Host | Synapse | Soma | Product | Output
PAYLOAD_SOURCES = (Input, Host, Soma)
CURRENT_SOURCES = (Synapse, Product)


def describe(node: Node) -> str:
    """Name of a node with the user's own layer path behind it, for messages."""
    return f"{node.name} ({node.layer})" if node.layer and node.layer != node.name else node.name
