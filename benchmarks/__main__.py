"""`python -m benchmarks run | methods | lowering | accuracy | gpu`: tables of what was measured."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

COMMAND = "python -m benchmarks run"


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; 1 if a bar is missed, 3 if a slice of `gpu` ended before its rows or no GPU is there."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="engines side by side: measure, print, write benchmarks/RESULTS.md")
    run.add_argument("--quick", action="store_true", help="smaller batches, nothing written")
    run.add_argument("--json", action="store_true", help="print JSON instead of tables")
    run.add_argument("--only", default="", help="questions by name, separated by commas (default: all)")
    text = "threads of every library (default 1); other counts stand beside it in the page (default: engine)"
    run.add_argument("--threads", type=int, default=1, help=text)
    run.add_argument("--repeats", type=int, default=5, help="timed runs of every row, alternated (at least 5)")
    run.add_argument("--resume", action="store_true", help="keep results that are there, ask the other questions")
    run.add_argument("--out", type=Path, help="folder of results and page (default: benchmarks/)")
    verbs.add_parser("page", help="benchmarks/RESULTS.md and what README and docs quote, from results that are there")
    methods = verbs.add_parser("methods", help="train and convert by the recipes, write benchmarks/methods.md")
    methods.add_argument("--rows", default="", help="rows by name, separated by commas (default: all)")
    methods.add_argument("--out", type=Path, help="folder of result files (default: benchmarks/methods/results)")
    methods.add_argument("--nets", type=Path, default=Path("runs/methods"), help="folder of trained nets")
    methods.add_argument("--quick", action="store_true", help="a few samples and one epoch: does it run at all")
    lowering = verbs.add_parser("lowering", help="every method on every net, checked: write benchmarks/lowering.md")
    lowering.add_argument("--rows", default="", help="rows by name, separated by commas (default: all)")
    lowering.add_argument("--out", type=Path, help="folder of result files (default: benchmarks/lowering/results)")
    lowering.add_argument("--quick", action="store_true", help="few images")
    lowering.add_argument("--again", action="store_true", help="measure complete rows once more, too")
    gpu = verbs.add_parser(
        "gpu", help="speed and full-size nets on one GPU, in slices: the same command until it says 0"
    )
    gpu.add_argument("--rows", default="", help="rows by name, separated by commas (default: all)")
    gpu.add_argument("--slice-minutes", type=float, default=9.0, help="wall-clock minutes of this call (default 9)")
    gpu.add_argument("--out", type=Path, default=Path("runs/gpu"), help="folder of nets and results")
    gpu.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    gpu.add_argument("--workers", type=int, default=12, help="processes that prepare batches (default 12)")
    gpu.add_argument("--quick", action="store_true", help="tiny nets, a few samples: does it run at all")
    accuracy = verbs.add_parser("accuracy", help="integers against float on whole test sets: write accuracy.md")
    accuracy.add_argument("--rows", default="", help="rows by name, separated by commas (default: all)")
    accuracy.add_argument("--out", type=Path, help="folder of result files (default: benchmarks/accuracy/results)")
    accuracy.add_argument("--cache", type=Path, default=Path("runs/accuracy"), help="folder of float answers")
    accuracy.add_argument("--quick", action="store_true", help="200 images: does it run at all")
    accuracy.add_argument("--again", action="store_true", help="measure rows that are there once more")
    verbs.add_parser("compile-cost", help="seconds and memory of compile: write benchmarks/compile_cost.md")
    scale = verbs.add_parser("scale", help="what ImageNet-1k costs on 1, 8 and 64 nodes: the table of docs/scale.md")
    scale.add_argument("--measure", action="store_true", help="measure one core again first (about two CPU minutes)")
    given = parser.parse_args(arguments)
    if getattr(given, "threads", 1) < 1:
        parser.error(f"--threads {given.threads}: at least 1")
    doers = {
        "run": _run,
        "page": _page,
        "methods": _methods,
        "lowering": _lowering,
        "gpu": _gpu,
        "compile-cost": _cost,
        "accuracy": _accuracy,
        "scale": _scale,
    }
    return doers[given.verb](given, parser)


def _scale(given: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from benchmarks.scale import write

    print(write(again=given.measure))
    return 0


def _run(given: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from benchmarks.machine import circumstances, describe_machine, limited_threads
    from benchmarks.peak import of_rows
    from benchmarks.questions import questions, threaded
    from benchmarks.quotes import update
    from benchmarks.results import FOLDER, PAGE, print_table, store, stored, write_page
    from benchmarks.table import Table
    from benchmarks.training import peers

    known = questions()
    usual = list(known) if given.threads == 1 else threaded()
    chosen = [name for name in given.only.split(",") if name] or usual
    if unknown := [name for name in chosen if name not in known]:
        parser.error(f"--only {', '.join(unknown)}: known questions are {', '.join(known)}")
    keep = not given.quick or given.out is not None
    folder = given.out or FOLDER
    done = stored(chosen, folder, threads=given.threads) if keep and given.resume else {}
    tables = []
    for name in chosen:
        if name in done:
            tables.append(done[name]["table"])
            continue
        print(f"# {name}", file=sys.stderr, flush=True)
        with limited_threads(given.threads):
            machine, when = describe_machine(given.threads), circumstances(())
            table = known[name](quick=given.quick, repeats=max(5, given.repeats))
        if isinstance(table, Table) and not given.quick and machine["gpu"] is None:
            table = table.with_peaks(of_rows(name, quick=False, threads=given.threads))
        when["versions"] = circumstances(table.packages, folder=peers())["versions"]
        tables.append(table.as_dict())
        if keep:
            store(name, machine, when, tables[-1], folder)
        if not given.json:
            print_table(tables[-1])
    if given.json:
        json.dump({"machine": describe_machine(given.threads), "tables": tables}, sys.stdout, indent=2)
        print()
    if keep:
        page = PAGE if given.out is None else given.out / PAGE.name
        write_page(list(known), command=COMMAND, folder=folder, page=page)
        if given.out is None:
            update()
    return 0 if given.quick else int(not all(bar["met"] for table in tables for bar in table["bars"]))


def _page(given: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from benchmarks.questions import questions
    from benchmarks.quotes import update
    from benchmarks.results import write_page

    write_page(list(questions()), command=COMMAND)
    update()
    return 0


def _methods(given: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from benchmarks.methods.run import RESULTS, ROWS, run

    names = [name for name in given.rows.split(",") if name]
    if unknown := [name for name in names if name not in ROWS]:
        parser.error(f"--rows {', '.join(unknown)}: known rows are {', '.join(ROWS)}")
    return 0 if run(names, out=given.out or RESULTS, nets=given.nets, quick=given.quick) else 1


def _lowering(given: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from benchmarks.lowering.run import RESULTS, ROWS, run

    names = [name for name in given.rows.split(",") if name]
    if unknown := [name for name in names if name not in ROWS]:
        parser.error(f"--rows {', '.join(unknown)}: known rows are {', '.join(ROWS)}")
    return 0 if run(names, out=given.out or RESULTS, quick=given.quick, again=given.again) else 1


def _accuracy(given: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from benchmarks.accuracy.rows import ROWS
    from benchmarks.accuracy.run import RESULTS, run

    names = [name for name in given.rows.split(",") if name]
    if unknown := [name for name in names if name not in ROWS]:
        parser.error(f"--rows {', '.join(unknown)}: known rows are {', '.join(ROWS)}")
    out = given.out or (given.cache / "quick" if given.quick else RESULTS)
    return 0 if run(names, out=out, cache=given.cache, quick=given.quick, again=given.again) else 1


def _gpu(given: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    import torch

    from benchmarks.gpu.run import NAMES, run
    from benchmarks.gpu.slices import Bench

    if given.device == "cuda" and not torch.cuda.is_available():
        print(f"no CUDA device: PyTorch {torch.__version__} finds none; nothing was measured", file=sys.stderr)
        return 3
    names = [name for name in given.rows.split(",") if name]
    if unknown := [name for name in names if name not in NAMES]:
        parser.error(f"--rows {', '.join(unknown)}: known rows are {', '.join(NAMES)}")
    folder = given.out / "quick" if given.quick else given.out
    seconds = 60 * given.slice_minutes
    bench = Bench(folder=folder, device=given.device, workers=given.workers, quick=given.quick, seconds=seconds)
    done = run(names, bench)
    return 3 if done is None else int(not done)


def _cost(given: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from benchmarks.compile_cost import run

    run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
