"""Labels that no class has are named at every door, and never counted as wrong answers."""

from __future__ import annotations

from pathlib import Path

import attrs
import numpy as np
import pytest
import torch
from torch import nn

from snn2chip import Input, Output, Program, Soma, Synapse, fidelity, report
from snn2chip.compiler import compile_graph
from snn2chip.data.feed import make_feed
from snn2chip.data.labels import check_labels
from snn2chip.data.samples import read_samples
from snn2chip.errors import InputError

RNG = np.random.default_rng(3)
X = RNG.integers(0, 9, (6, 4))
TOO_HIGH = np.array([0, 1, 2, 0, 3, 3])
SAID = "the label of sample 4 is 3 and 1 more; 3 outputs have the labels 0 to 2, or leave the labels out"


def program() -> Program:
    return Program(
        nodes=[
            Input("in", (4,), 0, 8),
            Synapse("w", weight=RNG.integers(-3, 4, (3, 4)), bits=8),
            Soma("n", (3,), fire="none"),
            Output("out"),
        ],
        edges=[("in", "w"), ("w", "n"), ("n", "out")],
        steps=1,
    )


@pytest.mark.parametrize(
    ("labels", "classes", "words"),
    [
        ([0, -1], None, "sample 1 is -1; classes are counted from 0"),
        ([10**15, 3], None, "sample 0 is 1000000000000000; classes"),
        (np.array([1 << 63], np.uint64), None, "sample 0 is 9223372036854775808; classes"),
        ([0, 5, 7], 5, "sample 1 is 5 and 1 more; 5 outputs have the labels 0 to 4"),
        ([0, 1], 1, "sample 1 is 1; with one output every label is 0"),
    ],
)
def test_what_no_class_has(labels: object, classes: int | None, words: str) -> None:
    with pytest.raises(InputError, match=words):
        check_labels(labels, classes, name="x.npz")


def test_what_a_class_has() -> None:
    check_labels([0, 4, 4], 5, name="x.npz")
    check_labels([], 5, name="x.npz")
    check_labels([1 << 19], None, name="x.npz")


@pytest.mark.parametrize(
    "y", [[0, 1, 2, 0, -1, 0], [0, 1, 2, 0, 10**15, 0], np.array([0] * 4 + [1 << 63, 0], np.uint64)]
)
def test_a_file_of_samples(tmp_path: Path, y: object) -> None:
    np.savez(tmp_path / "x.npz", x=X, y=np.asarray(y))
    with pytest.raises(InputError, match=r"x\.npz: the label of sample 4 is"):
        read_samples(tmp_path / "x.npz")


def test_samples_of_a_program(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=X, y=TOO_HIGH)
    for how in ({"data": None, "path": tmp_path / "x.npz"}, {"data": str(tmp_path / "x.npz"), "path": None}):
        with pytest.raises(InputError, match=SAID):
            make_feed(program(), **how)  # type: ignore[arg-type]
        assert make_feed(program(), **how, samples=4).samples.total == 4  # type: ignore[arg-type]
    mute = attrs.evolve(program(), nodes=program().nodes[:-1], edges=program().edges[:-1])
    assert make_feed(mute, data=None, path=tmp_path / "x.npz").samples.total == 6


def test_labels_in_memory() -> None:
    with pytest.raises(InputError, match=SAID):
        report(program(), X, labels=TOO_HIGH)
    net = nn.Sequential(nn.Linear(4, 3))
    made, graph = compile_graph(net, torch.as_tensor(X).float(), steps=1)
    for call in (lambda: fidelity(made, graph, X, labels=TOO_HIGH), lambda: swept(graph), lambda: alone(graph)):
        with pytest.raises(InputError, match=SAID):
            call()


def swept(graph: object) -> object:
    from snn2chip.checks.sweep import bits_sweep

    return bits_sweep(graph, X, X, modes=("int8",), labels=TOO_HIGH)  # type: ignore[arg-type]


def alone(graph: object) -> object:
    from snn2chip.checks.sensitivity import sensitivity

    return sensitivity(graph, X, modes=("int8",), labels=TOO_HIGH)  # type: ignore[arg-type]
