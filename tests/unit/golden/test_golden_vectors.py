"""Golden vectors: what a file proves, and how a changed or damaged copy is found."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from snn2chip import Host, Input, Output, Program, Soma, Synapse
from snn2chip.checks.outside import check_golden
from snn2chip.errors import FileFormatError, InputError
from snn2chip.golden import random_samples, read_golden
from snn2chip.ir import files


def small_program(*, coding: str = "repeat", scale: float = 1.0, weight: int = 1) -> Program:
    """The first worked example of the integer machine: linear 2 -> 1, weights [1, -1], and a read-out of it."""
    return Program(
        nodes=[
            Input("x", (2,), 0, 15, coding=coding, scale=scale),
            Synapse("w", weight=[[weight, -1]], bits=8),
            Soma("h", (1,), v_init=1, theta=3, levels=2, layer="net.0"),
            Synapse("w2", weight=[[1], [2]], bits=8),
            Soma("r", (2,), fire="none", layer="net.1"),
            Output("out"),
        ],
        edges=[("x", "w"), ("w", "h"), ("h", "w2"), ("w2", "r"), ("r", "out")],
        steps=3,
    )


EXAMPLE = np.array([[[4, 0]], [[0, 2]], [[9, 1]]])  # [T, N, 2]


def test_expected_payloads_are_those_of_the_worked_example(tmp_path: Path) -> None:
    small_program(coding="steps").save(tmp_path / "a.s2c", golden=1, inputs=EXAMPLE)
    program, golden = read_golden(tmp_path / "a.s2c")
    assert golden.expected.payloads["h"][:, 0, 0].tolist() == [1, 0, 2]
    assert golden.expected.potentials["r"][:, 0].tolist() == [[1, 2], [1, 2], [3, 6]]
    assert golden.expected.all_outputs["out"].tolist() == [[3, 6]]
    assert golden.coded["x"].tolist() == EXAMPLE.tolist()
    assert golden.provenance["backend"] == "reference"
    assert golden.provenance["samples"] == 1
    assert golden.provenance["digest"] == program.digest()
    assert golden.provenance["versions"]["numpy"] == np.__version__


def test_arrays_are_stored_in_the_smallest_types(tmp_path: Path) -> None:
    small_program().save(tmp_path / "a.s2c", golden=4)
    stored = files.read(tmp_path / "a.s2c")[1]["arrays"]
    assert {x.dtype for k, x in stored.items() if not k.startswith("raw/")} == {np.dtype(np.int8)}
    assert stored["coded/x"].shape == (1, 4, 2)  # repeated input: one frame stands for all steps
    assert stored["payload/h"].shape == (3, 4, 1)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_float_samples_come_back_bit_for_bit(tmp_path: Path, dtype: type) -> None:
    x = np.array([[0.26, 7.4], [3.0, 0.1]], dtype=dtype)
    small_program(scale=0.5).save(tmp_path / "a.s2c", golden=2, inputs=x)
    _, golden = read_golden(tmp_path / "a.s2c")
    assert golden.raw["x"].dtype == dtype
    assert golden.raw["x"].tobytes() == x.tobytes()
    assert golden.coded["x"][0].tolist() == [[1, 15], [6, 0]]  # floor(x/0.5 + 1/2)


def test_equal_copy_is_proven(tmp_path: Path) -> None:
    program = small_program()
    program.save(tmp_path / "a.s2c", golden=5)
    result = check_golden(tmp_path / "a.s2c", backends=("reference",))
    assert result.equal
    # 3 steps x 5 samples x (1 + 2 payloads), 5 x 2 read-out potentials, 5 x 2 outputs
    assert result.compared == 3 * 5 * 3 + 5 * 2 + 5 * 2
    assert result.backends == ("golden (reference)", "reference")
    assert "5 samples (random, seed 0)" in result.notes[0]


def test_one_wrong_weight_is_named(tmp_path: Path) -> None:
    small_program(coding="steps").save(tmp_path / "a.s2c", golden=1, inputs=EXAMPLE)
    golden = files.read(tmp_path / "a.s2c")[1]
    files.write(tmp_path / "b.s2c", small_program(coding="steps", weight=3), golden=golden)
    result = check_golden(tmp_path / "b.s2c", backends=("reference",))
    assert not result.equal
    first = result.first
    assert first is not None
    # v = 1 + 3*4 = 13 >= 2*3: two spikes instead of one, in the first step
    assert (first.soma, first.layer, first.sample, first.step, first.index) == ("h", "net.0", 0, 0, (0,))
    assert (first.expected, first.got) == (1, 2)
    assert (first.expected_by, first.got_by) == ("golden (reference)", "reference")
    assert "changed after" in result.notes[0]


def test_an_encoder_that_rounds_differently_is_named(tmp_path: Path) -> None:
    small_program(scale=0.5).save(tmp_path / "a.s2c", golden=1, inputs=np.array([[0.2, 1.0]]))
    golden = files.read(tmp_path / "a.s2c")[1]
    golden["arrays"] = {**golden["arrays"], "coded/x": np.array([[[0, 3]]], np.int8)}
    files.write(tmp_path / "b.s2c", small_program(scale=0.5), golden=golden)
    first = check_golden(tmp_path / "b.s2c", backends=("reference",)).first
    assert first is not None
    assert (first.soma, first.what, first.index, first.expected, first.got) == ("x", "input", (1,), 3, 2)


def test_random_samples_lie_in_range_and_are_repeatable() -> None:
    program = Program(
        nodes=[
            Input("x", (3, 2, 2), -5, 9, offset=[1, 2, 3]),
            Synapse("w", weight=np.ones((1, 12), int)),
            Soma("h", (1,), theta=3),
        ],
        edges=[("x", "w"), ("w", "h")],
        steps=2,
    )
    x = random_samples(program, 200, seed=3)["x"]
    payload = x - np.array([1, 2, 3])[:, None, None]
    assert x.shape == (200, 3, 2, 2)
    assert (payload.min(), payload.max()) == (-5, 9)
    assert 0.4 < (payload == 0).mean() < 0.7
    assert (random_samples(program, 200, seed=3)["x"] == x).all()


@pytest.mark.parametrize("coding", ["rate-floor", "rate-round", "steps"])
def test_golden_vectors_of_every_coding(tmp_path: Path, coding: str) -> None:
    small_program(coding=coding).save(tmp_path / "a.s2c", golden=3)
    assert check_golden(tmp_path / "a.s2c", backends=("reference",)).equal


def test_host_operations_need_given_samples(tmp_path: Path) -> None:
    program = Program(
        nodes=[Host("x", (2,), 0, 30, sample_shape=(2,)), Synapse("w", weight=[[1, 1]]), Soma("h", (1,), theta=3)],
        edges=[("x", "w"), ("w", "h")],
        steps=1,
    )
    with pytest.raises(InputError, match="give inputs="):
        program.save(tmp_path / "a.s2c", golden=1)
    program.save(tmp_path / "a.s2c", golden=1, inputs=np.array([[3, 4]]))
    assert check_golden(tmp_path / "a.s2c", backends=("reference",)).equal


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"golden": -1}, "golden must be"),
        ({"golden": 3, "inputs": np.zeros((2, 2), int)}, "golden=3 samples"),
        ({"inputs": np.zeros((2, 2), int)}, "golden=N"),
        ({"golden": 1, "inputs": {"y": np.zeros((1, 2), int)}}, "inputs x"),
    ],
)
def test_wrong_arguments_leave_no_file(tmp_path: Path, arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        small_program().save(tmp_path / "a.s2c", **arguments)
    assert not list(tmp_path.iterdir())


def test_a_file_without_golden_vectors_says_so(tmp_path: Path) -> None:
    small_program().save(tmp_path / "a.s2c")
    with pytest.raises(InputError, match="no golden vectors"):
        check_golden(tmp_path / "a.s2c")


def _header(path: Path) -> dict:
    from safetensors import safe_open

    with safe_open(str(path), framework="np") as file:
        return json.loads(file.metadata()["snn2chip"])


@pytest.mark.parametrize("damage", ["missing", "shape", "samples", "header"])
def test_damaged_golden_vectors_are_one_clear_error(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.s2c"
    small_program().save(path, golden=2)
    header, arrays = _header(path), load_file(path)
    if damage == "missing":
        del arrays["golden/payload/h"]
    elif damage == "shape":
        arrays["golden/payload/h"] = arrays["golden/payload/h"][:, :1].copy()
    elif damage == "samples":
        header["golden"]["samples"] = "many"
    else:
        header["golden"] = {"samples": 2}
    save_file(arrays, path, metadata={"snn2chip": files.sealed(header, arrays)})
    with pytest.raises(FileFormatError, match="damaged golden vectors"):
        check_golden(path)
