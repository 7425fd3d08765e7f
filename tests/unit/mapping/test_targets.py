"""Target files: what comes with snn2chip is complete and sourced; what a user writes is checked field by field."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from snn2chip.errors import InputError
from snn2chip.mapping.fact import CONFIDENCE, OWN, Fact
from snn2chip.mapping.target import SECTIONS, Target
from snn2chip.mapping.target_file import load_target, target_names


def facts(value: Any, where: str = "") -> Iterator[tuple[str, Fact]]:
    """Every fact of a target with its path."""
    if isinstance(value, Fact):
        yield where, value
    elif attrs.has(type(value)):
        for field in attrs.fields(type(value)):
            yield from facts(getattr(value, field.name), f"{where}.{field.name}")
    elif hasattr(value, "items"):
        for key, item in value.items():
            yield from facts(item, f"{where}.{key}")


def own(tmp_path: Path, text: str) -> Target:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return load_target(path)


def breaches(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        own(tmp_path, text)
    return [text.split("mine.toml: ", 1)[1] for text in caught.value.breaches]


def test_the_chips_are_there() -> None:
    assert {"ideal", "loihi1", "loihi2"} <= set(target_names())


@pytest.mark.parametrize("name", target_names())
def test_every_fact_has_a_unit_a_source_and_a_confidence(name: str) -> None:
    target = load_target(name)
    found = dict(facts(target))
    assert len(found) > 60
    for where, fact in found.items():
        assert CONFIDENCE.match(fact.confidence), where
        assert all(key.strip() in (*target.sources, OWN) for key in fact.source.split(",")), where
        low, high = fact.range
        if not isinstance(fact.value, (bool, str, tuple)):
            assert low <= fact.value <= high, where


@pytest.mark.parametrize(
    ("name", "path", "value", "confidence"),
    [
        ("loihi1", "limits.cores_per_chip", 128, "S*, C"),
        ("loihi1", "limits.neurons_per_core", 1024, "S*, C"),
        ("loihi1", "limits.synapse_memory_per_core", 16383 * 8, "S*, C"),
        ("loihi1", "limits.delay_max", 62, "S*, C"),
        ("loihi1", "neuron.threshold_bits", 17, "C"),
        ("loihi1", "neuron.soft_reset_compartments", 2, "C"),
        ("loihi1", "neuron.compare", "strict", "C"),
        ("loihi1", "spikes.graded", False, "S*"),
        ("loihi1", "weights.widths", (1, 2, 3, 4, 5, 6, 8), "C"),
        ("loihi2", "limits.cores_per_chip", 120, "S*, D, S"),
        ("loihi2", "limits.memory_per_core", 192 * 1024, "S*"),
        ("loihi2", "limits.synapse_memory_per_core", 128 * 1024, "S*"),
        ("loihi2", "neuron.coefficient_bits", 16, "E"),
        ("loihi2", "charges.neuron", 16, "E"),
        ("ideal", "limits.neurons_per_core", math.inf, "E"),
    ],
)
def test_numbers_are_those_of_the_published_tables(name: str, path: str, value: Any, confidence: str) -> None:
    section, field = path.split(".")
    fact = getattr(getattr(load_target(name), section), field)
    assert (fact.value, fact.confidence) == (value, confidence)


def test_energies_are_those_of_the_published_tables() -> None:
    loihi1, loihi2 = load_target("loihi1"), load_target("loihi2")
    davies = {k: f.value for k, f in loihi1.energies["davies2018"].events.items()}
    assert davies == {
        "synop": 23.6,
        "synop_stdp": 120,
        "update_active": 81,
        "update_inactive": 52,
        "deliver_tile": 1.7,
        "hop_ew": 3.0,
        "hop_ns": 4.0,
    }
    assert {f.confidence for f in loihi1.energies["davies2018"].events.values()} == {"PS*"}
    assert loihi1.energies["sana-fe"].events["message_out"].value == 111.0
    surrogate = loihi2.energies["loihi1-range"]
    assert surrogate.events["synop"].range == (23.6, 35.5)
    assert (surrogate.status, {f.confidence for f in surrogate.events.values()}) == ("surrogate", {"E"})
    hala = loihi2.energies["hala-point"].events
    assert hala["synop"].value == round(2600 / 380, 1)
    assert hala["neuron_update"].value == round(2600 / 240, 1)
    assert loihi1.timings["sana-fe"].events["barrier"].points[-1] == (29, 1800)
    for key, divisor in (("neuron_access", 2), ("neuron_update", 2), ("synop_dense", 5), ("spike_out", 10)):
        scaled = loihi2.timings["scaled"].events[key].value
        assert scaled == pytest.approx(loihi1.timings["sana-fe"].events[key].value / divisor)


def test_a_file_of_ones_own_takes_over_a_base_and_replaces_facts_whole(tmp_path: Path) -> None:
    found = own(
        tmp_path,
        """
        base = "loihi2"
        name = "revision-d"
        [sources]
        LAB = "counted by us"
        [limits]
        cores_per_chip = { value = 152, unit = "cores", source = "LAB", confidence = "M" }
        [energy.lab]
        title = "measured in our laboratory"
        kind = "events"
        status = "user"
        formula = "E = synops * synop"
        events = { synop = { value = 5.0, unit = "pJ", source = "LAB", confidence = "M" } }
        """,
    )
    assert (found.name, found.limits.cores_per_chip.value, found.limits.cores_per_chip.range) == (
        "revision-d",
        152,
        (152, 152),
    )
    assert found.limits.neurons_per_core == load_target("loihi2").limits.neurons_per_core
    assert set(found.energies) == {*load_target("loihi2").energies, "lab"}


def test_a_base_may_be_a_file_beside(tmp_path: Path) -> None:
    (tmp_path / "first.toml").write_text('base = "loihi1"\nname = "first"\n', encoding="utf-8")
    assert own(tmp_path, 'base = "first.toml"\ntitle = "second"\n').name == "first"


def test_every_wrong_missing_and_unknown_field_is_named_at_once(tmp_path: Path) -> None:
    found = breaches(
        tmp_path,
        """
        base = "loihi2"
        colour = "blue"
        title = 3
        [limits]
        cores_per_chip = 128
        neurons_per_core = { value = -1, unit = "neurons", source = "TB", confidence = "S" }
        memory_per_core = { value = 10, unit = "KB", source = "TB", confidence = "S" }
        input_axons_per_core = { value = 10, unit = "axons", source = "TB" }
        delay_max = { value = 10, unit = "steps", source = "NOWHERE", confidence = "sure" }
        delay_max_full = { value = 10, lo = 11, unit = "steps", source = "TB", confidence = "S" }
        cores = { value = 10, unit = "cores", source = "TB", confidence = "S" }
        [neuron]
        compare = { value = "fuzzy", unit = "", source = "TB", confidence = "S" }
        windows = { value = 1, unit = "", source = "TB", confidence = "S" }
        operations = { value = ["add", "divide"], unit = "", source = "own", confidence = "M" }
        [energy.mine]
        kind = "guess"
        events = { warp = { value = 1, unit = "pJ", source = "TB", confidence = "S" } }
        [timing.systems.events]
        step = { value = "soon", unit = "ns", source = "TB", confidence = "E" }
        """,
    )
    for start in (
        "unknown colour;",
        "title: must be text",
        "limits.cores_per_chip: expected a table with value, unit, source, confidence, got 128",
        "limits.neurons_per_core: value must be a whole number >= 0",
        "limits.memory_per_core: unit must be 'bytes', got 'KB'",
        "limits.input_axons_per_core: confidence missing",
        "limits.delay_max: source NOWHERE is not in [sources]",
        "limits.delay_max: confidence must be codes",
        "limits.delay_max_full: value 10 is outside lo..hi",
        "limits.cores: unknown; known: cores_per_chip",
        "neuron.compare: value must be one of strict, at-least, any",
        "neuron.windows: value must be true or false",
        "neuron.operations: value must be a list of add",
        "neuron.operations: what only we say has confidence E",
        "energy.mine.kind: must be one of events, operations",
        "energy.mine.status: must be one of",
        "energy.mine.title: must be text",
        "energy.mine.formula: must be text",
        "energy.mine.events.warp: unknown",
        "timing.systems.events.step: value must be a number >= 0, got 'soon'",
    ):
        assert sum(text.startswith(start) for text in found) == 1, (start, found)
    assert len(found) == 20


def test_a_file_without_a_base_says_everything_that_is_missing(tmp_path: Path) -> None:
    found = breaches(tmp_path, 'name = "bare"\n')
    assert "limits.cores_per_chip: missing (neuro-cores of one chip)" in found
    assert sum(": missing (" in text for text in found) > 40
    assert "encodings: nothing is given" in found


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("name = ", "not a TOML file"),
        ('base = "mine.toml"', "its bases lead back"),
        ("base = 3", "expected the name of a target"),
        ('base = "loihi3"', "target must be one of ideal, loihi1"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(InputError, match=what):
        own(tmp_path, text)


def test_unknown_names_and_partial_files_are_refused() -> None:
    with pytest.raises(InputError, match="one of ideal, loihi1"):
        load_target("base/common")
    with pytest.raises(InputError, match="cannot be read"):
        load_target("missing.toml")


def test_the_documented_file_is_a_target(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "docs" / "targets.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL)
    found = own(tmp_path, block)
    assert (found.name, found.limits.cores_per_chip.value) == ("revision-d", 152)
    assert found.energies["lab"].events["synop"].range == (5.0, 8.0)
    for table in SECTIONS:
        assert f"`{table}`" in text


def test_targets_are_public_and_load_no_torch() -> None:
    code = "import sys, snn2chip; snn2chip.load_target('loihi2'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
