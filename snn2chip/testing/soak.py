"""A long run: many random programs on one backend against the reference.

    python -m snn2chip.testing.soak --backend torch --programs 20000 [--first-seed 0] [--together 50]

Prints one line per hundred programs and what the programs did; exits 1 at the first difference, naming the seed
(`snn2chip.testing.programs.random_program(seed)` is that program).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence

from snn2chip.errors import MismatchError
from snn2chip.registry import Backend, get_backend
from snn2chip.testing.activity import activity
from snn2chip.testing.cases import Case
from snn2chip.testing.conformance import judge
from snn2chip.testing.programs import random_program


def soak(
    backend: Backend, *, programs: int, first_seed: int = 0, together: int = 1, wide: bool = True
) -> Iterator[list[Case]]:
    """Run `programs` random programs, `together` at a time (side by side if the backend has `run_many`).

    Yields each group of cases once it is equal; raises MismatchError naming the seed of the first difference.
    """
    many = getattr(backend, "run_many", None)
    for start in range(first_seed, first_seed + programs, together):
        seeds = range(start, min(start + together, first_seed + programs))
        cases = [random_program(seed, wide=wide) for seed in seeds]
        pairs = [(case.program, case.coded) for case in cases]
        traces = many(pairs) if many is not None else [backend.run(p, coded) for p, coded in pairs]
        for seed, case, trace in zip(seeds, cases, traces, strict=True):
            result = judge(case, trace)
            if result.status != "equal":
                raise MismatchError(f"random program of seed {seed}: {result.detail}\n{case!r}")
        yield cases


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of the module."""
    parser = argparse.ArgumentParser(description="random programs on one backend against the reference")
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--device", default=None)
    parser.add_argument("--programs", type=int, default=1000)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--together", type=int, default=20)
    options = parser.parse_args(arguments)
    device = {"device": options.device} if options.device else {}
    backend = get_backend(options.backend, **device)
    start, done, sample = time.perf_counter(), 0, []
    try:
        groups = soak(backend, programs=options.programs, first_seed=options.first_seed, together=options.together)
        for cases in groups:
            done += len(cases)
            sample += cases[:1]
            if done % 100 < len(cases):
                print(f"{done} programs equal, {time.perf_counter() - start:.0f} s", flush=True)
    except MismatchError as error:
        print(error)
        return 1
    print(f"{backend.name}: {done} programs equal to the reference in {time.perf_counter() - start:.0f} s")
    print(f"one program of each group: {activity(sample)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
