"""Traces recorded elsewhere: written, read, compared, refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import snn2chip
from snn2chip import Input, Output, Program, Soma, Synapse
from snn2chip.checks.outside import check_trace, read_trace, write_trace
from snn2chip.errors import InputError

WEIGHT = np.array([[1, -1, 2], [0, 3, -2]])


def program() -> Program:
    return Program(
        nodes=[
            Input("x", (3,), 0, 7),
            Synapse("w", weight=WEIGHT, bits=4),
            Soma("h", (2,), theta=5, levels=3, layer="net.0"),
            Synapse("w2", weight=[[1, 1], [1, -1]], bits=4),
            Soma("r", (2,), fire="none"),
            Output("out"),
        ],
        edges=[("x", "w"), ("w", "h"), ("h", "w2"), ("w2", "r"), ("r", "out")],
        steps=2,
    )


X = np.array([[7, 0, 1], [0, 4, 0], [3, 3, 3], [0, 0, 0]])


def by_hand() -> dict[str, np.ndarray]:
    """The same network, written down again: what another simulator would record (samples first)."""
    v, payload = np.zeros((4, 2), int), np.zeros((4, 2, 2), int)
    for t in range(2):
        v = v + X @ WEIGHT.T
        s = np.clip(v // 5, 0, 3)
        v, payload[:, t] = v - 5 * s, s
    total = payload.sum(1)
    outputs = np.stack([total[:, 0] + total[:, 1], total[:, 0] - total[:, 1]], 1)
    return {"payload/h": payload, "outputs": outputs, "potential/r": outputs}


def save(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def test_an_outside_trace_agrees(tmp_path: Path) -> None:
    trace = save(tmp_path / "board.npz", **by_hand())
    result = check_trace(program(), trace, inputs=X, backends=("reference",))
    assert result.equal
    assert result.compared == 4 * 2 * 2 + 4 * 2 + 4 * 2
    assert result.backends == ("reference", "board.npz")
    assert result.notes == ("the trace records no payloads of r",)


def test_a_wrong_spike_is_named(tmp_path: Path) -> None:
    arrays = by_hand()
    arrays["payload/h"][2, 1, 0] += 1
    result = check_trace(program(), save(tmp_path / "board.npz", **arrays), inputs=X)
    first = result.first
    assert first is not None
    assert (first.soma, first.layer, first.sample, first.step, first.index) == ("h", "net.0", 2, 1, (0,))
    assert (first.expected, first.got) == (by_hand()["payload/h"][2, 1, 0], arrays["payload/h"][2, 1, 0])
    assert first.theta == 5
    assert first.current[0] == 6  # 3 - 3 + 2*3, on the expected side


@pytest.mark.parametrize(("key", "what"), [("outputs", "output"), ("potential/r", "potential")])
def test_a_wrong_read_out_is_named(tmp_path: Path, key: str, what: str) -> None:
    arrays = by_hand()
    arrays[key] = arrays[key].copy()
    arrays[key][1, 0] -= 1
    first = check_trace(program(), save(tmp_path / "board.npz", **arrays), inputs=X).first
    assert first is not None
    assert (first.soma, first.what, first.sample, first.index) == ("r", what, 1, (0,))


def test_own_traces_carry_their_inputs(tmp_path: Path) -> None:
    trace = snn2chip.run(program(), X, backend="reference")
    write_trace(tmp_path / "t.npz", trace)
    with np.load(tmp_path / "t.npz") as file:
        names = set(file.files)
        assert file["payload/h"].shape == (4, 2, 2)
        assert file["potential/r"].shape == (4, 2, 2)
        assert file["outputs"].tolist() == by_hand()["outputs"].tolist()
        assert file["pred"].tolist() == by_hand()["outputs"].argmax(1).tolist()
    assert names == {"outputs", "pred", "input/x", *(f"{k}/{s}" for k in ("payload", "potential") for s in ("h", "r"))}
    assert check_trace(program(), tmp_path / "t.npz").equal


def test_fewer_recorded_samples_than_given(tmp_path: Path) -> None:
    arrays = {name: x[:2] for name, x in by_hand().items()}
    assert check_trace(program(), save(tmp_path / "a.npz", **arrays), inputs=X).equal


def test_more_recorded_samples_than_given(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="4 samples, but only 3"):
        check_trace(program(), save(tmp_path / "a.npz", **by_hand()), inputs=X[:3])


def test_without_inputs_the_trace_must_hold_them(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no input/x"):
        check_trace(program(), save(tmp_path / "a.npz", **by_hand()))


def test_everything_that_does_not_fit_is_listed(tmp_path: Path) -> None:
    arrays = {**by_hand(), "payload/h": by_hand()["payload/h"][:, :, :1], "payload/nobody": np.zeros((4, 2, 2), int)}
    with pytest.raises(InputError) as caught:
        read_trace(program(), save(tmp_path / "a.npz", **arrays))
    assert len(caught.value.breaches) == 2
    assert "[4, 2, 1], expected [4, 2, 2]" in str(caught.value)
    assert "no 'payload/nobody'" in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"outputs": np.zeros((4, 2))}, "whole numbers"),
        ({"outputs": np.zeros((4, 2), int), "payload/h": np.zeros((3, 2, 2), int)}, "numbers are"),
        ({"pred": np.zeros(4, int)}, "numbers are"),
        ({"input/x": np.zeros((4, 2, 3), int)}, "nothing to compare"),
        ({"payload/h": np.full((4, 2, 2), 2**40)}, "beyond 32 bits"),
    ],
)
def test_unusable_traces(tmp_path: Path, arrays: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_trace(program(), save(tmp_path / "a.npz", **arrays))


def test_damaged_and_pickled_traces(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 cut off")
    np.savez(tmp_path / "b.npz", outputs=np.array([{"a": 1}], dtype=object))
    for name in ("a.npz", "b.npz", "none.npz"):
        with pytest.raises(InputError):
            read_trace(program(), tmp_path / name)
