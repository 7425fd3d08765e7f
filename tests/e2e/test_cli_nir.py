"""NIR files on the command line: inspect, compile by profile, export, and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

import snn2chip
from snn2chip.cli import app
from snn2chip.data import open_data

Invoke = Callable[..., str]
FIXTURES = Path(__file__).parents[1] / "unit" / "nir" / "fixtures"
NET = FIXTURES / "snntorch_mlp.nir"


def refused(*args: object) -> str:
    from typer.testing import CliRunner

    done = CliRunner().invoke(app, [str(a) for a in args])
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")
    return done.stderr


def test_inspect_says_what_is_there_and_what_fits(invoke: Invoke) -> None:
    text = invoke("inspect", NET)
    assert "0 = Affine" in text
    assert "1 = LIF" in text
    assert "values fit: snntorch" in text
    found = json.loads(invoke("inspect", NET, "--json"))
    assert found["kind"] == "nir"
    assert ["input", "0"] in found["edges"]


def test_compile_export_and_compile_again(tmp_path: Path, invoke: Invoke) -> None:
    how = ("--nir-profile", "snntorch", "--steps", "16", "--weights", "int8", "--data", "digits")
    text = invoke("compile", NET, *how, "-o", tmp_path / "a.s2c")
    assert "note: v > theta" in text or "profile snntorch" in text
    program = snn2chip.load(tmp_path / "a.s2c")
    assert program.meta["nir"] == {"profile": "snntorch", "options": {}}
    assert any("dt = 0.0001" in note for note in program.meta["notes"])
    text = invoke("export", tmp_path / "a.s2c", "--to", "nir", "-o", tmp_path / "a.nir")
    assert "reset subtract-delayed" in text
    invoke("compile", tmp_path / "a.nir", "-o", tmp_path / "b.s2c")
    assert snn2chip.load(tmp_path / "b.s2c").digest() == program.digest()
    invoke("export", NET, "--to", "nir", "--nir-profile", "snntorch", "--steps", "16", "-o", tmp_path / "c.nir")
    text = invoke("compile", tmp_path / "c.nir", "--weights", "int8", "-o", tmp_path / "c.s2c")
    assert snn2chip.load(tmp_path / "c.s2c").digest() == program.digest()


def test_what_is_missing_is_asked_for(tmp_path: Path) -> None:
    out = tmp_path / "a.s2c"
    assert "--nir-profile snntorch|spikingjelly" in refused("compile", NET, "-o", out)
    assert "give steps=T" in refused("compile", NET, "--nir-profile", "snntorch", "-o", out)
    options = ("--nir-profile", "snntorch", "--steps", "4", "-o", out, "--nir-option")
    assert "is none of dt, update" in refused("compile", NET, *options, "speed=3")
    assert "reset_delay=False" in refused("compile", NET, *options, "reset=subtract")
    assert "expected KEY=VALUE" in refused("compile", NET, *options, "levels")
    assert "X.nir files" in refused("compile", FIXTURES / "snntorch_mlp.npz", "--nir-profile", "norse", "-o", out)
    assert "known: nir" in refused("export", NET, "--to", "onnx", "-o", out)
    assert "leave out --model" in refused("compile", NET, "--nir-profile", "snntorch", "--model", "mlp", "-o", out)
    assert not out.exists()


def test_own_programs_take_no_choices(tmp_path: Path, invoke: Invoke) -> None:
    how = ("--nir-profile", "snntorch", "--steps", "2", "--data", "digits")
    invoke("compile", NET, *how, "-o", tmp_path / "a.s2c")
    invoke("export", tmp_path / "a.s2c", "--to", "nir", "-o", tmp_path / "a.nir")
    text = refused("compile", tmp_path / "a.nir", "--weights", "binary", "--steps", "3", "-o", tmp_path / "b.s2c")
    assert "holds an integer program of snn2chip; leave out --weights, --steps" in text
    assert not (tmp_path / "b.s2c").exists()


def test_export_honours_or_refuses_its_options(tmp_path: Path, invoke: Invoke) -> None:
    """--steps and --nir-profile say nothing in silence: a program has its steps, only X.nir has a profile."""
    how = ("--nir-profile", "snntorch", "--steps", "2", "--data", "digits")
    program, out = tmp_path / "a.s2c", tmp_path / "a.nir"
    invoke("compile", NET, *how, "-o", program)
    text = refused("export", program, "--to", "nir", "--steps", "3", "-o", out)
    assert "is a program of 2 steps; --steps 3 cannot change it" in text
    assert "is for X.nir files" in refused("export", program, "--to", "nir", "--nir-profile", "norse", "-o", out)
    assert not out.exists()
    invoke("export", program, "--to", "nir", "--steps", "2", "-o", out)
    text = refused("export", out, "--to", "nir", "--steps", "5", "-o", tmp_path / "b.nir")
    assert "is a program of 2 steps" in text


def test_a_toml_file_says_weights_and_rounding(tmp_path: Path, invoke: Invoke) -> None:
    widths = tmp_path / "widths.toml"
    widths.write_text('weights = "int4"\nrounding = "fitted"\n')
    how = ("--nir-profile", "snntorch", "--steps", "2", "--data", "digits", "-o", tmp_path / "a.s2c")
    invoke("compile", NET, "--quant", widths, *how)
    assert snn2chip.load(tmp_path / "a.s2c").meta["rounding"] == "fitted"
    assert "contradict each other" in refused("compile", NET, "--quant", widths, "--weights", "int8", *how)


def test_count_is_of_steps_and_sum_of_spikes(tmp_path: Path, invoke: Invoke) -> None:
    """Neurons of several spikes a step: a step counts once, whatever its level."""
    net, x = FIXTURES / "sinabs_conv.nir", open_data("digits", split="test").take(40).arrays()[0]["x"]
    for readout in ("count", "sum"):
        how = ("--nir-profile", "sinabs", "--steps", "4", "--data", "digits", "--readout", readout)
        invoke("compile", net, *how, "-o", tmp_path / "a.s2c")
        program = snn2chip.load(tmp_path / "a.s2c")
        trace = snn2chip.run(program, x.reshape(40, *program.inputs[0].raw_shape), record="all")
        spikes = trace.payloads[program.into[program.outputs[0].name][0].src].astype(np.int64)
        assert spikes.max() > 1
        want = (spikes != 0).sum(0) if readout == "count" else spikes.sum(0)
        assert np.array_equal(trace.outputs, want)
