"""Damage that knows nothing of the format: bytes cut off, flipped, inserted, doubled, moved, made extreme."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence

Damage = Callable[[bytes, random.Random], bytes]
"""Makes a hostile input of a sound one."""
EXTREME = (0, 1, 0x7F, 0x80, 0xFF)
NUMBERS = (0, 1, -1, 1 << 15, 1 << 31, (1 << 32) - 1, 10**12, 1 << 62, (1 << 63) - 1, -(1 << 63))
FLOATS = (float("nan"), float("inf"), float("-inf"), 1e308, -0.0, 5e-324)
CANARY = "executed"
"""A file of this name in the working folder means that something in an input was executed."""


def bytes_damage(data: bytes, rng: random.Random) -> bytes:
    """Return `data` with bytes changed, cut off, inserted, removed, doubled or moved."""
    raw = bytearray(data or b"\0")
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        rng.choice(_WAYS)(raw, rng)
        if not raw:
            break
    return bytes(raw)


def any_of(ways: Sequence[tuple[int, Damage]]) -> Damage:
    """One damage, drawn by weight."""
    weights, made = [w for w, _ in ways], [d for _, d in ways]

    def damage(data: bytes, rng: random.Random) -> bytes:
        return rng.choices(made, weights)[0](data, rng)

    return damage


def _change(raw: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 2, 4, 16, 64))):
        raw[rng.randrange(len(raw))] = rng.choice((*EXTREME, rng.randrange(256)))


def _flip(raw: bytearray, rng: random.Random) -> None:
    raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)


def _cut(raw: bytearray, rng: random.Random) -> None:
    del raw[rng.choice((rng.randrange(len(raw)), len(raw) - 1, min(len(raw), 8), 0)) :]


def _insert(raw: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(raw) + 1)
    raw[at:at] = bytes(rng.choice(EXTREME) for _ in range(rng.choice((1, 2, 8, 100))))


def _remove(raw: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(raw))
    del raw[at : at + rng.choice((1, 2, 8, 100))]


def _piece(raw: bytearray, rng: random.Random) -> None:
    a, b = sorted(rng.randrange(len(raw)) for _ in range(2))
    piece = raw[a : min(b, a + 512)]
    at = rng.randrange(len(raw))
    raw[at : at + (len(piece) if rng.random() < 0.6 else 0)] = piece


def _number(raw: bytearray, rng: random.Random) -> None:
    kind, value = rng.choice((("<q", rng.choice(NUMBERS)), ("<d", rng.choice(FLOATS)), ("<f", rng.choice(FLOATS[:3]))))
    at = rng.randrange(len(raw)) & ~3
    piece = struct.pack(kind, value)
    raw[at : at + len(piece)] = piece


_WAYS = (_change, _change, _flip, _cut, _insert, _remove, _piece, _number)
