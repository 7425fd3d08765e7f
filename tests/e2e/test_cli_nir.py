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


def test_export_takes_options_of_the_profile(tmp_path: Path, invoke: Invoke) -> None:
    """Files that need a floor or levels could be compiled and not exported."""
    net, out = FIXTURES / "sinabs_mlp.nir", tmp_path / "a.nir"
    how = ("--nir-profile", "sinabs", "--steps", "2", "--to", "nir", "-o", out)
    text = invoke("export", net, *how, "--nir-option", "floor=-1", "--nir-option", "levels=7")
    assert "a floor of the potential" in text
    assert "up to 7 spikes in one step" in text
    assert "is none of dt, update" in refused("export", net, *how, "--nir-option", "speed=3")
    assert "expected KEY=VALUE" in refused("export", net, *how, "--nir-option", "levels")
    assert "given twice" in refused("export", net, *how, "--nir-option", "levels=7", "--nir-option", "levels=9")
    again = ("--to", "nir", "-o", tmp_path / "b.nir")
    assert "leave out the options levels" in refused("export", out, *again, "--nir-option", "levels=3")
    assert "has 2 steps, steps=4 cannot" in refused("export", out, *again, "--steps", "4")
    program = tmp_path / "p.s2c"
    invoke("compile", NET, "--nir-profile", "snntorch", "--steps", "2", "--data", "digits", "-o", program)
    assert "--nir-option is for X.nir files" in refused("export", program, *again, "--nir-option", "levels=3")
    invoke("export", program, *again)
    text = refused("export", tmp_path / "b.nir", "--to", "nir", "-o", tmp_path / "c.nir", "--nir-option", "levels=3")
    assert "leave out --nir-option" in text


def test_levels_are_held_against_all_samples_and_noted(tmp_path: Path, invoke: Invoke) -> None:
    """Of 80 samples the last ones are strong: 9 spikes a step fit 15 levels, 54 do not."""
    import h5py

    net = tmp_path / "a.nir"
    with h5py.File(net, "w") as file:
        nodes = file.create_group("node/nodes")
        file["node/type"] = "NIRGraph"
        edges = [["input", "fc"], ["fc", "z"], ["z", "output"]]
        file["node"].create_dataset("edges", data=np.array(edges, object), dtype=h5py.string_dtype())
        for name, fields in {
            "input": {"type": "Input", "shape": np.array([6])},
            "fc": {"type": "Linear", "weight": np.ones((4, 6))},
            "z": {"type": "IF", "r": np.ones(4), "v_threshold": np.ones(4)},
            "output": {"type": "Output", "shape": np.array([4])},
        }.items():
            for key, value in fields.items():
                nodes[f"{name}/{key}"] = value
    x = np.zeros((80, 6), int)
    x[:, 0] = 1
    how = ("--nir-profile", "sinabs", "--steps", "3", "-o", tmp_path / "a.s2c", "--data", tmp_path / "x.npz")
    x[70:] = [2, 2, 2, 1, 1, 1]
    np.savez(tmp_path / "x.npz", x=x, y=np.zeros(80, int))
    text = invoke("compile", net, *how)
    want = "z: at most 9 spikes in a step on 80 calibration samples; of more than 15 in one step the rest waits"
    assert want in text.replace("(z)", "").replace("z :", "z:")
    assert any("at most 9 spikes" in note for note in snn2chip.load(tmp_path / "a.s2c").meta["notes"])
    x[70:] = 9
    np.savez(tmp_path / "x.npz", x=x, y=np.zeros(80, int))
    assert "would send 54 spikes in a step, 15 are allowed; --nir-option levels=108" in refused("compile", net, *how)
