"""`python -m snn2chip.testing.fuzz`: hostile inputs through every door; exit code 1 if one of them shows a defect."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def main(words: list[str]) -> int:
    """Parse the words, run, print the table."""
    from snn2chip.testing.fuzz.doors import DOORS
    from snn2chip.testing.fuzz.run import CHILD, Job, child, run_jobs, shared, table

    if words[:1] == [CHILD]:
        child(json.loads(words[1]))
        return 0
    parser = argparse.ArgumentParser(prog="python -m snn2chip.testing.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1000, help="how many in all")
    parser.add_argument("--doors", default=",".join(DOORS), help="which, with commas between")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first input of each door")
    parser.add_argument("--show", metavar="DOOR:N", help="write input N of a door to a file instead")
    given = parser.parse_args(words)
    if given.show:
        return _show(given.show, given.seed)
    doors = given.doors.split(",")
    if unknown := [door for door in doors if door not in DOORS]:
        parser.error(f"unknown doors {', '.join(unknown)}; known: {', '.join(DOORS)}")
    jobs = [Job(j.door, given.first, given.first + j.stop) for j in shared(doors, given.inputs)]
    tallies = run_jobs(jobs, seed=given.seed)
    print(table(tallies))
    return int(any(tally.defects for tally in tallies))


def _show(what: str, seed: int) -> int:
    """Write one input to a file, to look into a defect."""
    import tempfile

    from snn2chip.testing.fuzz.judge import Bench

    door, _, index = what.partition(":")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(door, Path(folder), seed=seed)
        path = Path(f"{door}-{index}{bench.door.ending}")
        path.write_bytes(bench.made(int(index)))
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
