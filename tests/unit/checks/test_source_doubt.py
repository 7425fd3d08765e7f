"""Whether a checkpoint is the one that a program was compiled from."""

from __future__ import annotations

import hashlib
from pathlib import Path

from snn2chip import Input, Output, Program, Soma, Synapse
from snn2chip.checks.float_side import source_doubt


def program(meta: dict[str, str]) -> Program:
    return Program(
        nodes=[
            Input("x", (2,), 0, 1),
            Synapse("w", "linear", [[1, 1]]),
            Soma("s", (1,), theta=1),
            Output("o", "count"),
        ],
        edges=[("x", "w"), ("w", "s"), ("s", "o")],
        steps=1,
        meta=meta,
    )


def test_only_other_bytes_are_doubted(tmp_path: Path) -> None:
    own, other = tmp_path / "net.safetensors", tmp_path / "twin.safetensors"
    own.write_bytes(b"weights" * 500_000)
    other.write_bytes(b"weights" * 499_999 + b"weightz")
    known = program({"checkpoint": own.name, "checkpoint_sha256": hashlib.sha256(own.read_bytes()).hexdigest()})
    assert source_doubt(known, own) == ""
    copy = tmp_path / "renamed.safetensors"
    copy.write_bytes(own.read_bytes())
    assert source_doubt(known, copy) == ""
    doubt = source_doubt(known, other)
    assert "twin.safetensors is not the file this program was compiled from" in doubt
    assert "net.safetensors" in doubt
    assert "on trust" in source_doubt(program({"checkpoint": own.name}), own)
