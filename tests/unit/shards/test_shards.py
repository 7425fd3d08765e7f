"""No result depends on how many workers there are, how samples are cut, which shard ends first, or who dies."""

from __future__ import annotations

import json
import warnings

import attrs
import numpy as np
import pytest
from shard_jobs import Around, Sums
from typer.testing import CliRunner

from snn2chip.api import load, run
from snn2chip.checks.fidelity import fidelity
from snn2chip.checks.float_side import float_side
from snn2chip.cli import app
from snn2chip.errors import EnvironmentFault, InputError
from snn2chip.registry import get_backend
from snn2chip.reports.measured import measure, report_of
from snn2chip.reports.neurobench import NeurobenchCounter
from snn2chip.shards.checking import CheckJob, check_sharded
from snn2chip.shards.gather import gather
from snn2chip.shards.measuring import measure_sharded
from snn2chip.shards.opened import Engine, NamedFile, feed_of
from snn2chip.shards.partial import Partial, clear
from snn2chip.shards.running import RunJob, run_sharded
from snn2chip.shards.workers import Workers


def figures(job, workers):
    """Everything that a report says in JSON, but for the time it was made."""
    tally, measured = measure_sharded(job, workers)
    found = report_of(tally, targets=["loihi2"]).as_dict()
    del found["provenance"]
    return json.dumps([found, measured.as_dict()], sort_keys=True)


@pytest.fixture(scope="module")
def whole(small):
    """The same figures from all samples at once, by the functions that know no shards."""
    with np.load(small.x) as file:
        x, y = file["x"], file["y"]
    program = load(small.program)
    found = measure(program, [(x, y)], targets=["loihi2"], neurobench=4).as_dict()
    del found["provenance"]
    graph, model = float_side(small.checkpoint)
    with warnings.catch_warnings():
        return json.dumps([found, fidelity(program, graph, x, labels=y, model=model).as_dict()], sort_keys=True)


@pytest.mark.parametrize("shard", [None, 1, 100])
def test_a_report_in_shards_is_that_of_all_samples_at_once(measure, whole, shard):
    assert figures(measure, Workers(count=1, shard=shard)) == whole


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_a_report_does_not_depend_on_workers_or_which_shard_ends_first(measure, whole, tmp_path, count):
    late = Around(measure, "reverse", str(tmp_path / "log"))
    assert figures(late, Workers(count=count)) == whole


def test_shards_begin_on_whole_calls_and_whole_blocks_of_floats(measure):
    assert measure.grain == 64  # calls of 4, blocks of 64
    assert attrs.evolve(measure, float_file=None).grain == 4
    assert attrs.evolve(measure, counting=attrs.evolve(measure.counting, neurobench=3)).grain == 192


def test_a_worker_that_dies_costs_a_second_try_and_counts_once(tmp_path):
    dying = Around(Sums(), "kill", str(tmp_path / "log"), at=1)
    found = [tree for _, tree in gather(dying, Workers(count=2, shard=20))]
    assert dying.ran(1) == 2
    assert [i for tree in found for i in tree["samples"]] == list(range(150))
    assert sum(tree["sum"] for tree in found) == 150 * 149 // 2


def test_a_shard_that_kills_every_worker_is_named_and_the_others_are_kept(tmp_path):
    deadly = Around(Sums(), "kill", str(tmp_path / "log"), at=2, times=99)
    workers = Workers(count=2, shard=30, partial=tmp_path / "kept")
    with pytest.raises(EnvironmentFault, match=r"samples 60\.\.89: every worker that runs them dies"):
        list(gather(deadly, workers))
    kept = Partial.of(tmp_path / "kept", deadly.identity()).ranges()
    assert {(0, 30), (30, 60)} <= set(kept)
    assert (60, 90) not in kept


@pytest.mark.parametrize("count", [1, 2])
def test_a_failing_shard_is_told_once_and_the_lowest_of_several(tmp_path, count):
    failing = Around(Sums(), "fail", str(tmp_path / "log"), at=1)
    with pytest.raises(InputError) as error:
        list(gather(failing, Workers(count=count, shard=20)))
    assert str(error.value) == "samples 20..39: shard 1 is wrong"
    assert "in a worker" in str(error.value.__cause__)


def test_an_interrupted_run_goes_on_where_it_was(words, tmp_path):
    job = RunJob(**words, engine=Engine("torch"))
    workers = Workers(count=1, shard=25, partial=tmp_path / "kept")
    first = Around(job, "interrupt", str(tmp_path / "one"), at=4)
    with pytest.raises(KeyboardInterrupt):
        run_sharded(first, workers)
    assert first.ran() == 5
    second = Around(job, "none", str(tmp_path / "two"))
    got = run_sharded(second, attrs.evolve(workers, shard=50))
    assert second.ran() == 1  # samples 100..149 alone: other shards, but those that are there stay
    assert (got.outputs == run_sharded(job, Workers(count=1)).outputs).all()


def test_results_of_other_work_are_never_mixed_in(words, measure, small, tmp_path):
    folder = tmp_path / "kept"
    job = RunJob(**words, engine=Engine("torch"))
    others = [
        attrs.evolve(job, record="all"),
        attrs.evolve(job, engine=Engine("reference")),
        attrs.evolve(job, samples=attrs.evolve(job.samples, samples=149), total=149),
        measure,
        attrs.evolve(measure, float_file=None),
    ]
    changed = tmp_path / "x.npz"
    with np.load(small.x) as file:
        np.savez(changed, x=file["x"], y=(file["y"] + 1) % 10)
    others.append(attrs.evolve(job, samples=attrs.evolve(job.samples, path=str(changed))))
    list(gather(job, Workers(count=1, partial=folder)))
    for other in others:
        assert Partial.of(folder, other.identity()).ranges() == []
    assert Partial.of(folder, job.identity()).ranges() != []
    clear(folder)
    assert not folder.exists()


def test_a_damaged_or_foreign_file_among_kept_results_runs_again(words, tmp_path):
    job = RunJob(**words, engine=Engine("torch"))
    workers = Workers(count=1, shard=50, partial=tmp_path / "kept")
    want = run_sharded(job, workers)
    kept = Partial.of(tmp_path / "kept", job.identity())
    kept.path(0, 50).write_bytes(kept.path(0, 50).read_bytes()[:-9])
    kept.path(50, 100).write_bytes(b"")
    (kept.folder / "notes.txt").write_text("mine")
    counted = Around(job, "none", str(tmp_path / "log"))
    assert (run_sharded(counted, workers).outputs == want.outputs).all()
    assert counted.ran() == 2
    clear(tmp_path / "kept")
    assert [p.name for p in kept.folder.iterdir()] == ["notes.txt"]


def test_another_file_under_the_same_path_is_refused(words, small, tmp_path):
    copy = tmp_path / "net.s2c"
    copy.write_bytes(small.program.read_bytes())
    job = RunJob(**{**words, "program": NamedFile.of(copy)}, engine=Engine("torch"))
    copy.write_bytes(copy.read_bytes() + b" ")
    with pytest.raises(InputError, match="is another file here"):
        run_sharded(job, Workers(count=1))


def test_a_check_in_shards_names_the_first_divergence(words, monkeypatch):
    job = CheckJob(**words, engines=(Engine("reference"), Engine("torch")))
    want = check_sharded(job, Workers(count=1, shard=150))
    assert want.equal
    for count, shard in ((1, 7), (1, 40)):
        assert check_sharded(job, Workers(count=count, shard=shard)) == want
    monkeypatch.setattr(type(get_backend("torch")), "run", _wrong(job, sample=63))
    found = [check_sharded(job, Workers(count=1, shard=shard)) for shard in (150, 64, 10, 1)]
    assert all(one == found[0] for one in found)
    assert found[0].first.sample == 63
    assert found[0].compared == want.compared // 150 * 64


def _wrong(job, *, sample):
    """The backend's own run, with payloads of one sample and of a later one changed."""
    true_run = type(get_backend("torch")).run
    raw, _ = next(iter(feed_of(job.program, job.samples).blocks(150)))
    program = load(job.program.path)
    marks = [run(program, {k: v[i : i + 1] for k, v in raw.items()}).inputs for i in (sample, 140)]

    def changed(self, program, inputs, *, record="all"):
        trace = true_run(self, program, inputs, record=record)
        for mark in marks:
            for name, x in trace.inputs.items():
                for i in np.flatnonzero((x == mark[name]).reshape(x.shape[0], x.shape[1], -1).all((0, 2))):
                    soma = next(iter(trace.payloads))
                    trace.payloads[soma] = np.array(trace.payloads[soma])
                    trace.payloads[soma][0, i] += 1
        return trace

    return changed


def test_doubts_about_samples_are_told_once(words, small, tmp_path):
    path = tmp_path / "x.npz"
    with np.load(small.x) as file:
        np.savez(path, x=file["x"] * 0.001)
    job = RunJob(**{**words, "samples": attrs.evolve(words["samples"], path=str(path))}, engine=Engine("torch"))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        run_sharded(job, Workers(count=1, shard=20))
    assert len(told) == 1


@pytest.mark.lava
@pytest.mark.slow
def test_lava_starts_once_per_shard(words, tmp_path):
    words = {**words, "samples": attrs.evolve(words["samples"], samples=6), "total": 6}
    check = Around(CheckJob(**words, engines=(Engine("torch"), Engine("lava"))), "none", str(tmp_path / "log"))
    found = check_sharded(check, Workers(count=2))
    assert found.equal
    assert check.ran() == 2
    assert found.compared == check_sharded(attrs.evolve(check, fault=""), Workers(count=1)).compared


def test_recorded_payloads_come_together_too(words):
    job = RunJob(**words, engine=Engine("torch"), record="all")
    got, want = run_sharded(job, Workers(count=1, shard=64)), run_sharded(job, Workers(count=1, shard=150))
    for field in ("payloads", "potentials", "inputs"):
        a, b = getattr(got, field), getattr(want, field)
        assert all((a[name] == b[name]).all() and a[name].dtype == b[name].dtype for name in b)
    assert got.counts == want.counts


def test_every_sum_of_the_counters_is_carried(small):
    """A counter that gets a new sum must name it, or shards would lose it."""
    from snn2chip.reports import tally
    from snn2chip.reports.detail import DetailCounter

    program = load(small.program)
    fixed = {"program", "batch", "layers", "neurons", "bins"}
    assert set(vars(NeurobenchCounter(program))) - fixed == set(tally.BENCH)
    assert set(vars(DetailCounter(program))) - fixed - {"samples"} == set(tally.DETAIL)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"executor": "spark"}, "local, dask, ray"),
        ({"executor": "dask"}, "--scheduler"),
        ({"address": "tcp://a:1"}, "--executor"),
        ({"count": 0}, "at least 1"),
    ],
)
def test_what_does_not_go_together_is_refused(given, text):
    with pytest.raises(InputError, match=text):
        Workers(**given)


@pytest.fixture(scope="module")
def calibrated(small):
    """A residual network with sums and real samples, so that every range is taken: graph, samples."""
    from snn2chip.checkpoint_compile import checkpoint_graph

    graph, found = checkpoint_graph(small.checkpoint)
    return graph, found.raw


@pytest.mark.parametrize("shard", [1, 64, 128])
def test_calibration_in_shards_is_the_same_to_the_last_bit(calibrated, shard):
    from snn2chip.quantize.calibrate import calibrate
    from snn2chip.shards.current import sharing

    graph, raw = calibrated
    want = calibrate(graph, raw, block=16)
    with sharing(Workers(count=1, shard=shard)):
        got = calibrate(graph, raw, block=16)
    assert np.array_equal(pickled(got), pickled(want))


def test_calibration_in_another_process_and_the_command(small, tmp_path):
    done = CliRunner().invoke(
        app, ["compile", str(small.checkpoint), "-o", str(tmp_path / "net.s2c"), "--workers", "2"]
    )
    assert done.exit_code == 0, done.output
    assert load(tmp_path / "net.s2c").digest() == load(small.program).digest()


def pickled(ranges):
    """Every number of the ranges as bytes."""
    import pickle

    fields = {key: sorted(value.items()) if isinstance(value, dict) else value
              for key, value in attrs.asdict(ranges).items()}  # fmt: skip
    return np.frombuffer(pickle.dumps(fields), np.uint8)
