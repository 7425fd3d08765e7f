"""Everything that is wrong with a program is said at once, with node and field."""

from __future__ import annotations

import pickle

import pytest

from snn2chip import Input, Output, Program, Soma, Synapse
from snn2chip.errors import FileFormatError, ParameterError, ProgramError

EDGES = [("x", "w"), ("w", "s"), ("s", "o")]


def test_a_text_is_bounded_and_nothing_is_lost() -> None:
    found = ["a" * 5000, *(f"breach {i}" for i in range(5000))]
    error = ProgramError(found)
    assert error.breaches == found
    lines = str(error).splitlines()
    assert lines[0] == "5001 problems in the program:"
    assert lines[1] == f"  - {'a' * 3996} ... (5,004 letters)"
    assert lines[2:4] == ["  - breach 0", "  - breach 1"]
    assert lines[-1] == "  - and 4,901 more"
    assert len(lines) == 102
    assert str(ProgramError(["b" * 4000])) == "b" * 4000
    for again in (pickle.loads(pickle.dumps(error)), ProgramError(str(error))):
        assert str(again) == str(error)  # told again, by another process or inside another error: nothing more is lost
    assert pickle.loads(pickle.dumps(error)).breaches == found
    text = str(FileFormatError("\n".join(["c" * 6000, *map(str, range(5000))])))
    assert text.startswith("c" * 4000 + " ... (6,000 letters)\n0\n1\n")
    assert text.endswith("\n198\n... and 4,801 more lines")
    text = str(FileFormatError("\n".join(["d" * 3000] * 100)))
    assert text == "\n".join(["d" * 3000] * 5 + ["... and 95 more lines"])


def test_steps_parameters_and_shapes_are_reported_together() -> None:
    with pytest.raises(ProgramError) as caught:
        Program(
            nodes=[
                Input("x", (3,), 0, 15),
                Synapse("w", "linear", [[1, -1], [1, 1]], 1),
                Soma("s", (4,), theta=0, leak=99999, out_shift=77),
                Output("o", "nothing"),
            ],
            edges=EDGES,
            steps=0,
        )
    text = str(caught.value)
    for word in ("steps must be", "s: theta must be >= 1", "leak = 99999", "out_shift = 77", "o: read must be"):
        assert word in text


def test_a_bad_threshold_does_not_hide_a_bad_shape() -> None:
    with pytest.raises(ProgramError) as caught:
        Program(
            nodes=[
                Input("x", (3,), 0, 15),
                Synapse("w", "linear", [[1, -1, 1], [1, 1, 1]], 1),
                Soma("s", (4,), theta=0),
                Output("o", "count"),
            ],
            edges=EDGES,
            steps=2,
        )
    assert len(caught.value.breaches) == 2
    for word in ("s: theta must be >= 1", "s: shape (4,), but w makes (2,)"):
        assert any(word in text for text in caught.value.breaches)


def test_values_of_the_wrong_kind_name_soma_and_field() -> None:
    with pytest.raises(ParameterError) as caught:
        Soma("s", (2,), theta=2.5, leak="x", window=[[0.5]])
    assert [text.split(": ")[:2] for text in caught.value.breaches] == [["s", "window"], ["s", "leak"], ["s", "theta"]]
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, ValueError)
    with pytest.raises(ProgramError, match=r"weight of a synapse.*quantize"):
        Synapse("w", "linear", [[0.5]])
    with pytest.raises(ProgramError, match="edges are"):
        Program(nodes=[], edges=[("a",)], steps=1)
    with pytest.raises(ProgramError, match="nodes must be"):
        Program(nodes=None, edges=[], steps=1)
