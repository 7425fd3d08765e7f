"""Many inputs in child processes: bounded memory, and a child that dies or hangs costs one input, not the run."""

from __future__ import annotations

import json
import mmap
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import attrs

from snn2chip.testing.fuzz.judge import Bench, Tally

ROOM = 700
"""Megabytes of address space that a child may take beyond what it has when its doors are open."""
SILENCE, SLEEP = 60.0, 1200.0
"""CPU seconds, and seconds, without a new input after which a child is taken for hanging."""
NOTED = 100
"""After how many inputs a child writes down what became of them; those behind are judged again if it dies."""
CHILD = "--child"


@attrs.frozen
class Job:
    """Inputs `first <= i < stop` of one door."""

    door: str
    first: int
    stop: int


def run_jobs(jobs: Sequence[Job], *, seed: int = 0, room: int = ROOM) -> list[Tally]:
    """Judge every input of `jobs` in one child process after the other; one tally per door."""
    tallies = {job.door: Tally(door=job.door) for job in jobs}
    left = list(jobs)
    with tempfile.TemporaryDirectory(prefix="snn2chip-fuzz-") as name:
        folder = Path(name)
        while left:
            (folder / "progress").write_bytes(bytes(16))
            how = {"jobs": [attrs.astuple(job) for job in left], "seed": seed, "folder": name, "room": room}
            with (folder / "stderr").open("wb") as errors:
                child = subprocess.Popen(
                    [sys.executable, "-m", "snn2chip.testing.fuzz", CHILD, json.dumps(how)],
                    stderr=errors,
                    stdout=subprocess.DEVNULL,
                    cwd=folder,
                )
                died = _watched(child, folder / "progress")
            for line in (folder / "tallies").read_text().splitlines() if (folder / "tallies").exists() else ():
                _add(tallies, json.loads(line))
            (folder / "tallies").unlink(missing_ok=True)
            left = _after(left, folder, died, tallies) if died else []
    return list(tallies.values())


def _watched(child: subprocess.Popen[bytes], progress: Path) -> str:
    """Wait for a child; how it died, or empty."""
    last, since, used = b"", time.monotonic(), 0.0
    while True:
        try:
            code = child.wait(timeout=1.0)
            return "" if code == 0 else f"the process dies with {code}"
        except subprocess.TimeoutExpired:
            now = progress.read_bytes()
            if now != last:
                last, since, used = now, time.monotonic(), _cpu_of(child.pid)
            elif _cpu_of(child.pid) - used > SILENCE or time.monotonic() - since > SLEEP:
                child.kill()
                child.wait()
                return "hangs"


def _cpu_of(pid: int) -> float:
    """CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _add(tallies: dict[str, Tally], found: dict[str, object]) -> None:
    one = Tally(**found)  # type: ignore[arg-type]
    all_of = tallies[one.door]
    all_of.sound += one.sound
    all_of.refused += one.refused
    all_of.slowest = max(all_of.slowest, one.slowest)
    for text, inputs in one.defects.items():
        all_of.defects.setdefault(text, []).extend(inputs)


def _after(left: list[Job], folder: Path, died: str, tallies: dict[str, Tally]) -> list[Job]:
    """The jobs that remain behind the input at which a child died; RuntimeError if it never began."""
    raw = (folder / "progress").read_bytes()
    at, index = (int.from_bytes(raw[i : i + 8], "little") for i in (0, 8))
    if not at:
        raise RuntimeError(f"the doors do not open: {died}\n{(folder / 'stderr').read_text(errors='replace')[-4000:]}")
    job, said = left[at - 1], (folder / "stderr").read_text(errors="replace").split("\n")
    died = f"{died}: {(said[-2:] or [''])[0][:200]}"
    tallies[job.door].defects.setdefault(died, []).append(index)
    known = job.first + (index - job.first) // NOTED * NOTED
    rest = [Job(job.door, known, index), Job(job.door, index + 1, job.stop)]
    return [*(part for part in rest if part.first < part.stop), *left[at:]]


def child(how: dict[str, object]) -> None:
    """What a child does: open the doors of its jobs one after the other and judge their inputs."""
    folder, out = Path(str(how["folder"])), Path(str(how["folder"])) / "tallies"
    jobs = [Job(*job) for job in how["jobs"]]  # type: ignore[attr-defined]
    with (folder / "progress").open("r+b") as file, mmap.mmap(file.fileno(), 16) as progress:
        for at, job in enumerate(jobs, start=1):
            bench = Bench(job.door, folder / "doors", seed=int(str(how["seed"])))
            _limit(int(str(how["room"])))
            tally = Tally(door=job.door)
            for index in range(job.first, job.stop):
                progress[:] = at.to_bytes(8, "little") + index.to_bytes(8, "little")
                bench.judge(index, tally)
                if (index - job.first + 1) % NOTED == 0:  # what is noted survives the child
                    tally = _noted(out, tally)
            _noted(out, tally)
            _limit(None)


def _noted(out: Path, tally: Tally) -> Tally:
    with out.open("a") as file:
        file.write(json.dumps(attrs.asdict(tally)) + "\n")
    return Tally(door=tally.door)


def _limit(megabytes: int | None) -> None:
    """Bound the address space to what it is now and so much more; None takes the bound away."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (hard if megabytes is None else used + megabytes * 2**20, hard))


def shared(doors: Sequence[str], inputs: int) -> list[Job]:
    """`inputs` in all, the same number for every door."""
    each = -(-inputs // len(doors))
    return [Job(door, 0, each) for door in doors]


def table(tallies: Sequence[Tally]) -> str:
    """One row per door, and every defect with the first inputs that show it."""
    rows = [f"{'door':14} {'inputs':>8} {'sound':>8} {'refused':>8} {'defects':>8} {'slowest CPU s':>14}"]
    for t in tallies:
        bad = sum(map(len, t.defects.values()))
        rows.append(f"{t.door:14} {t.inputs:8} {t.sound:8} {t.refused:8} {bad:8} {t.slowest:14.2f}")
    rows.append(f"{'all':14} {sum(t.inputs for t in tallies):8}")
    for t in tallies:
        rows += [f"  {t.door}: {text}: {len(at)} inputs, {at[:5]}" for text, at in t.defects.items()]
    return "\n".join(rows)
