"""The command `snn2chip`: its verbs, its version, and how errors leave it.

Exit codes: 0 done, 1 a comparison found a difference, 2 bad input or usage, 3 the machine (a package, a device, a
disk, a backend that died, or a defect of snn2chip), 130 interrupted (Ctrl-C), 143 ended by SIGTERM.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any, NoReturn, TextIO

import typer
from typer.core import TyperGroup

from snn2chip.cli import (
    check,
    compile,
    convert,
    demo,
    doctor,
    emit,
    export,
    inspect,
    map,
    report,
    run,
    sensitivity,
    train,
)
from snn2chip.errors import InputError, Snn2ChipError
from snn2chip.origin import begin
from snn2chip.signals import WORDS, code_of, listen

ENVIRONMENT = 3
DEBUG = "--debug"
ENDED = (
    "the model's own code (or a package it calls) ended the process with sys.exit before the work was done; "
    "take the exit out of it (--debug shows where)"
)
ZOO = "zoo:"


class Guarded(TyperGroup):
    """Turns errors into one message on stderr and an exit code; `--debug` anywhere shows the traceback instead."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Accept `--debug` behind a verb too, and `zoo:NAME` for a file that comes with the zoo."""
        try:
            args = [_located(word, before) for before, word in zip(["", *args], args)]  # noqa: B905
        except Snn2ChipError as error:
            stop(str(error), error.exit_code)
        end = args.index("--") if "--" in args else len(args)
        if DEBUG in args[:end]:
            args = [DEBUG, *(a for a in args[:end] if a != DEBUG), *args[end:]]
        return list(super().parse_args(ctx, args))

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Read the words; Ctrl-C is the same here as later."""
        try:
            return super().make_context(*args, **kwargs)
        except KeyboardInterrupt as error:
            _interrupted(error)

    def invoke(self, ctx: Any) -> Any:
        """Run the verb."""
        try:
            done = super().invoke(ctx)
            sys.stdout.flush()
            return done
        except Snn2ChipError as error:
            if ctx.params.get("debug"):
                raise
            stop(str(error), error.exit_code)
        except BrokenPipeError:
            _mute_broken_streams()
            stop("the reader of the output went away", ENVIRONMENT)
        except KeyboardInterrupt as error:
            _interrupted(error)
        except SystemExit as error:  # no verb leaves so: your model's code, or a package of others, while it worked
            if ctx.params.get("debug"):
                raise InputError(ENDED) from error
            stop(ENDED, InputError.exit_code)
        except (OSError, MemoryError) as error:
            if ctx.params.get("debug"):
                raise
            _mute_broken_streams()
            stop(f"{type(error).__name__}: {error}", ENVIRONMENT)


def _located(word: str, before: str) -> str:
    """The path of `zoo:NAME`; InputError where something would be written there."""
    if not word.startswith(ZOO):
        return word
    if before in ("-o", "--output", "--out", "--artifacts", "--json", "--html", "--csv", "--neurobench"):
        raise InputError(f"{before} {word}: what comes with the zoo is not written; name a file of your own")
    from snn2chip_models.shipped import shipped

    return str(shipped(word.removeprefix(ZOO)))


def quiet_warnings() -> None:
    """Doubts about the samples are one line on stderr each, once, not one per block of samples."""
    import warnings

    from snn2chip.errors import Notice

    told: set[str] = set()
    plain = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if not isinstance(message, Notice):
            plain(message, category, filename, lineno, file, line)
        elif message.key not in told:
            told.add(message.key)
            typer.echo(f"warning: {message}", err=True)

    warnings.simplefilter("always", Notice)
    warnings.showwarning = show


def stop(message: str, code: int) -> NoReturn:
    """Print one message on stderr and leave with `code`, also when nobody reads stderr."""
    try:
        typer.secho(f"error: {message}", err=True, fg="red" if sys.stderr.isatty() else None)
    except OSError:
        _mute_broken_streams()
    raise typer.Exit(code)


def _untold(error: BaseException) -> int | None:
    """The exit code of a usage error that could not be printed, the stream being full or gone."""
    told: BaseException | None = error if isinstance(error, OSError) else None
    while told is not None and not isinstance(getattr(told, "exit_code", None), int):
        told = told.__context__
    return None if told is None else int(told.exit_code)  # type: ignore[attr-defined]


def _interrupted(error: KeyboardInterrupt) -> NoReturn:
    code = code_of(error)
    stop(WORDS[code], code)


def _mute_broken_streams() -> None:
    """Point streams that take nothing (no reader, full disk) at the null device, so that leaving does not fail."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


app = typer.Typer(
    cls=Guarded,
    help="Compile trained PyTorch spiking networks to bit-accurate integer programs; run, check and export them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        from snn2chip.doctor import origin

        typer.echo(origin())
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and leave.")
    ] = False,
    debug: Annotated[bool, typer.Option(DEBUG, help="Show the traceback of an error.")] = False,
) -> None:
    """Options of every verb."""


for verb in (demo, train, convert, compile, run, check, report, sensitivity, map, inspect, emit, export, doctor):
    verb.register(app)


def _fill_closed_streams() -> None:
    """Open the null device for streams that were closed: else the next file gets their number, and what they say."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


def main() -> None:
    """Entry point of the command `snn2chip`; a defect of snn2chip itself leaves with 3, never with 1.

    torch's threads sleep instead of spinning between operations: on a machine whose cores are busy with other
    work, training a small network with spinning threads takes ten times as long, and alone it is no faster.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch is first imported
    begin(sys.argv)
    quiet_warnings()
    _fill_closed_streams()
    try:
        listen()
        app()
    except KeyboardInterrupt as error:  # between the words and the verb
        typer.echo(f"error: {WORDS[code_of(error)]}", err=True)
        sys.exit(code_of(error))
    except Exception as error:
        meant = _untold(error)
        if meant is not None:
            _mute_broken_streams()
            sys.exit(meant)
        if DEBUG in sys.argv:
            raise
        text = f"error: defect in snn2chip, please report it ({type(error).__name__}: {error}); see it with {DEBUG}"
        typer.echo(text, err=True)
        sys.exit(ENVIRONMENT)
