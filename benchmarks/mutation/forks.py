"""pytest plugin of the judge: collect once, then one forked child per mutant, its functions' code exchanged."""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import time
import types
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from benchmarks.mutation.draw import Mutant
from benchmarks.mutation.rooms import ROOT
from benchmarks.mutation.uncompiled import uncompile

if os.environ.get("MUTATION_UNCOMPILED"):
    uncompile()
CPU_LIMIT = 30  # seconds of a child, three lanes: a mutant that loops is found by this
WALL_LIMIT = 600.0
Place = tuple[str, int, str]
Functions = dict[Place, list[types.FunctionType]]


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool:
    """In the place of pytest's own loop: judge the plan's mutants, a line of JSON each."""
    plan = json.loads(Path(os.environ["MUTATION_PLAN"]).read_text())
    items = {item.nodeid: item for item in session.items}
    known = functions()
    waiting = [(Mutant(**entry["mutant"]), entry["lane"]) for entry in reversed(plan["work"])]
    running: dict[int, tuple[Mutant, float]] = {}
    with Path(plan["out"]).open("a") as out:
        while waiting or running:
            while waiting and len(running) < plan["jobs"]:
                mutant, lane = waiting.pop()
                chosen = [items[name] for name in lane if name in items]
                chosen += [item for name, item in items.items() if name.partition("::")[0] in lane]
                running[_fork(mutant, chosen, known)] = (mutant, time.monotonic())
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                _end(running)
                time.sleep(0.01)
                continue
            mutant, start = running.pop(pid)
            entry = {"key": mutant.key, "verdict": _verdict(status), "seconds": round(time.monotonic() - start, 2)}
            print(json.dumps(entry), file=out, flush=True)
    return True


def functions() -> Functions:
    """Every function object of the product by file, first line and name."""
    found: Functions = defaultdict(list)
    for value in gc.get_objects():
        if type(value) is types.FunctionType and value.__code__.co_filename.startswith(str(ROOT)):
            code = value.__code__
            found[(code.co_filename, code.co_firstlineno, code.co_name)].append(value)
    return found


def exchange(mutant: Mutant, known: Functions) -> int:
    """Give the functions of a mutant's file the changed code; how many function objects changed."""
    path = str(ROOT / mutant.file)
    old = {_place(path, code): code for code in _codes(compile((ROOT / mutant.file).read_text(), path, "exec"))}
    changed = 0
    for code in _codes(compile(mutant.source(), path, "exec", dont_inherit=True)):
        place = _place(path, code)
        if code == old.get(place):
            continue
        for function in known.get(place, ()):
            if len(code.co_freevars) == len(function.__code__.co_freevars):
                function.__code__ = code
                changed += 1
    return changed


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    for value in code.co_consts:
        if isinstance(value, types.CodeType):
            yield value
            yield from _codes(value)


def _place(path: str, code: types.CodeType) -> Place:
    return (path, code.co_firstlineno, code.co_name)


def _fork(mutant: Mutant, lane: list[Any], known: Functions) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 4
    try:
        code = _child(mutant, lane, known)
    except SyntaxError:
        code = 5
    except BaseException:  # a change that a test's own exit shows
        code = 1
    os._exit(code)


def _child(mutant: Mutant, lane: list[Any], known: Functions) -> int:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT, CPU_LIMIT))
    sink = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(sink, stream)
    if not exchange(mutant, known):
        return 2
    for item, after in zip(lane, [*lane[1:], None], strict=True):
        if any(report.failed for report in runtestprotocol(item, log=False, nextitem=after)):
            return 1
    return 0


def _end(running: dict[int, tuple[Mutant, float]]) -> None:
    for number, (_, start) in running.items():
        if time.monotonic() - start > WALL_LIMIT:
            os.kill(number, signal.SIGKILL)


def _verdict(status: int) -> str:
    if os.WIFSIGNALED(status):
        return "timeout" if os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL) else "killed"
    return {0: "survived", 1: "killed", 2: "at import", 5: "no program"}.get(os.WEXITSTATUS(status), "error")
