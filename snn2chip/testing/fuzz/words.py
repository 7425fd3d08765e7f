"""Damage to words (environment variables, options), to JSON files and to the sizes that a picture declares."""

from __future__ import annotations

import json
import random
import struct
import zlib

from snn2chip.testing.fuzz.damage import bytes_damage
from snn2chip.testing.fuzz.values import TEXTS, changed, json_text

WORDS = ("no_such_module:f", "os.path:no", "a..b:c", ".:x", "..x:y", ":x", "x:", "os:path:join", "-4", "nan,nan",
         "1,2,3", "inf", "-1e999", "0:", "5:3", "1e3:9", "９:１２", "/dev/zero", "/dev/null", "/proc/self/mem",
         "/", ".", "~nobody", "/root/secret.npz", "\udcff\udcfe")  # fmt: skip


def word_damage(data: bytes, rng: random.Random) -> bytes:
    """Another word, two words joined, or the same with some letters changed."""
    word = rng.choice((*WORDS, *TEXTS)).encode("utf-8", "surrogateescape")
    return rng.choice((word, word + data, data + word, bytes_damage(word or b"x", rng)))


def json_damage(data: bytes, rng: random.Random) -> bytes:
    """A JSON text with some of its values exchanged."""
    return json_text(changed(json.loads(data), rng), rng).encode()


def png_damage(data: bytes, rng: random.Random) -> bytes:
    """A picture whose header declares other sizes and kinds, its checksum right."""
    at = data.index(b"IHDR")
    sizes = [rng.choice((0, 1, 8, 1 << 14, 1 << 16, (1 << 31) - 1)) for _ in range(2)]
    head = b"IHDR" + struct.pack(">IIBBBBB", *sizes, rng.choice((1, 8, 16)), rng.choice((0, 2, 3, 6)), 0, 0, 0)
    return data[:at] + head + struct.pack(">I", zlib.crc32(head)) + data[at + len(head) + 4 :]
