"""`python tests/kills --kills 60`: kill -9 at random moments and steps; nothing may be lost.

Every kill: an earlier result lies there or not; a job is killed, at a step of its files or at a moment of its time;
every final name then holds the earlier bytes or the new ones, whole; other names are workspaces that say so; and the
same command again gives the bytes of a run that nobody disturbed and leaves nothing else. 1 if any of that fails.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import attrs

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), *(str(ROOT / name) for name in (".", "backends", "models"))]  # also of a copy
from runner import Runner  # noqa: E402
from world import JOBS, LEFT, Job, clear, is_earlier, plain, prepare  # noqa: E402


@attrs.define
class Known:
    """Of a job that nobody disturbed: contents by name, its steps, its seconds."""

    want: dict[str, Any]
    steps: list[str]
    seconds: float


def undisturbed(runner: Runner, job: Job) -> Known:
    """Run a job over an earlier result."""
    out, count = clear(runner.world, job, earlier=True), runner.world / "count.txt"
    count.unlink(missing_ok=True)
    began = time.monotonic()
    code = runner.run(job, count=count)
    seconds = time.monotonic() - began
    assert code == 0, f"{job.name}: {code}: {(runner.world / 'said.txt').read_text()}"
    names = {*job.files, *job.folders}
    assert {p.name for p in out.iterdir()} == names, f"{job.name} left more than its files"
    return Known(want={n: plain(out / n) for n in names}, steps=count.read_text().splitlines(), seconds=seconds)


def breaches(out: Path, job: Job, known: Known, *, earlier: bool, whole: bool) -> list[str]:
    """What is wrong with what lies in `out`; `whole`: the job ended, everything is new and nothing else there."""
    found = []
    names = {*job.files, *job.folders}
    for name in names:
        path = out / name
        if not path.exists():
            found += [f"{name} is gone"] if earlier or whole else []
            continue
        if earlier and not whole and is_earlier(path):
            continue
        try:
            found += [] if plain(path) == known.want[name] else [f"{name} holds something else"]
        except Exception as error:
            found.append(f"{name} is not whole: {type(error).__name__}: {error}")
    for path in out.iterdir():
        fine = path.name in names or (not whole and (path.name in job.kept or LEFT.fullmatch(path.name)))
        found += [] if fine else [f"{path.name} is left"]
    return found


def one_kill(
    runner: Runner, job: Job, known: Known, *, earlier: bool, kill_at: int | None, after: float | None
) -> tuple[bool, list[str]]:
    """Kill a job and run it again: whether it was killed before its end, and everything that is wrong."""
    out = clear(runner.world, job, earlier=earlier)
    code = runner.run(job, kill_at=kill_at, after=after)
    found = [] if code in (0, -9) else [f"ended with {code}"]
    found += breaches(out, job, known, earlier=earlier, whole=code == 0)
    again = runner.run(job)
    if again != 0:
        said = (runner.world / "said.txt").read_text(errors="replace")[-2000:]
        return code == -9, [*found, f"the rerun ended with {again}: {said}"]
    found += [f"after the rerun {text}" for text in breaches(out, job, known, earlier=earlier, whole=True)]
    strange = [p.name for p in (runner.world / "tmp").iterdir() if not p.name.startswith("snn2chip-")]
    return code == -9, found + [f"{name} is left in the folder of temporary files" for name in strange]


def main(arguments: list[str] | None = None) -> int:
    """Kill until there were so many kills; print a table."""
    parser = argparse.ArgumentParser(prog="python tests/kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=60, help="kills that came before the end of their job")
    parser.add_argument("--every", action="store_true", help="once at every step of every job instead")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", default=",".join(JOBS), help=f"some of {', '.join(JOBS)}")
    parser.add_argument("--fresh", action="store_true", help="a Python of its own for every run, start included")
    given = parser.parse_args(arguments)
    jobs = [JOBS[name] for name in given.jobs.split(",")]
    draw = random.Random(given.seed)
    world = Path(tempfile.mkdtemp(prefix="snn2chip-kills-"))
    runner = None
    wrong = kills = late = 0
    try:
        prepare(world)
        runner = Runner(world, given.fresh)
        known = {job.name: undisturbed(runner, job) for job in jobs}
        turn = 0
        plan = [(job, n + 1) for job in jobs for n in range(len(known[job.name].steps))] if given.every else []
        while turn < len(plan) if given.every else kills < given.kills:
            job, step = plan[turn] if given.every else (jobs[turn % len(jobs)], None)
            at_step = given.every or (turn // len(jobs)) % 2 == 0
            steps, earlier = known[job.name].steps, draw.random() < 0.7
            kill_at = (step or draw.randint(1, len(steps))) if at_step else None
            after = None if at_step else draw.random() * known[job.name].seconds
            turn += 1
            killed, found = one_kill(runner, job, known[job.name], earlier=earlier, kill_at=kill_at, after=after)
            kills, late = kills + killed, late + (not killed)
            where = f"step {steps[kill_at - 1]}" if kill_at else f"{after:.2f} of {known[job.name].seconds:.2f} s"
            before = "over an earlier result" if earlier else "nothing before"
            said = f"{'' if killed else ' (had ended)'}{': ' + '; '.join(found) if found else ''}"
            print(f"{job.name:10} {before:22} {where}{said}", flush=True)
            wrong += bool(found)
            if late > 20 + 2 * kills:
                print("too many runs ended before they were killed")
                return 1
    finally:
        if runner is not None:
            runner.close()
        shutil.rmtree(world, ignore_errors=True)
    print(f"{kills} kills, {late} runs that had ended before, {wrong} with something wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
