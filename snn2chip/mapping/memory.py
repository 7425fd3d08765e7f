"""Memory of synapse lists: what the synapses of one source neuron take on one core.

A list of n synapses in runs of consecutive targets is written as entries of at most `synapses_per_entry`:

    bits  = entries * (header + start) + n * (weight + delay + extra + index)
    words = ceil(bits / word_bits), one more if fewer than spare_bits stay free

dense        index = 0; a run that ends, ends its entry; start = max(start_bits_min, ceil log2 outputs)
run-length   index = the bits of the widest skip; a gap that no skip holds starts a new entry
sparse       index = ceil log2 of the widest entry, within its limits; entries do not end with a run

With rounding "entry" every entry is rounded up to words by itself. The formulas are those of open compilers of Loihi 1.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from snn2chip.ir.types import IntArray
from snn2chip.mapping.target import Encoding, Target

SEPARATE = ("kernel",)
"""Encodings that are no lists."""


def log2_up(n: int) -> int:
    """ceil(log2 n): bits that tell n things apart."""
    return max(n - 1, 0).bit_length()


def stored_bits(bits: int | str, sign: str, target: Target) -> int:
    """Bits in which `target` stores a weight declared as `bits` wide: -1 and +1 take 2 bits, 0 and 1 take 1."""
    needed = 2 if bits == "ternary" or (bits == 1 and sign == "mixed") else int(bits)
    return min((n for n in target.weights.widths.value if n >= needed), default=needed)


def list_encodings(target: Target, *, zeros: bool, only: str | None = None) -> dict[str, Encoding]:
    """Encodings of lists that a synapse may use; one whose absent synapses are not stored cannot be dense."""
    return {
        name: e
        for name, e in target.encodings.items()
        if name not in SEPARATE and (zeros or not e.zeros.value) and (only is None or name == only)
    }


def list_words(
    encoding: Encoding, *, runs: Any, length: Any, gap: int, outputs: int, weight_bits: int, delay_bits: int = 0
) -> IntArray:
    """Words of lists of `runs` runs of `length` consecutive targets, up to `gap` targets left out between two runs.

    `runs` and `length` are numbers or arrays of one shape; `outputs`: neurons on the core.
    """
    runs, length = np.asarray(runs, np.int64), np.asarray(length, np.int64)
    each = weight_bits + delay_bits + encoding.weight_bits_extra.value
    start = _start(encoding, outputs)
    if encoding.zeros.value or encoding.index_bits_max.value == 0:
        return _words(encoding, entries_of=runs, in_each=length, each=each, header=start)
    if start:
        longest = int(2**encoding.index_bits_max.value) - 1
        broken = _words(
            encoding, entries_of=runs, in_each=length, each=each + encoding.index_bits_min.value, header=start
        )
        if gap > longest:
            return broken
        skip = max(encoding.index_bits_min.value, gap.bit_length())
        joined = _words(encoding, entries_of=np.ones_like(runs), in_each=runs * length, each=each + skip, header=start)
        return np.minimum(broken, joined)
    index = _index(encoding, outputs, whole=bool((runs <= 1).all()))
    return _words(encoding, entries_of=np.ones_like(runs), in_each=runs * length, each=each + index, header=start)


def scattered_words(
    encoding: Encoding,
    counts: IntArray,
    breaks: IntArray,
    *,
    skip: int,
    outputs: int,
    weight_bits: int,
    delay_bits: int,
) -> IntArray:
    """Words of lists of `counts` scattered synapses; `breaks`: gaps no skip holds, `skip`: the widest other gap."""
    each = weight_bits + delay_bits + encoding.weight_bits_extra.value
    start = _start(encoding, outputs)
    if start:
        each += max(encoding.index_bits_min.value, skip.bit_length())
        per_entry = encoding.synapses_per_entry.value
        entries = breaks + (1 if math.isinf(per_entry) else -(-counts // int(per_entry)))
        bits = entries * (encoding.header_bits.value + start) + counts * each
        return _rounded(encoding, bits)
    each += _index(encoding, outputs, whole=False)
    return _words(encoding, entries_of=np.ones_like(counts), in_each=counts, each=each, header=0)


def bytes_of(encoding: Encoding, words: Any) -> Any:
    """Bytes of `words` words with the overhead of the encoding, rounded up."""
    return np.ceil(np.asarray(words) * (encoding.word_bits.value / 8 * (1 + encoding.overhead.value)) - 1e-9).astype(
        np.int64
    )


def longest_skip(encoding: Encoding) -> int:
    """Targets that one skip of a run-length list can leave out."""
    return int(2 ** min(encoding.index_bits_max.value, 32)) - 1


def _start(encoding: Encoding, outputs: int) -> int:
    least = encoding.start_bits_min.value
    return max(least, log2_up(outputs)) if least else 0


def _index(encoding: Encoding, outputs: int, *, whole: bool) -> int:
    """Bits of an index; in an unbroken list an entry is only as wide as its synapses are many."""
    extent = int(min(outputs, encoding.synapses_per_entry.value)) if whole else outputs
    return int(min(max(encoding.index_bits_min.value, log2_up(extent)), encoding.index_bits_max.value))


def _words(encoding: Encoding, *, entries_of: IntArray, in_each: IntArray, each: int, header: int) -> IntArray:
    """Words of `entries_of` runs of `in_each` synapses, every run cut into entries."""
    per_entry = encoding.synapses_per_entry.value
    head = encoding.header_bits.value + header
    if math.isinf(per_entry):
        return _rounded(encoding, entries_of * (head + in_each * each))
    full, rest = np.divmod(in_each, int(per_entry))
    if encoding.rounding.value == "entry":
        one = _rounded(encoding, np.asarray(head + int(per_entry) * each))
        last = np.where(rest > 0, _rounded(encoding, head + rest * each), 0)
        return entries_of * (full * one + last)
    return _rounded(encoding, entries_of * ((full + (rest > 0)) * head + in_each * each))


def _rounded(encoding: Encoding, bits: Any) -> IntArray:
    width = int(encoding.word_bits.value)
    words = -(-np.asarray(bits, np.int64) // width)
    free = words * width - bits
    out: IntArray = words + (free < encoding.spare_bits.value)
    return np.where(np.asarray(bits) > 0, out, 0)
