"""Judge mutants in forked children: most by an exchange of code, what runs at import by a changed import."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs

from benchmarks.mutation.draw import Mutant
from benchmarks.mutation.rooms import ROOT, compiled

Work = Sequence[tuple[Mutant, list[str]]]


def judge(work: Work, folder: Path, jobs: int) -> dict[str, tuple[str, float]]:
    """Verdict and seconds of every mutant; `killed`, `survived`, `no test`, `timeout` or `no program`.

    One pytest process collects the tests of all lanes once and forks; a mutant whose change acts only when its
    module is imported (`at import`) gets a process of its own.
    """
    found = {mutant.key: ("no test", 0.0) for mutant, lane in work if not lane}
    for kernels in (False, True):
        part = [(mutant, lane) for mutant, lane in work if lane and compiled(mutant.file) == kernels]
        if part:
            found |= _forked(part, folder, jobs, kernels)
    late = [(mutant, lane) for mutant, lane in work if found.get(mutant.key, ("", 0.0))[0] == "at import"]
    with ThreadPoolExecutor(jobs) as pool:
        for (mutant, _), verdict in zip(late, pool.map(lambda pair: _imported(*pair), late), strict=True):
            found[mutant.key] = verdict
            print(f"at import: {verdict[0]:9} {mutant.key}", flush=True)
    return found


def _forked(work: Work, folder: Path, jobs: int, kernels: bool) -> dict[str, tuple[str, float]]:
    out = folder / ("kernels.jsonl" if kernels else "forked.jsonl")
    out.unlink(missing_ok=True)
    plan = {"out": str(out), "jobs": jobs, "work": [{"mutant": attrs.asdict(m), "lane": lane} for m, lane in work]}
    path = folder / "plan.json"
    path.write_text(json.dumps(plan))
    tests = sorted({test.partition("::")[0] for _, lane in work for test in lane})
    env = os.environ | {"MUTATION_PLAN": str(path)} | ({"MUTATION_UNCOMPILED": "1"} if kernels else {})
    _pytest(["-p", "benchmarks.mutation.forks", *tests], env)
    entries = map(json.loads, out.read_text().splitlines())
    return {entry["key"]: (entry["verdict"], entry["seconds"]) for entry in entries}


def _imported(mutant: Mutant, lane: list[str]) -> tuple[str, float]:
    """A change that acts at import is killed by a failing test (1), or as a module that cannot be imported (2)."""
    env = os.environ | {"MUTATION_CHANGE": json.dumps({"mutant": attrs.asdict(mutant), "lane": lane})}
    env |= {"MUTATION_UNCOMPILED": "1"} if compiled(mutant.file) else {}
    tests = sorted({test.partition("::")[0] for test in lane})
    start = time.monotonic()
    status = _pytest(["-x", "-p", "benchmarks.mutation.imported", *tests], env)
    if status < 0:  # ended by a signal, such as that of too much CPU time
        verdict = "timeout" if -status in (signal.SIGXCPU, signal.SIGKILL) else "killed"
    else:
        verdict = {0: "survived", 1: "killed", 2: "killed", 5: "no test"}.get(status, "error")
    return verdict, round(time.monotonic() - start, 2)


def _pytest(arguments: list[str], env: dict[str, str]) -> int:
    command = [sys.executable, "-m", "pytest", "-q", "--hypothesis-seed=0", "-p", "no:xdist", *arguments]
    quiet = subprocess.DEVNULL
    return subprocess.run(command, cwd=ROOT, env=env, check=False, stdout=quiet, stderr=quiet, timeout=7200).returncode
