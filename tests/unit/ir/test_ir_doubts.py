"""Samples that a program could run but that do not mean what they say: refused, or warned of."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import snn2chip
from snn2chip.errors import FileFormatError, InputError, InputWarning, ProgramError
from snn2chip.ir import files
from snn2chip.ir.host import encode
from snn2chip.ir.nodes import Host, HostOp, Input, Synapse
from snn2chip.ir.program import Program
from snn2chip.ir.soma import Soma

RNG = np.random.default_rng(9)
BYTES, SPIKES, REAL = Input("x", (4,), 0, 255), Input("x", (4,)), Input("x", (4,), -127, 127, scale=0.03)


def single(node: Input | Host) -> Program:
    return Program(
        nodes=[node, Synapse("w", weight=np.ones((2, 4), int)), Soma("n", (2,), theta=100)],
        edges=[(node.name, "w"), ("w", "n")],
        steps=1,
    )


@pytest.mark.parametrize(
    ("node", "x"),
    [
        (BYTES, RNG.random((8, 4))),  # pixels / 255 into a program of pixels
        (SPIKES, RNG.random((8, 4))),  # floats where 0 and 1 are meant
        (BYTES, RNG.integers(0, 2, (8, 4))),  # 0/1 integers would be 1/255
        (REAL, RNG.integers(-3, 4, (8, 4))),  # raw whole numbers taken as payload units
    ],
    ids=["pixels-over-255", "floats-for-spikes", "ones-for-bytes", "integers-for-floats"],
)
def test_doubtful_samples_are_warned_of_once(node: Input, x: NDArray[np.generic]) -> None:
    with pytest.warns(InputWarning, match=r"^x: .* this input takes") as caught:
        snn2chip.run(single(node), x, block=2)
    assert len([w for w in caught if isinstance(w.message, InputWarning)]) == 1


@pytest.mark.parametrize(
    ("node", "x"),
    [
        (BYTES, RNG.integers(0, 256, (8, 4))),
        (BYTES, RNG.random((8, 4)) * 255),  # 0.3 of 255 is lost
        (BYTES, np.zeros((8, 4), int)),
        (SPIKES, RNG.integers(0, 2, (8, 4))),
        (SPIKES, RNG.integers(0, 2, (8, 4)).astype(float)),
        (SPIKES, RNG.random((8, 4)) > 0.5),
        (REAL, RNG.standard_normal((8, 4)).clip(-3.8, 3.8)),
        (REAL, RNG.integers(-127, 128, (8, 4))),
    ],
)
def test_sound_samples_pass_without_a_word(node: Input, x: NDArray[np.generic]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        snn2chip.run(single(node), x)


@pytest.mark.parametrize("node", [BYTES, REAL, Input("x", (4,), 0, 3)])
def test_bool_is_refused_where_one_is_not_the_whole_range(node: Input) -> None:
    with pytest.raises(InputError, match=r"x: samples are bool, but this input takes (whole numbers 0|floats -3.81)"):
        encode(node, np.ones((2, 4), bool), 1)


def test_values_outside_of_the_range_are_counted_and_the_worst_is_named() -> None:
    x = np.zeros((5, 4))
    x[1, 2], x[3, 0] = 6.0, -4.5  # 200 and -150 units of 0.03, of 127
    with pytest.raises(InputError) as caught:
        encode(REAL, x, 1)
    for part in ("2 of 20", "the worst is 200 (about 6 raw)", "floats -3.81..3.81", "--input-range"):
        assert part in str(caught.value)


@pytest.mark.parametrize("x", [np.full((2, 4), "a"), np.ones((2, 4)) * 1j, np.full((2, 4), None)])
def test_what_is_no_number_is_named_by_its_type(x: NDArray[np.generic]) -> None:
    with pytest.raises(InputError, match=rf"must be finite numbers, got {x.dtype}"):
        snn2chip.run(single(BYTES), x)
    with pytest.raises(InputError, match="input 'x': samples must be one array of numbers"):
        snn2chip.run(single(BYTES), [[1, 2, 3, 4], [1, 2]])


def test_samples_with_steps_are_told_from_samples_without() -> None:
    with pytest.raises(InputError, match="time_axis=True"):
        snn2chip.run(single(BYTES), np.ones((1, 2, 4), int))


def test_arrays_that_nothing_uses_are_refused(tmp_path: Path) -> None:
    header, arrays = files.to_header(single(BYTES))
    arrays["spare"] = np.arange(3)
    from safetensors.numpy import save_file

    save_file(arrays, str(tmp_path / "a.s2c"), metadata={"snn2chip": files.sealed(header, arrays)})
    with pytest.raises(FileFormatError, match="nothing in the program uses: spare"):
        snn2chip.load(tmp_path / "a.s2c")


@pytest.mark.parametrize(
    ("ops", "reach"),
    [
        ([HostOp(kind="linear", weight=np.full((4, 2), 1 << 37))], (1 << 24) * 2 * (1 << 37)),
        ([HostOp(kind="linear", weight=np.full((4, 2), 1 << 36))], None),
        (
            [
                HostOp(kind="linear", weight=np.full((2, 2), 1 << 20)),
                HostOp(kind="linear", weight=np.full((4, 2), 1 << 16)),
            ],
            (1 << 24) * (1 << 21) * (1 << 17),
        ),
        ([HostOp(kind="bias", weight=1 << 62), HostOp(kind="linear", weight=np.ones((4, 2)))], (1 << 62) + (1 << 24)),
        ([HostOp(kind="rescale", gain=1 << 38), HostOp(kind="linear", weight=np.ones((4, 2)))], 1 << 62),
        (
            [HostOp(kind="rescale", lo=-9, hi=9), HostOp(kind="linear", weight=np.full((4, 2), 1 << 50))],
            None,
        ),
    ],
)
def test_a_host_stem_that_can_leave_64_bits_is_refused(ops: list[HostOp], reach: int | None) -> None:
    """The largest |value| from |raw| <= 2^24: times row sums, plus biases, times gains."""
    host = Host("x", (4,), 0, 100, sample_shape=(2,), ops=ops)
    if reach is None:
        single(host)
    else:
        with pytest.raises(ProgramError, match=f"may reach {reach}, beyond the exact range {1 << 62}"):
            single(host)


def test_a_maximum_over_padding_alone_is_refused() -> None:
    op = HostOp(kind="maxpool", kernel_size=1, padding=1)
    with pytest.raises(ProgramError, match="maximum over padding alone"):
        single(Host("x", (1, 4, 4), 0, 100, sample_shape=(1, 2, 2), ops=[op]))
