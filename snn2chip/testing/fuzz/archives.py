"""Damage to zip archives: PyTorch's files and NumPy's `.npz`, with pickles that would run code and compressed bombs."""

from __future__ import annotations

import io
import pickle
import pickletools
import random
import re
import zipfile
from functools import lru_cache
from typing import Any

from snn2chip.testing.fuzz.damage import CANARY, NUMBERS, bytes_damage
from snn2chip.testing.fuzz.values import PATHS

BOMB = 1 << 26
DTYPES = ("|O", "<f8", "<f4", "|b1", "<U100000", "|V9", "<c16", "<M8[us]", ">i2", "<i8", "|S3", "x", "<f99999", "|u1")
SHAPES = ("()", "(0,)", "(1000000, 1000000)", "(-1,)", "(3, )", "[3]", "None", "(1,)*40", "(99999999999999999999,)")
GLOBALS = (b"os\nsystem\n", b"builtins\nexec\n", b"builtins\nopen\n", b"posix\nmkdir\n", b"torch\nload\n")


class Runs:
    """An object whose pickle calls a function when it is loaded."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def code(rng: random.Random) -> bytes:
    """A pickle that would leave the canary behind."""
    import os

    runs = rng.choice(
        (
            Runs(open, CANARY, "w"),
            Runs(os.mkdir, CANARY),
            Runs(exec, f"open({CANARY!r}, 'w')"),
            Runs(os.system, f"touch {CANARY}"),
        )
    )
    value = rng.choice((runs, {"w": runs}, {"state_dict": {"w": runs}}, [runs]))
    return pickle.dumps(value, protocol=rng.choice((0, 2, 4)))


@lru_cache(maxsize=1)
def _zeros() -> bytes:
    return bytes(BOMB)


def zip_damage(data: bytes, rng: random.Random) -> bytes:
    """Members changed, renamed, dropped, doubled or exchanged for bombs, in an archive that is itself sound."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    index, way = rng.randrange(len(members)), rng.randrange(8)
    name, content = members[index]
    kind = zipfile.ZIP_DEFLATED if rng.random() < 0.3 else zipfile.ZIP_STORED
    if way == 0:
        members.pop(index)
    elif way == 1:
        members[index] = (rng.choice(PATHS) + rng.choice(("", ".npy")), content)
    elif way == 2:
        members.append((name, bytes_damage(content, rng)))
    elif way == 3 and rng.random() < 0.1:
        members[index], kind = (name, content[:128] + _zeros()), zipfile.ZIP_DEFLATED
    elif way == 4:
        members[index] = (name, rng.choice(members)[1])
    else:
        members[index] = (name, _member(name, content, rng))
    return _packed(members, kind)


def _packed(members: list[tuple[str, bytes]], kind: int) -> bytes:
    import warnings

    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", kind, compresslevel=1) as archive:
        warnings.simplefilter("ignore")  # the same name twice is meant
        for name, content in members:
            archive.writestr(name or "x", content)
    return stream.getvalue()


def _member(name: str, content: bytes, rng: random.Random) -> bytes:
    if name.endswith(".pkl"):
        return rng.choice((pickle_damage, lambda c, r: code(r), bytes_damage))(content, rng)
    if name.endswith(".npy"):
        return rng.choice((npy_damage, npy_damage, objects, bytes_damage))(content, rng)
    return bytes_damage(content, rng)


def pickle_damage(content: bytes, rng: random.Random) -> bytes:
    """Numbers and names inside a pickle exchanged, the opcodes around them sound."""
    found = _opcodes(content)
    numbers = [(at, 2 if name == "BININT1" else 5) for name, _, at in found if name in ("BININT1", "BININT")]
    names = [(at, str(argument)) for name, argument, at in found if name == "GLOBAL"]
    if names and rng.random() < 0.4:
        at, text = rng.choice(names)
        end = at + 1 + len(text.replace(" ", "\n")) + 1
        return content[: at + 1] + rng.choice(GLOBALS) + content[end:]
    if not numbers:
        return bytes_damage(content, rng)
    at, size = rng.choice(numbers)
    big = rng.choice(NUMBERS).to_bytes(9, "little", signed=True)
    return content[:at] + b"\x8a\x09" + big + content[at + size :]


def _opcodes(content: bytes) -> list[tuple[str, Any, int]]:
    """Name, argument and place of every opcode of the pickles that a file begins with."""
    found: list[tuple[str, Any, int]] = []
    start = 0
    try:
        while start < len(content):
            ops = [(op.name, argument, start + (at or 0)) for op, argument, at in pickletools.genops(content[start:])]
            found += ops
            start = ops[-1][2] + 1
    except ValueError:  # what follows is no pickle
        pass
    return found


def npy_damage(content: bytes, rng: random.Random) -> bytes:
    """The header of an array: other types, other shapes, 10^12 numbers among them."""
    size = int.from_bytes(content[8:10], "little")
    header, body = content[10 : 10 + size].decode("latin1"), content[10 + size :]
    if rng.random() < 0.5:
        header = re.sub(r"'descr': '[^']*'", f"'descr': {rng.choice(DTYPES)!r}", header)
    else:
        header = re.sub(r"'shape': \([^)]*\)", f"'shape': {rng.choice(SHAPES)}", header)
    if rng.random() < 0.2:
        header = header.replace("False", "True")
    if rng.random() < 0.1:
        body = b"\xff" * len(body)
    if rng.random() < 0.05:
        header = "{" * 2000
    text = header.encode("latin1")
    return content[:6] + b"\x01\x00" + (len(text) & 0xFFFF).to_bytes(2, "little") + text + body


def objects(content: bytes, rng: random.Random) -> bytes:
    """An array of objects, which is a pickle."""
    header = f"{{'descr': '|O', 'fortran_order': False, 'shape': ({rng.choice((1, 3))},), }}".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + code(rng)


def code_instead(data: bytes, rng: random.Random) -> bytes:
    """A bare pickle that would run code in the file's place, as PyTorch's old files are."""
    return code(rng)
