"""A digest of sources changes with every file of a package, and with nothing else."""

from __future__ import annotations

import subprocess
import sys

import pytest

from snn2chip.sources import _files, source_digest


@pytest.fixture
def digest(monkeypatch, tmp_path):
    """The digest of what lies in an empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)

    def found(*names):
        source_digest.cache_clear()
        return source_digest(*names)

    yield found
    source_digest.cache_clear()


def test_every_file_of_a_module_or_package_counts(digest, tmp_path):
    (tmp_path / "mynet_one.py").write_text("raise SystemExit\n")  # nothing is imported
    (tmp_path / "mynet_two" / "deep").mkdir(parents=True)
    for place in ("__init__.py", "a.py", "deep/b.py"):
        (tmp_path / "mynet_two" / place).write_text("raise SystemExit\n")
    (tmp_path / "mynet_two" / "notes.txt").write_text("x")
    seen = [digest("mynet_one"), digest("mynet_two"), digest("mynet_one", "mynet_two"), digest("mynet_three")]
    (tmp_path / "mynet_one.py").write_text("raise SystemExit \n")
    seen.append(digest("mynet_one"))
    for place in ("__init__.py", "a.py", "deep/b.py"):
        (tmp_path / "mynet_two" / place).write_text("x = 1\n")
        seen.append(digest("mynet_two"))
    (tmp_path / "mynet_two" / "a.py").rename(tmp_path / "mynet_two" / "c.py")
    seen.append(digest("mynet_two"))
    assert len(set(seen)) == len(seen)
    (tmp_path / "mynet_two" / "notes.txt").write_text("y")
    assert digest("mynet_two.deep") == digest("mynet_two", "mynet_two.b") == seen[-1]


def test_this_program_is_all_of_its_packages():
    own = ("snn2chip", "snn2chip_backends", "snn2chip_models")
    named = {f"{name}/{place}" for name in own for place, _ in _files(name)}
    assert {"snn2chip/shards/pool.py", "snn2chip_backends/torch/__init__.py", "snn2chip_models/registry.py"} <= named
    assert source_digest() == source_digest(*own)
    assert source_digest("sys") != source_digest("time")  # built in: their names


def test_another_process_finds_the_same():
    words = [sys.executable, "-c", "from snn2chip.sources import source_digest as d; print(d('attrs', 'typer'))"]
    found = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    assert found == source_digest("attrs", "typer")
