"""Delta coding: what is sent are changes; the same as Lava's sigma-delta neurons, which keep a residue instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snn2chip.errors import FileFormatError, ProgramError
from snn2chip.ir import files
from snn2chip.ir.dynamics import soma_start, soma_step
from snn2chip.ir.nodes import Input, Output, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import V_MAX, IntArray, PayloadType

DELTA: dict[str, Any] = {"fire": "delta", "reset": "keep", "theta": 3}


def program(soma: Soma, steps: int = 4) -> Program:
    return Program(
        nodes=[Input("x", soma.shape, -100, 100), Synapse("w", "identity"), soma, Output("out", "payload")],
        edges=[("x", "w"), ("w", soma.name), (soma.name, "out")],
        steps=steps,
    )


def followed(soma: Soma, currents: IntArray) -> tuple[IntArray, IntArray]:
    state = soma_start(soma, currents.shape[1])
    rows = [(soma_step(soma, state, a, t), state.v) for t, a in enumerate(currents)]
    return np.stack([s for s, _ in rows]), np.stack([v for _, v in rows])


def residues(act: IntArray, theta: int, shift: int) -> IntArray:
    """Sends of Lava's fixed-point Delta: `d = act - act_before + residue`, what is not sent is the new residue."""
    before, residue, sent = np.zeros_like(act[0]), np.zeros_like(act[0]), []
    for now in act:
        d = now - before + residue
        s = np.where(np.abs(d) >= theta, d, 0)
        residue, before = d - s, now
        sent.append(s >> shift)
    return np.stack(sent)


@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize("theta", [1, 7, 40])
def test_sigma_delta_with_a_residue_is_the_same(theta: int, shift: int) -> None:
    a = np.random.default_rng(theta).integers(-30, 31, (40, 3, 5))
    soma = Soma("n", (5,), **{**DELTA, "theta": theta}, syn_leak=4096, leak=0, bias=6, v_min=0, delta_shift=shift)
    act = np.maximum(np.cumsum(a, axis=0) + 6, 0)
    sent, potentials = followed(soma, a)
    assert (potentials == act).all()
    want = residues(act, theta, shift)
    assert (sent == want).all()
    assert (want > 0).any()
    assert (want < 0).any()


def test_delta_of_the_input_itself() -> None:
    a = np.random.default_rng(1).integers(-20, 21, (30, 2, 4))
    sent, _ = followed(Soma("n", (4,), **{**DELTA, "theta": 9}, leak=0, gain=4), a)
    assert (sent == residues(4 * a, 9, 0)).all()


def test_unfloored_changes_add_up_to_what_was_last_sent() -> None:
    a = np.random.default_rng(2).integers(-20, 21, (50, 1, 6))
    sent, act = followed(Soma("n", (6,), **{**DELTA, "theta": 25}, syn_leak=4096, leak=0), a)
    assert (np.abs(np.cumsum(sent, axis=0) - act) < 25).all()
    assert (sent == 0).mean() > 0.2


def test_each_sample_starts_with_nothing_sent() -> None:
    soma = Soma("n", (1,), **DELTA, leak=0)
    first, _ = followed(soma, np.full((3, 1, 1), 5))
    assert first.ravel().tolist() == [5, 0, 0]
    again, _ = followed(soma, np.full((3, 1, 1), 5))
    assert (first == again).all()


def test_thresholds_per_step_and_payload_scaling() -> None:
    soma = Soma("n", (1,), fire="delta", reset="keep", theta=np.array([[4], [4], [9]]), leak=0, out_gain=3, out_shift=1)
    sent, _ = followed(soma, np.array([5, 1, -3]).reshape(3, 1, 1))
    assert sent.ravel().tolist() == [8, -6, 0]  # d = 5, -4, -4: 15/2 and -12/2, halves up


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"reset": "subtract"}, "fire='delta' goes with reset keep, got 'subtract'"),
        ({"theta": None}, "fire='delta' needs theta"),
        ({"theta": 0}, f"theta must be 1..{V_MAX} with fire='delta', got 0..0"),
        ({"theta": [1, V_MAX + 1]}, f"got 1..{V_MAX + 1}"),
        ({"delta_shift": 24}, "delta_shift must be 0..23"),
        ({"delta_shift": -1}, "delta_shift must be 0..23"),
        ({"fire": "levels", "reset": "subtract", "delta_shift": 1}, "with fire='delta' and 0 without, got 1"),
        ({"fire": "levels"}, "got 'keep'"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(ProgramError, match=text.replace(".", r"\.")):
        program(Soma("n", (2,), **{**DELTA, **fields}))


def test_declared_payloads() -> None:
    assert Soma("n", (2,), **DELTA, out_max=100).payload_type() == PayloadType(-100, 100)
    assert Soma("n", (2,), **DELTA, out_max=100, out_min=0).payload_type() == PayloadType(0, 100)
    top = 2 * V_MAX >> 22
    assert Soma("n", (2,), **DELTA, delta_shift=22).payload_type() == PayloadType(-top - 1, top)


def test_only_programs_with_changes_need_the_new_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older release reads every program that it can, and refuses the others by their version."""
    plain, changes = program(Soma("n", (2,), theta=3)), program(Soma("n", (2,), **DELTA, delta_shift=2))
    assert (files.version_of(plain), files.version_of(changes)) == (2, 3)
    assert "delta_shift" not in str(files.to_header(plain)[0])
    for name, made in (("plain", plain), ("changes", changes)):
        made.save(tmp_path / f"{name}.s2c")
    assert files.read(tmp_path / "changes.s2c")[0].digest() == changes.digest()
    monkeypatch.setattr(files, "READABLE", (1, 2))
    files.read(tmp_path / "plain.s2c")
    with pytest.raises(FileFormatError, match="format version 3; this snn2chip reads versions 1 and 2"):
        files.read(tmp_path / "changes.s2c")
