"""The page in a real browser: no console error, every figure with an area; and the verb that writes it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from snn2chip import Program
from snn2chip.cli import app

pytest.importorskip("matplotlib", reason="pages need the extra `report`")
BROWSER = next((p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))), None)
MEASURE = """<script>
const seen = [...document.querySelectorAll('figure')].map(f => [f.dataset.figure,
  ...[...f.querySelectorAll('svg')].map(s => Math.round(s.getBoundingClientRect().height))]);
document.title = JSON.stringify({seen, wide: document.documentElement.scrollWidth, inner: innerWidth});
</script></body>"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two programs that differ in their threshold, one sample file."""
    folder = tmp_path_factory.mktemp("report")
    from snn2chip import Input, Output, Soma, Synapse

    weight = np.random.default_rng(0).integers(-8, 8, (8, 1, 3, 3))
    dense = np.random.default_rng(1).integers(-8, 8, (4, 8 * 16))
    for name, theta in (("a", 20), ("b", 60)):
        Program(
            nodes=[
                Input("x", (1, 6, 6), 0, 7), Synapse("w", "conv2d", weight), Soma("s", (8, 4, 4), theta=theta),
                Synapse("v", "linear", dense), Soma("read", (4,), fire="none"), Output("o"),
            ],
            edges=[("x", "w"), ("w", "s"), ("s", "v"), ("v", "read"), ("read", "o")],
            steps=4,
            meta={"name": name},
        ).save(folder / f"{name}.s2c")  # fmt: skip
    x = np.random.default_rng(2).integers(0, 8, (12, 1, 6, 6))
    np.savez(folder / "x.npz", x=x, y=np.zeros(12, int))
    return folder


def call(*args: str):
    result = CliRunner().invoke(app, ["report", *map(str, args)])
    return result


def test_the_verb_writes_everything_asked_for(files) -> None:
    out = {kind: files / f"out.{kind}" for kind in ("json", "csv", "html")}
    options = [x for kind, path in out.items() for x in (f"--{kind}", path)]
    bench = files / "nb.json"
    result = call(files / "a.s2c", "--input", files / "x.npz", "--target", "loihi2", *options, "--neurobench", bench)
    assert result.exit_code == 0, result.output
    assert {t["name"] for t in json.loads(out["json"].read_text())["costs"]["targets"]} == {"loihi2"}
    assert json.loads(bench.read_text())["samples"] == 12
    assert "interval" in result.output
    assert "caveat: Energies are modelled, not measured" in result.output
    assert len(out["csv"].read_text().splitlines()) == 3


def test_quick_counts_only(files) -> None:
    result = call(files / "a.s2c", "--input", files / "x.npz", "--quick")
    assert result.exit_code == 0, result.output
    assert "energy" not in result.output
    assert call(files / "a.s2c", "--quick", "--html", files / "q.html").exit_code == 2
    result = call(files / "a.s2c", "--quick", "--board-power", 50)
    assert result.exit_code == 2
    assert "leave it out for" in result.output


def test_two_programs_side_by_side(files) -> None:
    a, b = files / "a.s2c", files / "b.s2c"
    out = files / "ab.json"
    result = call("--compare", a, b, "--input", files / "x.npz", "--json", out, "--html", files / "ab.html")
    assert result.exit_code == 0, result.output
    assert "A: a.s2c" in result.output
    rows = {row["figure"]: row for row in json.loads(out.read_text())["rows"]}
    assert rows["spikes per sample"]["ratio"] < 1  # the higher threshold fires less
    assert "B: b.s2c" in (files / "ab.html").read_text()
    assert call(a, b, "--input", files / "x.npz").exit_code == 2
    assert call("--compare", a, "--input", files / "x.npz").exit_code == 2


def test_without_matplotlib_the_page_is_refused_before_anything_runs(files, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("snn2chip.cli.report.made", None)  # would fail if called
    result = call(files / "a.s2c", "--html", files / "never.html")
    assert result.exit_code != 0
    assert "pip install 'snn2chip[report]'" in result.output + str(result.exception)
    assert not (files / "never.html").exists()


def browse(page: Path, width: int) -> tuple[str, str]:
    """The DOM after layout, and what the console said."""
    assert BROWSER is not None
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0",
               f"--user-data-dir={page.parent / 'profile'}", f"--window-size={width},900", "--dump-dom",
               page.as_uri()]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
@pytest.mark.parametrize("width", [500, 1200])
def test_in_chromium_every_figure_has_an_area_and_the_console_is_silent(files, width) -> None:
    page = files / f"page{width}.html"
    result = call(files / "a.s2c", "--input", files / "x.npz", "--html", page)
    assert result.exit_code == 0, result.output
    drawn = looked_at(page, width)
    assert {"network", "rasters", "membranes", "firing", "rates", "payloads", "energy-chips", "cores-loihi2"} <= set(
        drawn
    )


def looked_at(page: Path, width: int) -> dict[str, list[int]]:
    """Heights of the drawings of every figure, in a window so wide, where nothing may stick out or complain."""
    page.write_text(page.read_text().replace("</body>", MEASURE))
    dom, console = browse(page, width)
    assert console == ""
    title = dom[dom.index("<title>") + 7 : dom.index("</title>")].replace("&quot;", '"')
    found = json.loads(title)
    drawn = {name: heights for name, *heights in found["seen"]}
    assert all(heights and min(heights) > 60 for heights in drawn.values()), drawn
    assert found["wide"] <= found["inner"]  # nothing sticks out of a narrow window
    return drawn


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
@pytest.mark.parametrize("width", [500, 1200])
def test_in_chromium_the_float_side_fits_too(files, width) -> None:
    import torch
    from torch import nn

    import snn2chip
    from snn2chip.checks.float_model import FloatModel
    from snn2chip.quantize.calibrate import calibrate
    from snn2chip.quantize.lower import lower
    from snn2chip.testing import graphs

    x = np.random.default_rng(0).integers(0, 16, (8, 1, 6, 6))
    graph = graphs.chain(3)
    program = lower(graph, calibrate(graph, x), meta={"name": "chain"})
    model = FloatModel(module=nn.Linear(36, 3), prepare=lambda raw: torch.as_tensor(raw).float().flatten(1))
    report = snn2chip.report(
        program, x, labels=np.zeros(8, int), float_graph=graph, float_model=model, targets=("loihi2",), sensitivity=4
    )
    page = files / f"float{width}.html"
    page.write_text(report.html())
    wanted = {"versus-energy", "versus-latency", "divergence-depth", "divergence-time", "errors", "sensitivity"}
    assert wanted <= set(looked_at(page, width))


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_a_console_error_would_be_seen(files) -> None:
    page = files / "broken.html"
    page.write_text("<!doctype html><title>x</title><script>nonsense()</script>")
    assert "nonsense is not defined" in browse(page, 800)[1]
