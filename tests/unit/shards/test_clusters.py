"""The same shards on Dask and Ray, really started here with two worker processes; and what is said without them."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
from shard_jobs import Around, Sums
from typer.testing import CliRunner

from snn2chip.api import load, run
from snn2chip.cli import app
from snn2chip.errors import EnvironmentFault, InputError
from snn2chip.shards.gather import gather
from snn2chip.shards.workers import Workers

TOTAL = 150 * 149 // 2


@pytest.fixture(scope="module")
def dask():
    """The address of a scheduler with two worker processes."""
    if find_spec("distributed") is None:
        pytest.skip("Dask is not installed; pip install 'snn2chip[dask]'")
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def ray_here():
    """Ray with two places, started here."""
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed; pip install 'snn2chip[ray]'")
    import logging

    import ray

    try:
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (Exception, SystemExit) as error:
        ray.shutdown()
        pytest.skip(f"Ray does not start on this machine: {error}")
    yield
    ray.shutdown()


@pytest.fixture
def ray_of_threads(monkeypatch):
    """What shards use of Ray, made of threads: no results before a wave is done, as Ray's own backend."""
    from joblib import register_parallel_backend
    from joblib._parallel_backends import ThreadingBackend

    class Waves(ThreadingBackend):
        supports_return_generator = False

    calls = []
    fake = SimpleNamespace(
        is_initialized=lambda: False,
        init=lambda **given: calls.append(given),
        cluster_resources=lambda: {"CPU": calls[0].get("num_cpus", 2.0)},
        shutdown=lambda: calls.append("shutdown"),
    )
    joblib = SimpleNamespace(register_ray=lambda: register_parallel_backend("ray", Waves))
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setitem(sys.modules, "ray.util.joblib", joblib)
    return calls


def outputs(path, small, tmp_path, *words):
    """What `snn2chip run` writes."""
    import numpy as np

    out = tmp_path / "out.npz"
    done = CliRunner().invoke(app, ["run", str(path), "--input", str(small.x), "-o", str(out), *words])
    assert done.exit_code == 0, done.output
    assert list(tmp_path.glob("*.shards")) == []
    with np.load(out) as file:
        return file["outputs"]


def expected(small):
    """The same without shards."""
    import numpy as np

    with np.load(small.x) as file:
        return run(load(small.program), file["x"], record="outputs").outputs


@pytest.mark.slow
def test_dask_gives_the_same_and_survives_a_worker(dask, small, tmp_path):
    found = outputs(small.program, small, tmp_path, "--executor", "dask", "--scheduler", dask, "--shard", "40")
    assert (found == expected(small)).all()
    dying = Around(Sums(), "kill", str(tmp_path / "log"), at=1)
    trees = [tree for _, tree in gather(dying, Workers(executor="dask", address=dask, shard=20))]
    assert dying.ran(1) == 2
    assert sum(tree["sum"] for tree in trees) == TOTAL
    assert [i for tree in trees for i in tree["samples"]] == list(range(150))


@pytest.mark.slow
def test_ray_gives_the_same_and_survives_a_worker(ray_here, small, tmp_path):
    found = outputs(small.program, small, tmp_path, "--executor", "ray", "--shard", "40")
    assert (found == expected(small)).all()
    dying = Around(Sums(), "kill", str(tmp_path / "log"), at=1)
    trees = [tree for _, tree in gather(dying, Workers(executor="ray", shard=50))]  # one wave: each starts its workers
    assert dying.ran(1) >= 2
    assert sum(tree["sum"] for tree in trees) == TOTAL


def test_a_cluster_that_gives_results_in_waves(ray_of_threads, small, tmp_path):
    words = ["--executor", "ray", "--address", "host:6379", "--shard", "10"]
    assert (outputs(small.program, small, tmp_path, *words) == expected(small)).all()
    assert ray_of_threads[0]["address"] == "host:6379"
    assert ray_of_threads[-1] == "shutdown"
    failing = Around(Sums(), "fail", str(tmp_path / "log"), at=6)
    with pytest.raises(InputError, match=r"samples 60\.\.69: shard 6 is wrong"):
        list(gather(failing, Workers(executor="ray", shard=10)))
    assert failing.ran() == 8  # two waves of four


def test_a_ray_of_one_place(ray_of_threads, monkeypatch):
    """Ray's pool takes no more places than the cluster has, and joblib runs one place in this process."""
    assert sum(tree["sum"] for _, tree in gather(Sums(), Workers(executor="ray", count=1))) == TOTAL
    assert ray_of_threads[0]["num_cpus"] == 2
    monkeypatch.setattr(sys.modules["ray"], "cluster_resources", lambda: {"CPU": 1.0})
    with pytest.raises(EnvironmentFault, match="two CPUs or more, this one has 1"):
        list(gather(Sums(), Workers(executor="ray", address="host:1")))
    assert ray_of_threads[-1] == "shutdown"


def test_a_ray_named_by_the_environment_is_not_sized(ray_of_threads, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "host:6379")
    assert sum(tree["sum"] for _, tree in gather(Sums(), Workers(executor="ray", count=4096))) == TOTAL
    assert "num_cpus" not in ray_of_threads[0]


def test_a_ray_that_does_not_answer_is_the_machines_fault(ray_of_threads, monkeypatch):
    for error in (ConnectionError("nobody there"), SystemExit(1), Exception("timed out")):

        def silent(error=error, **given):
            raise error

        monkeypatch.setattr(sys.modules["ray"], "init", silent)
        with pytest.raises(EnvironmentFault, match="no Ray cluster at host:1"):
            list(gather(Sums(), Workers(executor="ray", address="host:1")))


@pytest.mark.parametrize(("name", "package"), [("dask", "distributed"), ("ray", "ray")])
def test_a_missing_package_leaves_with_3_and_how_to_install_it(small, monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    done = CliRunner().invoke(app, ["run", str(small.program), "--executor", name, "--scheduler", "tcp://127.0.0.1:1"])
    assert done.exit_code == 3
    assert f"pip install 'snn2chip[{name}]'" in done.output


@pytest.mark.skipif(find_spec("distributed") is None, reason="Dask is not installed")
def test_a_silent_address_is_the_machines_fault(monkeypatch):
    monkeypatch.setattr("snn2chip.shards.workers.CONNECT_SECONDS", 1)
    with pytest.raises(EnvironmentFault, match="no Dask scheduler answers at tcp://127"):
        list(gather(Sums(), Workers(executor="dask", address="tcp://127.0.0.1:9")))
