"""The page: self-contained, a table for every figure, no id twice, drawn for any program; snippets for notebooks."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser

import attrs
import numpy as np
import pytest
import torch
from torch import nn

import snn2chip
from snn2chip.checks.float_model import FloatModel
from snn2chip.quantize.calibrate import calibrate
from snn2chip.quantize.lower import lower
from snn2chip.registry import get_backend
from snn2chip.reports.costs import costs
from snn2chip.reports.detail import DetailCounter
from snn2chip.reports.glimpse import glimpse
from snn2chip.reports.page import comparison_page, page
from snn2chip.reports.report import Report, layer_rows
from snn2chip.testing import graphs
from snn2chip.testing.programs import random_program

pytest.importorskip("matplotlib", reason="pages need the extra `report`")
FIGURES = {"network", "rasters", "membranes", "firing", "rates", "payloads", "errors", "sensitivity", "energy-chips",
           "energy-off", "verdicts", "cores-loihi1", "cores-loihi2", "versus-energy", "versus-latency",
           "divergence-depth", "divergence-time"}  # fmt: skip


class Reader(HTMLParser):
    """Figures with their number of drawings and tables, ids, what would be loaded, and tags left open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.figures: Counter[str] = Counter()
        self.tables: Counter[str] = Counter()
        self.ids: Counter[str] = Counter()
        self.loads: list[str] = []
        self.unlabelled = 0
        self.now = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        found = dict(attrs)
        if "id" in found:
            self.ids[found["id"]] += 1
        if tag == "figure":
            self.now = found["data-figure"]
        if tag == "h3" or tag == "h2":
            self.now = ""
        if tag == "svg":
            self.figures[self.now] += 1
            self.unlabelled += not found.get("aria-label")
        if tag == "table":
            self.tables[self.now] += 1
        self.loads += [v for k, v in found.items() if k in ("src", "href", "xlink:href", "srcset", "action") and v]


@pytest.fixture(scope="module")
def whole() -> Report:
    x = np.random.default_rng(0).integers(0, 16, (20, 1, 6, 6))
    graph = graphs.chain(2)
    program = lower(graph, calibrate(graph, x), meta={"name": "<chain> & co"})
    model = FloatModel(module=nn.Linear(36, 3), prepare=lambda raw: torch.as_tensor(raw).float().flatten(1))
    found = snn2chip.report(
        program, x, labels=np.zeros(20, int), float_graph=graph, float_model=model, targets=("loihi1", "loihi2"),
        sensitivity=6,
    )  # fmt: skip
    return attrs.evolve(found, notes=("mind the <gap>",))


@pytest.fixture(scope="module")
def text(whole) -> str:
    return whole.html()


def test_every_figure_is_there_with_a_table_under_it(text) -> None:
    found = Reader(text)
    assert set(found.figures) == FIGURES
    assert all(found.tables[name] >= 1 for name in FIGURES)
    assert found.unlabelled == 0
    assert found.figures["rasters"] >= 2  # a drawing per population
    assert found.figures["membranes"] == 3
    assert found.figures["divergence-time"] == 3  # payloads, spikes, potentials
    assert found.tables["divergence-time"] == 3
    assert found.figures["sensitivity"] == 2


def test_nothing_is_loaded_from_anywhere(text) -> None:
    for link in Reader(text).loads:
        assert link.startswith(("#", "data:")), link
    assert not re.search(r"@import|url\((?!#)|<script|<link (?!rel=\"icon\")", text)
    assert len(text.encode()) < 3_000_000


def test_no_id_is_used_twice_and_every_reference_is_met(text) -> None:
    ids = Reader(text).ids
    assert [name for name, n in ids.items() if n > 1] == []
    used = set(re.findall(r'href="#([^"]+)"', text)) | set(re.findall(r"url\(#([^)]+)\)", text))
    assert used <= set(ids)


def test_light_dark_phone_and_escapes(text) -> None:
    assert "prefers-color-scheme:dark" in text
    assert 'name="viewport"' in text
    assert "&lt;chain&gt; &amp; co" in text
    assert "<chain>" not in text
    assert text.index("mind the &lt;gap&gt;") < text.index("<h2>")  # what one must know stands first
    assert "#010203" not in text  # ink follows the page


@pytest.mark.parametrize("seed", [3, 7, 19])
def test_random_programs_can_be_drawn(seed) -> None:
    """Products, loops, windows, pools, several inputs."""
    case = random_program(seed)
    trace = get_backend("torch").run(case.program, case.coded)
    counter = DetailCounter(case.program)
    counter.add(trace)
    detail = counter.result()
    report = Report(
        name=case.name, digest=case.program.digest(), samples=trace.samples, steps=case.program.steps,
        accuracy={"float": None, "integer": None}, agreement=None, totals=trace.counts.totals,
        layers=layer_rows(case.program, trace.counts), fidelity=None, detail=detail,
        costs=costs(case.program, detail), program=case.program, glimpse=glimpse(case.program, trace),
    )  # fmt: skip
    found = Reader(page(report))
    assert {"network", "energy-chips", "energy-off", "verdicts"} <= set(found.figures)
    assert all(n == 1 for n in found.ids.values())


def test_two_reports_on_one_page(whole) -> None:
    text = comparison_page(whole, whole, ["a.s2c", "b.s2c"])
    assert "A: a.s2c" in text
    assert "events x set bits per sample" in text


def test_notebooks_show_programs_results_and_reports(whole) -> None:
    program = whole.program._repr_html_()
    assert "&lt;chain&gt;" in program
    assert "16x6x6" in program or "x6x6" in program
    assert "synaptic events per sample" in whole._repr_html_()
    x = np.zeros((1, 1, 6, 6), int)
    assert "equal" in snn2chip.check(whole.program, x, backends=("reference", "torch"))._repr_html_()
    assert "n1" in snn2chip.run(whole.program, x)._repr_html_()
