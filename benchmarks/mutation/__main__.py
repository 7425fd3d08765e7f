"""`python -m benchmarks.mutation map|run|table`: are the tests of the core able to fail?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.mutation.rooms import ROOMS, ROOT, compiled, files, room_of

app = typer.Typer(add_completion=False, help="Mutation testing of soma, schedule, quantize, passes and the engine.")
Folder = Annotated[Path, typer.Option(help="Folder of the maps and the results.")]
WORK = ROOT / "runs" / "mutation"
FAST = "not lava and not slow and not data and not cuda"
UNIT = "analysis checks convert golden ir layers lowering mapping micro passes quantize torch"
TESTS = (*(f"tests/unit/{name}" for name in UNIT.split()), "tests/property", "tests/conformance", "tests/gpu_kernels")
SLOW = 60  # wall seconds of a test that no lane has room for


@app.command("map")
def make_map(work: Folder = WORK, tests: Annotated[list[str] | None, typer.Argument()] = None) -> None:
    """Run the tests once under branch coverage with one context per test, and once without numba's compiler."""
    work.mkdir(parents=True, exist_ok=True)
    kernels = [file for room in ROOMS for file in files(room) if compiled(file)]
    plain = [file for room in ROOMS for file in files(room) if not compiled(file)]
    _cover(work, "plain", plain, tests or list(TESTS), {})
    torch_paths = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("tests/conformance/test_torch*.py"))
    only = ["tests/unit/torch", *torch_paths, "tests/conformance/test_conformance_suite.py"]
    _cover(work, "nojit", kernels, tests or only, {"MUTATION_UNCOMPILED": "1"})


def _cover(work: Path, name: str, include: list[str], tests: list[str], more: dict[str, str]) -> None:
    base = work / f"{name}.coverage"
    base.unlink(missing_ok=True)
    config = work / f"{name}.rc"
    paths = "\n    ".join(str(ROOT / file) for file in include)
    config.write_text(f"[run]\nbranch = true\ndata_file = {base}\ninclude =\n    {paths}\n")
    command = [sys.executable, "-m", "coverage", "run", f"--rcfile={config}", "-m", "pytest", "-q"]
    command += [
        "-p",
        "benchmarks.mutation.contexts",
        "-p",
        "no:xdist",
        "--hypothesis-seed=0",
        f"--timeout={SLOW}",
        "-m",
        FAST,
        *tests,
    ]
    env = os.environ | {"MUTATION_COSTS": str(work / f"{name}.json"), "OMP_NUM_THREADS": "1"} | more
    subprocess.run(command, cwd=ROOT, env=env, check=False)


@app.command()
def run(
    work: Folder = WORK,
    sample: Annotated[int, typer.Option(help="Mutants drawn of all rooms.")] = 400,
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 0,
    jobs: Annotated[int, typer.Option(help="Mutants judged at a time.")] = 2,
    block: Annotated[int, typer.Option(help="Mutants of one pytest process; results are kept after each.")] = 400,
    rooms: Annotated[str, typer.Option(help="Rooms, separated by commas (default: all).")] = "",
    seconds: Annotated[float, typer.Option(help="CPU seconds of a lane; short first, then --again with ten.")] = 10.0,
    whole: Annotated[bool, typer.Option(help="Also every mutant of soma and schedule.")] = True,
    again: Annotated[bool, typer.Option(help="Judge survivors without a reason once more.")] = False,
) -> None:
    """Judge the sample, and every mutant of soma and schedule; what is known already is kept."""
    from benchmarks.mutation.draw import drawn
    from benchmarks.mutation.lanes import Lanes
    from benchmarks.mutation.run import judge
    from benchmarks.mutation.table import explained

    os.environ["OMP_NUM_THREADS"] = "1"
    store = work / f"results-{seed}.jsonl"
    lines = store.read_text().splitlines() if store.exists() else []
    known = {entry["key"]: entry for entry in map(json.loads, lines)}
    lanes = Lanes(work, seconds)
    chosen = drawn(sample, seed)
    drawn_keys = {mutant.key for mutant in chosen[:sample]}
    if not whole:
        chosen = chosen[:sample]
    if rooms:
        chosen = [mutant for mutant in chosen if room_of(mutant.file) in rooms.split(",")]
    done = {key for key, entry in known.items() if not again or entry["verdict"] in ("killed", "timeout", "no program")}
    todo = [mutant for mutant in chosen if mutant.key not in done]
    if again:
        todo = [mutant for mutant in todo if mutant.key not in known or not explained(mutant)]
    work_left = [(mutant, lanes.lane(mutant.file, mutant.line)) for mutant in todo]
    for first in range(0, len(todo), block):
        part = work_left[first : first + block]
        found = judge(part, work, jobs)
        with store.open("a") as out:
            for mutant, _ in part:
                verdict, seconds = found[mutant.key]
                entry = {"key": mutant.key, "file": mutant.file, "line": mutant.line, "verdict": verdict}
                print(json.dumps(entry | {"seconds": seconds, "drawn": mutant.key in drawn_keys}), file=out)
        typer.echo(f"{first + len(part)} of {len(todo)}: {Counter(verdict for verdict, _ in found.values())}")


@app.command()
def table(
    work: Folder = WORK,
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 0,
    check: Annotated[bool, typer.Option(help="Print only.")] = False,
) -> None:
    """Write benchmarks/mutation.md from the results."""
    from benchmarks.mutation.table import PAGE, page

    text = page(work, seed)
    typer.echo(text)
    if not check:
        PAGE.write_text(text)


if __name__ == "__main__":
    app()
