"""`python -m benchmarks run [--quick] [--json] [--only QUESTION] [--threads N]`."""

from __future__ import annotations

import argparse
import json
import sys

from benchmarks.machine import describe_machine, limited_threads
from benchmarks.questions import QUESTIONS
from benchmarks.table import print_tables


def main(arguments: list[str] | None = None) -> int:
    """Measure every question (or one) and print tables, or JSON with `--json`; 1 if two rows disagree."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    run = parser.add_subparsers(dest="verb", required=True).add_parser("run", help="measure and print")
    run.add_argument("--quick", action="store_true", help="smaller batches")
    run.add_argument("--json", action="store_true", help="print JSON instead of tables")
    run.add_argument("--only", choices=sorted(QUESTIONS), help="one question only")
    run.add_argument("--threads", type=int, default=1, help="threads of every library (default 1)")
    run.add_argument("--repeats", type=int, default=5, help="timed runs of every row, alternated (at least 5)")
    given = parser.parse_args(arguments)
    names = [given.only] if given.only else list(QUESTIONS)
    with limited_threads(given.threads):
        tables = [QUESTIONS[name](quick=given.quick, repeats=max(5, given.repeats)) for name in names]
    machine = describe_machine(given.threads)
    if given.json:
        json.dump({"machine": machine, "tables": [t.as_dict() for t in tables]}, sys.stdout, indent=2)
        print()
    else:
        print_tables(tables, machine)
    return 0


if __name__ == "__main__":
    sys.exit(main())
