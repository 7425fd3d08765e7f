"""Damage to safetensors files (programs, checkpoints): header, the JSON inside it, names, types and shapes."""

from __future__ import annotations

import json
import random
from typing import Any

from snn2chip.testing.fuzz.values import changed, json_text, odd_value

META = "__metadata__"
TYPES = ("F32", "F64", "F16", "BF16", "I8", "U8", "I64", "U64", "BOOL", "F8_E4M3", "X9", "")


def parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the numbers of a sound file."""
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def joined(header: Any, body: bytes, rng: random.Random) -> bytes:
    """A file of a header and numbers."""
    text = json_text(header, rng).encode()
    return len(text).to_bytes(8, "little") + text + body


def header_damage(data: bytes, rng: random.Random) -> bytes:
    """Names, types, shapes and offsets of the tensors."""
    header, body = parts(data)
    names = [name for name in header if name != META]
    name = rng.choice(names)
    way = rng.randrange(6)
    if way == 0:
        header[name]["dtype"] = rng.choice(TYPES)
    elif way == 1:
        header[name]["shape"] = [rng.choice((0, 1, -1, 10**6, 10**12, 1 << 63)) for _ in range(rng.randrange(5))]
    elif way == 2:
        header[name]["data_offsets"] = [rng.choice((0, 1, -1, len(body), 10**12, 1 << 63)) for _ in range(2)]
    elif way == 3:
        header[str(odd_value(rng))[:300]] = header.pop(name)
    elif way == 4 and len(names) > 1:
        other = rng.choice(names)
        header[name], header[other] = header[other], header[name]
    else:
        header = changed(header, rng)
    return joined(header, body, rng)


def metadata_damage(data: bytes, rng: random.Random) -> bytes:
    """The JSON text that our header is."""
    header, body = parts(data)
    inner = json.loads(header[META]["snn2chip"])
    header[META]["snn2chip"] = json_text(changed(inner, rng), rng)
    return joined(header, body, rng)


def numbers_damage(data: bytes, rng: random.Random) -> bytes:
    """Numbers turned into others, NaN and infinity among them; the header stays sound."""
    header, body = parts(data)
    raw = bytearray(body)
    for _ in range(rng.choice((1, 4, 64))):
        at = rng.randrange(len(raw)) & ~3
        piece = rng.choice((b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f", b"\xff\xff\xff\xff", b"\x00\x00\x00\x80"))
        raw[at : at + 4] = piece[: len(raw) - at]
    return joined(header, bytes(raw), rng)


def resealed(damage: Any) -> Any:
    """The same damage to a `.s2c` file with the checksum made right again, so that what lies behind it is reached."""

    def sealing(data: bytes, rng: random.Random) -> bytes:
        from safetensors.numpy import load, save

        from snn2chip.ir.files import sealed

        made: bytes = damage(data, rng)
        try:
            header, _ = parts(made)
            arrays = load(made)
            text = sealed(json.loads(header[META]["snn2chip"]), arrays)
            return bytes(save(arrays, {"snn2chip": text}))
        except Exception:  # not sound enough to be sealed
            return made

    return sealing
