"""One hostile input through its door: a sound object, one clear error, or a defect.

A defect is: an exception that is none of ours or whose exit code is not 2, a message that is empty or endless, an
allocation that failed, warnings, more CPU time than `SECONDS`, a file left behind, or something executed.
"""

from __future__ import annotations

import os
import random
import signal
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import attrs

from snn2chip.errors import Snn2ChipError
from snn2chip.testing.fuzz.damage import CANARY
from snn2chip.testing.fuzz.doors import DOORS, Door

SECONDS = 5.0
"""CPU time that one input may take."""
LONGEST = 20_000
"""Letters of a message."""
NO_MEMORY = ("can't allocate memory", "Unable to allocate", "std::bad_alloc")
OWN = frozenset(("set", "folder"))
"""Folders that doors make for their own files."""


class TooLong(BaseException):
    """The time of one input is over; no door may catch it."""


@attrs.define(kw_only=True)
class Tally:
    """What became of the inputs of one door; `defects` maps what went wrong to the inputs that did it."""

    door: str
    sound: int = 0
    refused: int = 0
    slowest: float = 0.0
    defects: dict[str, list[int]] = attrs.field(factory=dict)

    @property
    def inputs(self) -> int:
        """How many there were."""
        return self.sound + self.refused + sum(map(len, self.defects.values()))


class Bench:
    """The inputs of one door, made and judged in a folder of its own, which is the working folder meanwhile."""

    def __init__(self, name: str, folder: Path, *, seed: int = 0) -> None:
        self.door: Door = DOORS[name]
        self.seed = seed
        self.folder = folder / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.seeds = self.door.seeds(self.folder)
        self.victim = self.folder / f"victim{self.door.ending}"
        for data in self.seeds:
            self.victim.write_bytes(data)
            self.door.load(self.victim)

    def made(self, index: int) -> bytes:
        """Input number `index`."""
        rng = random.Random(f"{self.door.name}/{self.seed}/{index}")
        return self.door.damage(self.seeds[index % len(self.seeds)], rng)

    def judge(self, index: int, tally: Tally) -> None:
        """Take one input in and note what became of it."""
        self.victim.write_bytes(self.made(index))
        start = _cpu()
        with warnings.catch_warnings(record=True) as heard, _working_in(self.folder):
            warnings.simplefilter("always")
            warnings.simplefilter("ignore", ImportWarning)  # of packages that look for others
            wrong, refused = self._taken()
        tally.slowest = max(tally.slowest, _cpu() - start)
        if not wrong and heard:
            wrong = f"warns: {heard[0].category.__name__}: {str(heard[0].message)[:100]}"
        wrong = wrong or self._left_behind()
        if wrong:
            tally.defects.setdefault(wrong, []).append(index)
        elif refused:
            tally.refused += 1
        else:
            tally.sound += 1

    def _taken(self) -> tuple[str, bool]:
        """What is wrong with how the input was taken (empty: nothing), and whether it was refused."""
        try:
            with _time_limit(SECONDS):
                self.door.load(self.victim)
        except Snn2ChipError as error:
            return _unclear(error), True
        except TooLong as error:
            return f"takes more than {SECONDS:g} s at {_place(error)}", False
        except BaseException as error:  # nothing else may leave a door
            return f"{type(error).__name__} at {_place(error)}", False
        return "", False

    def _left_behind(self) -> str:
        if (self.folder / CANARY).exists():
            remove(self.folder / CANARY)
            return "executes what is in the file"
        strange = {p.name for p in self.folder.iterdir()} - {self.victim.name, *OWN}
        for name in strange:
            remove(self.folder / name)
        return "leaves files behind" if strange else ""


def remove(path: Path) -> None:
    """Take a file or folder away."""
    import shutil

    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _unclear(error: Snn2ChipError) -> str:
    """What is wrong with one of our errors; empty if nothing."""
    if error.exit_code != 2:
        return f"{type(error).__name__} with exit code {error.exit_code}: {str(error)[:80]}"
    if not 0 < len(str(error)) <= LONGEST:
        return f"a message of {len(str(error))} letters at {_place(error)}"
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, MemoryError) or any(text in str(chain) for text in NO_MEMORY):
            return f"tries to allocate at {_place(chain)}"
        chain = chain.__cause__ or chain.__context__
    return ""


def _place(error: BaseException) -> str:
    """The innermost line of ours in a traceback."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "snn2chip" in f.filename]
    inner = [f for f in frames if "/testing/fuzz/" not in f.filename] or frames
    return f"{Path(inner[-1].filename).name}:{inner[-1].lineno}" if inner else "?"


def _cpu() -> float:
    times = os.times()
    return times.user + times.system


@contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise TooLong inside the block after so much CPU time of this process."""

    def over(number: int, frame: FrameType | None) -> None:
        raise TooLong

    before = signal.signal(signal.SIGPROF, over)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
