"""The options of the conversions: every one is documented, passed on, and read from text as its kind."""

from __future__ import annotations

import inspect
from pathlib import Path

import attrs
import pytest
import torch
from torch import nn

from snn2chip.convert import collapse, convert, serialise, to_hybrid, to_if, to_parallel
from snn2chip.convert.ic_snn import ICOptions
from snn2chip.convert.options import OPTIONS, check_method, check_options, parse_options
from snn2chip.convert.parallel_calibration import Calibration
from snn2chip.convert.threshold_balance import Pool
from snn2chip.errors import InputError

DOCS = Path(__file__).parents[3] / "docs" / "conversion.md"
OWN = {"search", "printed", "units"}  # of ic-snn by name alone


def fields(*kinds: type) -> set[str]:
    return {f.name for kind in kinds for f in attrs.fields(kind)}


def test_every_option_of_a_conversion_has_a_name_and_no_other() -> None:
    """What the Python functions take, besides the model, T and data."""
    given = {
        "parallel": set(inspect.signature(to_parallel).parameters) | fields(Calibration),
        "qcfs": set(inspect.signature(to_if).parameters),
        "ic-snn": fields(ICOptions, Pool) | OWN,
        "hybrid": set(inspect.signature(to_hybrid).parameters),
        "serialise": set(inspect.signature(serialise).parameters),
        "collapse": set(inspect.signature(collapse).parameters),
    }
    common = {"model", "sample", "steps", "data", "calibration", "pool"}
    assert {method: names - common for method, names in given.items()} == {m: set(o) for m, o in OPTIONS.items()}


@pytest.mark.parametrize(("method", "key"), [(m, k) for m, known in OPTIONS.items() for k in known])
def test_every_option_is_documented(method: str, key: str) -> None:
    text = DOCS.read_text(encoding="utf-8")
    part = text[text.index(f"\n| {method} | `") :].split("\n| ")
    rows = [part[1], *(row for row in part[2:])]
    end = next((i for i, row in enumerate(rows[1:], 1) if row[0] != "|"), len(rows))
    shown = " ".join(rows[:end])
    assert f"`{key}=" in shown or f"`{key}`" in shown
    kind = OPTIONS[method][key]
    if isinstance(kind, tuple):
        assert all(word in shown for word in kind)


def test_texts_become_values_of_their_kind() -> None:
    found = parse_options("parallel", ["form=steps", "quantile=0.99", "passes=3", "fc=true", "eps=1e-4"])
    assert found == {"form": "steps", "quantile": 0.99, "passes": 3, "fc": True, "eps": 1e-4}
    assert parse_options("collapse", []) == {}
    with pytest.raises(InputError) as caught:
        parse_options("parallel", ["passes=2.5", "fc=yes", "form=A", "levels=2", "phi=ema", "quantile=high"])
    assert len(caught.value.breaches) == 5
    with pytest.raises(InputError, match="given twice"):
        parse_options("qcfs", ["levels=2", "levels=3"])
    with pytest.raises(InputError, match="expected key=value"):
        parse_options("qcfs", ["levels"])


def test_values_given_in_python_are_checked_alike() -> None:
    net, x = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), torch.rand(8, 3)
    with pytest.raises(InputError, match="passes='3', expected a whole number"):
        convert(net, x, method="parallel", steps=4, data=x, passes="3")
    with pytest.raises(InputError, match="search finds the quantile itself"):
        convert(net, x, method="ic-snn", steps=4, data=x, search=True, quantile=0.9)
    with pytest.raises(InputError, match="balances thresholds on data"):
        convert(net, x, method="ic-snn", steps=4)
    with pytest.raises(InputError, match="hybrid gives a module"):
        convert(net, x, method="hybrid", steps=4)
    check_options("ic-snn", {"quantile": 1})
    with pytest.raises(InputError, match="fc=1, expected true or false"):
        check_options("parallel", {"fc": 1})


def test_steps_are_given_where_the_source_does_not_say_them() -> None:
    for method in OPTIONS:
        steps = None if method in ("serialise", "collapse") else 4
        check_method(method, steps)
        with pytest.raises(InputError, match="steps"):
            check_method(method, None if steps else 4)


def test_printed_options_can_be_taken_and_changed() -> None:
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double(), torch.rand(40, 3).double()
    found = {}
    for options in ({}, {"printed": "C"}, {"printed": "C", "strict": False}, {"printed": "IC", "residual": "clamp"}):
        made = convert(net, x[:2], method="ic-snn", steps=8, data=x, **options)
        soma = next(layer.soma for layer in made.layers if layer.kind == "neuron")
        found[str(options)] = (soma.v_init_rule, float(soma.bias) > 0, float(soma.v_init) > 0)
    assert list(found.values())[:3] == [("round", True, False), ("strict", False, True), ("round", False, True)]
    assert list(found.values())[3][:2] == ("strict", False)
