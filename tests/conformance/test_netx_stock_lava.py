"""Lava's own network of a `.net` file (lava-dl's netx.hdf5.Network: stock LIF, Dense, DelayDense, Conv) against ours.

Every spike of every layer, and the potentials of the small ones. NetX runs in machine time: with input neurons, layer k
(0: the input) does logical step t in machine step t + k; a network fed with spikes has no layer 0, and its first layer
is k = 1. Samples follow each other when NetX is told to reset: every T steps, and one step later than its default where
the network is fed with spikes.

The one known difference is the pipeline's fill: before its first input a layer of NetX integrates its bias and may
fire, which a program does not; those steps are left out, and one test counts them.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest

import snn2chip
from snn2chip.frontends.netx import import_netx

pytestmark = pytest.mark.lava
HELPERS = Path(__file__).resolve().parents[1] / "unit" / "netx"
LIMIT = 240
SIGMA_DELTA = "exported: sigma-delta"
ENCODED = ("sigma-delta", SIGMA_DELTA)
EXPORTED = ("if with bias and gain", "current-based", "conv")
ENTERED = ("input neurons, planes", "input neurons, aligned")


def load(name: str):
    """A helper module that lies beside the unit tests."""
    spec = importlib.util.spec_from_file_location(f"stock_{name}", HELPERS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Cases:
    """Networks, their input, and what NetX did, all run by one child process."""

    def __init__(self, folder: Path) -> None:
        shipped = Path(str(distribution("lava-dl").locate_file("tests/lava/lib/dl/netx")))
        rng = np.random.default_rng(2024)
        small = load("netx_small")
        self.nets = small.small_nets(load("netx_files"), folder, rng)
        self.pipelined = set(small.MACHINE_TIME)
        exported = load("test_netx_export")
        made = {**exported.NETS, **exported.ENTRIES}
        self.originals = {f"exported: {name}": made[name]() for name in (*EXPORTED, *ENTERED)}
        for i, (name, program) in enumerate(self.originals.items()):
            exported.export_netx(program, folder / f"small_exported{i}.net")
            given = program.inputs[0].payload_type()
            steps = (exported.STEPS,) if program.inputs[0].coding == "steps" else ()
            x = rng.integers(given.lo, given.hi + 1, (*steps, *program.inputs[0].shape))
            self.nets[name] = (folder / f"small_exported{i}.net", x)
        changes = load("test_netx_export_changes")
        self.originals[SIGMA_DELTA] = changes.sigma_delta()
        changes.export_netx(self.originals[SIGMA_DELTA], folder / "small_changes.net")
        x = rng.integers(-100, 101, (changes.STEPS, *self.originals[SIGMA_DELTA].inputs[0].shape))
        self.nets[SIGMA_DELTA] = (folder / "small_changes.net", x)
        self.pipelined.add(SIGMA_DELTA)
        if (shipped / "tiny.net").is_file():
            bias = np.load(shipped / "gts/tinynet/input_bias.npy").astype(int).transpose(2, 1, 0)
            self.nets["tiny.net"] = (shipped / "tiny.net", bias)
            self.nets["mnist.net"] = (shipped / "mnist.net", rng.integers(-12, 140, 784))
        self.steps: dict[str, int] = {}
        self.samples: dict[str, int] = {}
        self.fed: dict[str, bool] = {}
        self.out = {name: folder / f"{i}.npz" for i, name in enumerate(self.nets)}
        jobs = [self._job(name, folder / f"{i}.npy") for i, name in enumerate(self.nets)]
        (folder / "jobs.json").write_text(json.dumps(jobs))
        guarded([sys.executable, str(HELPERS / "stock_netx.py"), str(folder / "jobs.json")], folder)

    def _job(self, name: str, file: Path) -> dict[str, object]:
        path, x = self.nets[name]
        self.fed[name] = fed = path.stem.startswith("small") and "input neurons" not in name
        delayed = "delay" in name or name in self.pipelined
        self.steps[name] = steps = len(x) if fed else (8 if name == "mnist.net" else 16)
        self.samples[name] = samples = 1 if delayed or name == "mnist.net" else 3
        np.save(file, np.concatenate([x] * samples) if fed else x)
        options: dict[str, object] = {} if delayed else {"reset_interval": steps, "reset_offset": int(fed)}
        if fed and x.ndim == 4:
            options["input_shape"] = x.shape[:0:-1]
        if name == "sigma-delta behind payloads":
            options["input_message_bits"] = 10
        program = self.program(name)
        somas = enumerate(program.somas)  # a relay keeps nothing itself
        watch = {str(k): variable(soma) for k, soma in somas if soma.size <= 64 and soma.fire != "relay"}
        if name in ENCODED:
            watch.pop("0", None)  # its encoder keeps the input with other fraction bits than ours
        return {
            "net": str(path),
            "input": str(file),
            "kind": "encoded" if name in ENCODED else "spikes" if fed else "bias",
            "steps": steps * samples + (0 if name in self.pipelined else len(program.somas) + 1),
            "options": options,
            "watch": watch,
            "out": str(self.out[name]),
        }

    def netx(self, name: str) -> dict[str, np.ndarray]:
        """What NetX's blocks did, `s<k>` and `v<k>` per machine step."""
        return dict(np.load(self.out[name]))

    def program(self, name: str):
        payloads = {"input_range": (-512, 511)} if name == "sigma-delta behind payloads" else {}
        where = name in self.pipelined
        return import_netx(self.nets[name][0], steps=self.steps[name], pipelined=where, **payloads)

    def lag(self, name: str, k: int) -> int:
        """Machine steps by which layer `k` is behind its logical steps."""
        return 0 if name in self.pipelined else k + self.fed[name]

    def input(self, name: str):
        """One sample as our input."""
        x = self.nets[name][1]
        return x[:, None] if self.fed[name] else x[None]


def variable(soma) -> str:
    """Lava's name of what a soma shows as its potential."""
    if soma.fire == "delta":
        return "act"
    return "sigma" if soma.syn_leak is not None and soma.reset == "drop" else "v"


def guarded(command: list[str], folder: Path) -> None:
    """Run a command in a session of its own and end all of it after LIMIT seconds: Lava hangs when a model raises.

    The session gets a moment to end by itself: the last process in it gives Lava's shared memory back.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (folder / "log.txt").open("w") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=folder, start_new_session=True)
        code = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = child.wait(LIMIT)
        with contextlib.suppress(ProcessLookupError):
            if code is None:
                os.killpg(child.pid, signal.SIGTERM)
            for _ in range(100):
                os.killpg(child.pid, 0)
                time.sleep(0.1)
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    said = (folder / "log.txt").read_text()[-3000:]
    assert code == 0, f"NetX {'hung' if code is None else f'ended with {code}'}:\n{said}"


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> Cases:
    if sys.version_info[:2] != (3, 10):
        pytest.skip("lava-nc 0.10 needs Python 3.10")
    try:
        distribution("lava-dl")
    except PackageNotFoundError:
        pytest.skip("lava-dl is not installed")
    return Cases(tmp_path_factory.mktemp("stock"))


NAMES = [
    "dense, leaky, odd 9-bit weights",
    "excitatory, then inhibitory with bias",
    "bias, read-out without neuron",
    "negative weights that NetX turns to zero",
    "delays per target",
    "delays per source and 62",
    "conv, stride, padding, groups, flatten",
    "input neurons",
    *load("netx_small").MACHINE_TIME,
    *(f"exported: {name}" for name in (*EXPORTED, *ENTERED)),
    SIGMA_DELTA,
    "tiny.net",
    "mnist.net",
]


@pytest.mark.parametrize("name", NAMES)
def test_every_layer_equals_netx(cases, name):
    """All samples, all steps, all neurons: spikes always, potentials of layers up to 64 neurons."""
    program, netx, steps = cases.program(name), cases.netx(name), cases.steps[name]
    trace = snn2chip.run(program, cases.input(name), backend="reference")
    compared = 0
    for k, soma in enumerate(program.somas):
        lag = cases.lag(name, k)
        for sample in range(cases.samples[name]):
            at = slice(sample * steps + lag, (sample + 1) * steps + lag)
            if variable(soma) == "sigma" and soma.fire == "none":  # NetX sends it, we only read it
                assert (netx[f"s{k}"][at] == trace.potentials[soma.name][:, 0]).all()
                continue
            assert (netx[f"s{k}"][at] == trace.payloads[soma.name][:, 0]).all(), (soma.name, sample)
            if f"v{k}" in netx:
                v = whole(netx[f"v{k}"][at], soma.shape)
                assert (v == trace.potentials[soma.name][:, 0]).all(), (soma.name, sample)
                compared += v.size
    assert compared > 0
    assert all(trace.payloads[soma.name].any() or soma.fire == "none" for soma in program.somas)


@pytest.mark.parametrize("name", [f"exported: {name}" for name in (*EXPORTED, *ENTERED)])
def test_netx_runs_what_we_export(cases, name):
    """Every spike of the program that was written, in lava-dl's own network of the file."""
    program, netx, steps = cases.originals[name], cases.netx(name), cases.steps[name]
    trace = snn2chip.run(program, cases.input(name), backend="reference", time_axis=cases.fed[name])
    for k, soma in enumerate(program.somas):
        for sample in range(cases.samples[name]):
            lag = cases.lag(name, k)
            at = slice(sample * steps + lag, (sample + 1) * steps + lag)
            expected = trace.payloads[soma.name][:, 0]
            assert (netx[f"s{k}"][at].reshape(expected.shape) == expected).all(), (soma.name, sample)


def test_netx_runs_the_sigma_delta_program_that_we_export(cases):
    """Every change of the program that was written, and the sum that it reads, in the same steps."""
    program, netx = cases.originals[SIGMA_DELTA], cases.netx(SIGMA_DELTA)
    trace = snn2chip.run(program, cases.nets[SIGMA_DELTA][1][:, None], backend="reference", time_axis=True)
    for k, soma in enumerate(program.somas):
        expected = (trace.potentials if soma.fire == "none" else trace.payloads)[soma.name][:, 0]
        assert (netx[f"s{k}"].reshape(expected.shape) == expected).all(), soma.name
        assert expected.any()


def whole(v, shape):
    """A monitor's flat rows (WHC order) as `[T, C, H, W]`."""
    return v.reshape(len(v), *shape[::-1]).transpose(0, *range(len(shape), 0, -1))


@pytest.mark.parametrize("name", NAMES)
def test_reference_and_torch_agree(cases, name):
    result = snn2chip.check(cases.program(name), cases.input(name), backends=("reference", "torch"))
    result.raise_if_different()
    assert result.compared > 0


@pytest.mark.parametrize(
    "name",
    [
        "dense, leaky, odd 9-bit weights",
        "delays per target",
        "conv, stride, padding, groups, flatten",
        "recurrent",
        "sigma-delta",
        pytest.param("input neurons", marks=pytest.mark.slow),
        pytest.param("tiny.net", marks=pytest.mark.slow),
    ],
)
def test_our_lava_backend_agrees(cases, name):
    """The imported program as Lava processes of our own making and choosing, against the torch backend."""
    result = snn2chip.check(cases.program(name), cases.input(name), backends=("torch", "lava"))
    result.raise_if_different()
    assert result.compared > 0


def test_pipeline_fill_is_the_known_difference(cases):
    """In machine step 0 every neuron of tiny.net behind the input with 64 bias > 64 * 25 fires without any input.

    Layers 1 and 2 have not seen logical step 0 yet; no step of a program stands for these spikes.
    """
    netx, program = cases.netx("tiny.net"), cases.program("tiny.net")
    for k, soma in enumerate(program.somas[1:], start=1):
        fill = np.broadcast_to(soma.at("bias") > 64 * 25, soma.shape)
        assert (netx[f"s{k}"][0] == fill).all()
        assert fill.any()
