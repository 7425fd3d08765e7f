"""The judge can say no: every kind of defect, put into a door on purpose, is found and named."""

from __future__ import annotations

import os
import pickle
import random
import warnings
from pathlib import Path

import attrs
import numpy as np
import pytest

from snn2chip.errors import EnvironmentFault, FileFormatError, Snn2ChipError
from snn2chip.testing.fuzz import judge
from snn2chip.testing.fuzz.archives import code
from snn2chip.testing.fuzz.doors import DOORS, Door
from snn2chip.testing.fuzz.run import Job, run_jobs


def none_of_ours(path):
    raise KeyError("x")


def swallowed(path):
    try:
        np.empty(1 << 62, np.int8)
    except MemoryError as error:
        raise FileFormatError("too large") from error


def fault(path):
    raise EnvironmentFault("no machine")


def silent(path):
    raise FileFormatError("")


def endless(path):
    raise Snn2ChipError("x" * 30_000)  # the errors of files and programs bound theirs


def warning(path):
    warnings.warn("overflow", RuntimeWarning, stacklevel=1)


def writes(path):
    path.with_name("left.txt").write_text("x")


def executes(path):
    pickle.loads(code(random.Random(1)))


def loops(path):
    while True:
        pass


DEFECTS = {
    none_of_ours: "KeyError at",
    swallowed: "tries to allocate",
    fault: "exit code 3",
    silent: "a message of 0 letters",
    endless: "a message of 30000 letters",
    warning: "warns: RuntimeWarning",
    writes: "leaves files behind",
    executes: "executes what is in the file",
    loops: "takes more than",
}


def bench_of(load, folder, monkeypatch):
    door = Door(name="mine", ending=".x", seeds=lambda f: [b"sound"], damage=lambda d, rng: b"bad", load=_after(load))
    monkeypatch.setitem(judge.DOORS, "mine", door)
    return judge.Bench("mine", folder)


def _after(load):
    """Sound for the sound input, `load` for any other."""
    return lambda path: None if path.read_bytes() == b"sound" else load(path)


@pytest.mark.parametrize("load", DEFECTS, ids=lambda f: f.__name__)
def test_defects_are_found(load, tmp_path, monkeypatch):
    monkeypatch.setattr(judge, "SECONDS", 0.2)
    bench, tally = bench_of(load, tmp_path, monkeypatch), judge.Tally(door="mine")
    for index in range(2):
        bench.judge(index, tally)
    assert tally.sound == tally.refused == 0
    ((text, inputs),) = tally.defects.items()
    assert DEFECTS[load] in text
    assert inputs == [0, 1]
    assert [p.name for p in bench.folder.iterdir()] == ["victim.x"]


def test_clear_errors_and_sound_objects_are_none(tmp_path, monkeypatch):
    def refused(path):
        raise FileFormatError("a.x: damaged")

    for load, counts in ((refused, (0, 1)), (lambda path: path, (1, 0))):
        tally = judge.Tally(door="mine")
        bench_of(load, tmp_path, monkeypatch).judge(0, tally)
        assert (tally.sound, tally.refused, tally.defects) == (*counts, {})


def test_a_child_that_dies_costs_one_input(tmp_path, monkeypatch):
    """A door that kills its process at one input: that input is the defect, those behind it are judged."""
    site = tmp_path / "sitecustomize.py"
    site.write_text(
        "import os, sys\n"
        "if '--child' in sys.argv or '--child' in ' '.join(getattr(sys, 'orig_argv', [])):\n"
        "    import random\n"
        "    from snn2chip.testing.fuzz import judge\n"
        "    whole = judge.Bench.judge\n"
        "    judge.Bench.judge = lambda self, i, tally: os.abort() if i == 3 else whole(self, i, tally)\n"
    )
    paths = [str(tmp_path), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(p for p in paths if p))
    (tally,) = run_jobs([Job("artifacts", 0, 8)])
    ((text, inputs),) = tally.defects.items()
    assert text.startswith("the process dies with -6")
    assert inputs == [3]
    assert tally.inputs == 8


def test_every_door_is_a_door():
    assert all(isinstance(door, Door) and door.ending.startswith(".") for door in DOORS.values())
    assert attrs.has(Door)
    assert Path(judge.__file__).exists()
