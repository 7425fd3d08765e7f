"""The whole error tree.

Snn2ChipError                      exit 2    base of everything raised on purpose
├── ProgramError (ValueError)      exit 2    an integer program breaks the contract; lists every breach
│   ├── ParameterError (TypeError) exit 2   a value of a node is no whole number, no shape, ...
│   └── ScheduleError              exit 2    no legal machine-time schedule
├── FileFormatError (ValueError)   exit 2    a file is damaged, truncated, hostile or of another version
├── InputError (ValueError)        exit 2    samples, data names or arguments that do not fit
├── TraceError (ValueError)        exit 2    a model cannot be recorded as a graph; lists every reason
├── QuantizeError (ValueError)     exit 2    a float value has no legal integer form
├── UnsupportedError               exit 2    legal, but this backend or target cannot do it
│     (NotImplementedError)
├── MismatchError (AssertionError) exit 1    two backends differ
└── EnvironmentFault (RuntimeError) exit 3   the machine, not the user's file
    ├── BackendUnavailable         exit 3    a backend's packages are missing (ImportError too)
    ├── BackendFailure             exit 3    a backend died, hung or raised while running
    └── WriteFailure (OSError)     exit 3    the disk does not take a file: full, read-only, no permission

Notice (UserWarning) is no error: InputWarning for samples that run but hardly mean what they say, MachineWarning for
work that is done in another way, with the same results, because memory ran out or files of compiled code are no good.
"""

from __future__ import annotations

from collections.abc import Iterable

LINES, LETTERS, SLACK, ROOM = 100, 4000, 50, 16_000
"""Breaches that the text of an error tells, letters of a line (with slack: a line that was cut is whole when it is told
again), letters of all lines: a damaged file can hold any number of any of them."""


def bounded(text: str) -> str:
    """A text of at most `2 * LINES` lines, `LETTERS` letters in each and `ROOM` in all, and what was left out of it."""
    lines, kept, room = text.split("\n"), list[str](), ROOM
    for line in lines:
        short = line if len(line) <= LETTERS + SLACK else f"{line[:LETTERS]} ... ({len(line):,} letters)"
        room -= len(short)
        if kept and (room < 0 or len(kept) == 2 * LINES):
            return "\n".join([*kept, f"... and {len(lines) - len(kept):,} more lines"])
        kept.append(short)
    return "\n".join(kept)


class Snn2ChipError(Exception):
    """Base of every error that snn2chip raises on purpose; `exit_code` is what the CLI returns."""

    exit_code = 2


class _Listed(Snn2ChipError):
    """An error that reports all breaches of one kind together; its text tells at most `LINES` of them."""

    headline = "invalid"

    def __init__(self, breaches: str | Iterable[str]) -> None:
        self.breaches: list[str] = [breaches] if isinstance(breaches, str) else list(breaches)
        if len(self.breaches) == 1:
            text = self.breaches[0]
        else:
            more = len(self.breaches) - LINES
            rows = [f"  - {b}" for b in self.breaches[:LINES]] + ([f"  - and {more:,} more"] if more > 0 else [])
            text = f"{len(self.breaches)} {self.headline}:\n" + "\n".join(rows)
        super().__init__(bounded(text))


class ProgramError(_Listed, ValueError):
    """An integer program breaks the contract; `.breaches` lists all of them."""

    headline = "problems in the program"


class ParameterError(ProgramError, TypeError):
    """A value given to a node is of the wrong kind; `.breaches` lists all of them."""

    headline = "values of the wrong kind"


class ScheduleError(ProgramError):
    """A program has no legal machine-time schedule."""

    headline = "scheduling problems"


class FileFormatError(Snn2ChipError, ValueError):
    """A file is damaged, truncated, hostile or written by another format version; the text is `bounded`."""

    def __init__(self, text: str) -> None:
        super().__init__(bounded(text))


class InputError(_Listed, ValueError):
    """Samples, data names or arguments do not fit; `.breaches` lists all of them."""

    headline = "problems with the input"


class Notice(UserWarning):
    """Something to know that is no error; `key` names what it is about, so that it is told once."""

    def __init__(self, text: str, *, key: str = "") -> None:
        super().__init__(text)
        self.key = key


class InputWarning(Notice):
    """Samples that a program can run but that hardly mean what they say; `key` names the input and the doubt."""


class MachineWarning(Notice):
    """The machine could not do something as usual and does it in parts or in another way; results are the same."""


class TraceError(_Listed, ValueError):
    """A PyTorch module cannot be recorded as a graph; `.breaches` lists every reason."""

    headline = "reasons why the model cannot be traced"


class QuantizeError(_Listed, ValueError):
    """A float value has no legal integer form; `.breaches` lists all of them."""

    headline = "values that cannot be quantized"


class UnsupportedError(_Listed, NotImplementedError):
    """Something legal that this backend or target cannot do; `.breaches` lists all of it."""

    headline = "things this backend or target cannot do"


class MismatchError(Snn2ChipError, AssertionError):
    """Two backends (or a backend and a recorded trace) differ."""

    exit_code = 1


class EnvironmentFault(Snn2ChipError, RuntimeError):
    """The machine cannot do what was asked: a package, a device, a disk or a child process."""

    exit_code = 3


class BackendUnavailable(EnvironmentFault, ImportError):
    """A backend's packages are missing; the message says how to install them."""


class BackendFailure(EnvironmentFault):
    """A backend raised, died or hung while it ran; the message carries its own traceback."""


class WriteFailure(EnvironmentFault, OSError):
    """A file or folder could not be written; nothing of it is there, what was there before is unchanged."""
