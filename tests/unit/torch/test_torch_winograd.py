"""Winograd's convolution on whole numbers: equal to the sums as defined, up to the last number its bound lets in."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from snn2chip_backends.torch import int8, synapses, winograd
from snn2chip_backends.torch.backend import TorchBackend
from snn2chip_backends.torch.exact import exact_arithmetic
from snn2chip_backends.torch.winograd import DOUBLED_G, applies, transformed, winograd_bound

from snn2chip.api import run
from snn2chip.ir.nodes import Input, Output, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma
from snn2chip.ir.types import PayloadType

RNG = np.random.default_rng(0)
BT = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
AT = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])


def by_definition(weight: Any, x: Any, padding: tuple[int, int]) -> Any:
    """Cross-correlation of int64 arrays, tap by tap."""
    ph, pw = padding
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    h, w = padded.shape[2] - 2, padded.shape[3] - 2
    return sum(
        np.einsum("kc,nchw->nkhw", weight[:, :, a, b], padded[:, :, a : a + h, b : b + w])
        for a, b in product(range(3), range(3))
    )


def by_winograd(weight: Any, x: Any, padding: tuple[int, int], exponent: int = 0) -> Any:
    synapse = Synapse("w", "conv2d", weight, 8, padding=padding, exponent=exponent)
    convolve = winograd.winograd(synapse, x.shape[1:])
    with exact_arithmetic(torch.device("cpu")):
        return convolve(torch.as_tensor(x, dtype=torch.float32)).numpy()


@pytest.mark.parametrize("size", [(4, 4), (5, 7), (1, 2), (6, 3), (9, 8)])
@pytest.mark.parametrize("padding", [(1, 1), (0, 0), (2, 1)])
def test_shapes(size: tuple[int, int], padding: tuple[int, int]) -> None:
    if min(size[0] + 2 * padding[0], size[1] + 2 * padding[1]) < 3:
        return
    weight = RNG.integers(-128, 128, (5, 3, 3, 3))
    x = RNG.integers(-3, 4, (600, 3, *size))
    assert (by_winograd(weight, x, padding) == by_definition(weight, x, padding)).all()
    assert (by_winograd(weight, x[:2], padding, exponent=5) == 32 * by_definition(weight, x[:2], padding)).all()


def largest_on_the_way(weight: Any, patch: Any) -> int:
    """Sum of the magnitudes of all terms of the worst output of one patch `[C, 4, 4]`: no partial sum is larger."""
    d = np.abs(np.einsum("ia,cab,jb->ijc", BT, patch, BT))
    terms = np.einsum("ijck,ijc->ijk", np.abs(transformed(weight)), d)
    return int(max(np.einsum("i,j,ijk->k", abs(AT[r]), abs(AT[s]), terms).max() for r in (0, 1) for s in (0, 1)))


def test_no_patch_leaves_the_bound_and_one_comes_near() -> None:
    """Patches of signs that make a transformed entry the sum of four: every sign pattern of B at every entry."""
    reached = 0.0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        weight = rng.choice([-128, 127, 0, 1], (2, 3, 3, 3), p=[0.4, 0.4, 0.1, 0.1])
        bound = winograd_bound(weight, 7)
        patches = [rng.choice([-7, 7], (3, 4, 4)) for _ in range(50)]
        patches += [
            np.tile(7 * np.sign(np.outer(BT[i], BT[j]) + 0.5), (3, 1, 1)) for i, j in product(range(4), range(4))
        ]
        for patch in patches:
            found = largest_on_the_way(weight, patch.astype(np.int64))
            assert found <= bound
            reached = max(reached, found / bound)
    assert reached > 0.4  # no patch can be the worst of all entries at once


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("weights", ["equal", "first entry", "checks"])
def test_exact_up_to_the_bound(weights: str, sign: int) -> None:
    """As many channels and as large payloads as the bound lets in; one channel more is refused."""
    kernel = {
        "equal": np.full((3, 3), 127),
        "first entry": np.diag([-128, 0, 0]),
        "checks": 127 * np.array([[1, -1, 1], [-1, 1, -1], [1, -1, 1]]),
    }[weights]
    one = winograd_bound(kernel[None, None], 127)
    channels = (1 << 24) // one
    weight = np.broadcast_to(sign * kernel, (2, channels, 3, 3)).copy()
    weight[1, ::2] *= -1
    weight = weight.clip(-128, 127)
    assert applies(Synapse("w", "conv2d", weight, 8, padding=1), 127)
    more = np.concatenate([weight, weight[:, :1]], axis=1)
    assert not applies(Synapse("w", "conv2d", more, 8, padding=1), 127)
    for fill in (np.full((1, channels, 6, 6), 127), 127 * RNG.choice([-1, 1], (2, channels, 6, 6))):
        assert (by_winograd(weight, fill, (1, 1)) == by_definition(weight, fill, (1, 1))).all()
        signed = fill * np.sign(weight[0, 0, 0, 0] or 1)
        assert (by_winograd(weight, signed, (0, 0)) == by_definition(weight, signed, (0, 0))).all()


def test_the_matrices_are_an_identity() -> None:
    """A^T [2G g 2G^T * B^T d B] A = 4 (g correlated with d), for every unit kernel and unit patch."""
    for a, b, r, s in product(range(3), range(3), range(4), range(4)):
        g, d = np.zeros((3, 3), int), np.zeros((4, 4), int)
        g[a, b] = d[r, s] = 1
        made = AT @ ((DOUBLED_G @ g @ DOUBLED_G.T) * (BT @ d @ BT.T)) @ AT.T
        expected = [[sum((g * d[i : i + 3, j : j + 3]).ravel()) for j in (0, 1)] for i in (0, 1)]
        assert (made == 4 * np.array(expected)).all()


@pytest.mark.parametrize(
    "change",
    [
        {"stride": 2},
        {"dilation": 2},
        {"groups": 2},
        {"weight": np.ones((4, 4, 5, 5))},
        {"weight": np.ones((4, 4, 1, 1))},
    ],
    ids=str,
)
def test_other_convolutions_are_left_alone(change: dict[str, Any]) -> None:
    weight = np.ones((4, 2, 3, 3)) if "groups" in change else np.ones((4, 4, 3, 3))
    given = {"weight": weight, "padding": 1, **change}
    assert applies(Synapse("w", "conv2d", weight=np.ones((4, 4, 3, 3)), padding=1), 1)
    assert not applies(Synapse("w", "conv2d", **given), 1)


def test_a_program_without_vnni(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no products of bytes at hand, wide convolutions take Winograd's road and the reference agrees."""
    weight = np.random.default_rng(1).integers(-127, 128, (512, 256, 3, 3))
    program = Program(
        nodes=[
            Input("in", (256, 4, 5), 0, 1, coding="steps"),
            Synapse("w", "conv2d", weight, 8, padding=1, exponent=1),
            Soma("s", (512, 4, 5), theta=2000),
            Output("o", "count"),
        ],
        edges=[("in", "w"), ("w", "s"), ("s", "o")],
        steps=2,
    )
    taken = []
    made = winograd.winograd
    monkeypatch.setattr(int8, "products_of_bytes", lambda: None)
    monkeypatch.setattr(synapses, "winograd", lambda *given: taken.append(given) or made(*given))
    x = np.random.default_rng(2).integers(0, 2, (2, 3, 256, 4, 5))
    got = run(program, x, backend=TorchBackend(), record="all")
    expected = run(program, x, backend="reference", record="all")
    assert len(taken) == 1
    assert (got.payloads["s"] == expected.payloads["s"]).all()
    assert 0.05 < (expected.payloads["s"] != 0).mean() < 0.95


@pytest.mark.parametrize(("outputs", "channels", "worth"), [(3, 4, True), (4, 4, True), (2, 5, False), (11, 1, False)])
def test_wide_layers_are_worth_it(outputs: int, channels: int, worth: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """outputs * channels >= 12 here."""
    monkeypatch.setattr(winograd, "WORTH", 12)
    assert winograd.worth(Synapse("w", "conv2d", np.ones((outputs, channels, 3, 3), int))) is worth


def test_which_way_a_convolution_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wide 3 x 3 layers within float32 by transforms, others within float32 by the library, beyond it by columns."""
    chosen: list[str] = []
    for name in ("winograd", "_convolution", "column_convolution"):
        monkeypatch.setattr(synapses, name, lambda *_, name=name: chosen.append(name))
    monkeypatch.setattr(synapses, "_in_bytes", lambda *_: None)
    monkeypatch.setattr(winograd, "WORTH", 12)
    wide, few = np.ones((4, 3, 3, 3), int), np.ones((3, 3, 3, 3), int)
    for weight, top, stride in ((wide, 1, 1), (few, 1, 1), (wide, 1, 2), (wide, 1 << 23, 1)):
        synapse = Synapse("w", "conv2d", weight, stride=stride)
        synapses.synapse_kernel(synapse, PayloadType(0, top), (3, 6, 6), torch.device("cpu"))
    assert chosen == ["winograd", "_convolution", "_convolution", "column_convolution"]
