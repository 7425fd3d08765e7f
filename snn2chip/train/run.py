"""From a recipe to a checkpoint: data, model, training, accuracy, one file."""

from __future__ import annotations

import hashlib
import math
import os
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from snn2chip.errors import InputError
from snn2chip.train.options import RunOptions, check_device
from snn2chip.train.prepare import batches_of, prepare, start, versions
from snn2chip.train.recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from torch import nn

    from snn2chip.checkpoint_header import CheckpointHeader


@attrs.frozen(kw_only=True, eq=False)
class Trained:
    """What training gave: the file, its header, the model in eval mode, test accuracy 0..1 and seconds.

    `main` is false in all but one of several processes that train together; only that one has measured and written.
    """

    path: Path
    header: CheckpointHeader
    model: nn.Module
    accuracy: float
    seconds: float
    main: bool = True


def train_recipe(
    name_or_path: str | os.PathLike[str] | Recipe,
    *,
    out: str | os.PathLike[str],
    data: str | None = None,
    epochs: int | None = None,
    device: str = "cpu",
    seed: int | None = None,
    precision: str | None = None,
    compile: bool | str | None = None,
    progress: bool | None = None,
    logs: str | os.PathLike[str] | None = None,
    init: str | os.PathLike[str] | None = None,
    options: RunOptions | None = None,
) -> Trained:
    """Train a recipe and write its checkpoint to `out`; equal seeds give equal bytes on one machine.

    `data`, `epochs`, `seed`, `precision`, `compile` replace the recipe's own; `device`, `progress`, `logs` those of
    `options`. `init` is the checkpoint of the recipe's [init] to start from. A run that was killed goes on from
    `out`.resume.ckpt and ends with the same bytes as an unbroken one.
    Raises InputError for a bad recipe or data, EnvironmentFault without Lightning.
    """
    import torch

    from snn2chip.checkpoint import save_checkpoint
    from snn2chip.train.accuracy import evaluate
    from snn2chip.train.lightning_run import fit, repeatable, require_lightning
    from snn2chip.writing import check_writable

    recipe = name_or_path if isinstance(name_or_path, Recipe) else load_recipe(os.fspath(name_or_path))
    changes: dict[str, Any] = {
        "data": data,
        "epochs": epochs,
        "seed": seed,
        "precision": precision,
        "compile": compile,
    }
    recipe = attrs.evolve(recipe, **{key: value for key, value in changes.items() if value is not None})
    given: dict[str, Any] = {"device": device, "progress": progress, "logs": logs}
    options = attrs.evolve(options, **given) if options else RunOptions(**given)
    check_device(options, precision=recipe.precision)
    require_lightning()
    if Path(out).is_dir():
        raise InputError(f"{out}: is a folder; name the checkpoint file")
    check_writable(out)  # fails now, not after the training
    started = time.monotonic()
    model, header, train, test = prepare(recipe)
    start(model, recipe, spec=header.input, init=init)
    batches = batches_of(recipe, train, spec=header.input, classes=len(header.classes))
    from snn2chip.train.resume import data_digest, resume_path

    identity = {
        "recipe": attrs.asdict(recipe),
        "versions": versions(),
        "data": data_digest(batches),
        "run": {"device": options.device, "processes": options.processes},
        "init": None if init is None else hashlib.sha256(Path(init).read_bytes()).hexdigest(),
    }
    resume = resume_path(out)
    writes = fit(model, batches, recipe, options=options, resume=resume, identity=identity)
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    if options.processes > 1:  # norms may have become synchronised ones
        fresh = prepare(recipe)[0]
        fresh.load_state_dict(model.state_dict())
        model = fresh
    accuracy = math.nan
    if writes:
        with repeatable(options.device, threads=recipe.threads):
            accuracy = evaluate(model.eval(), test, spec=header.input, device=options.device)
    model.cpu()
    about = {"command": _command(recipe, changes, device=options.device, init=init), "inputs": _inputs(identity)}
    metrics = {"test_accuracy": accuracy, "test_samples": test.total, "train_samples": train.total}
    header = attrs.evolve(header, metrics=metrics, provenance={**header.provenance, **about})
    if writes:
        save_checkpoint(out, model, header)
        resume.unlink(missing_ok=True)
    return Trained(
        path=Path(out),
        header=header,
        model=model,
        accuracy=accuracy,
        seconds=time.monotonic() - started,
        main=writes,
    )


def _command(recipe: Recipe, changes: dict[str, Any], *, device: str, init: str | os.PathLike[str] | None) -> str:
    """The command that trains the same, from a shell or not; places and names of results are not part of it."""
    words = ["snn2chip", "train", recipe.name]
    for key in ("data", "epochs", "seed", "precision"):
        words += [] if changes[key] is None else [f"--{key}", str(changes[key])]
    if changes["compile"] is not None:
        words.append("--compile" if changes["compile"] else "--no-compile")
    words += [] if device == "cpu" else ["--device", device]
    words += [] if init is None else ["--init", Path(init).name]
    return shlex.join(words)


def _inputs(identity: dict[str, Any]) -> dict[str, str]:
    """SHA-256 of the training data as it is read, and of the checkpoint that training started from."""
    return {key: identity[key] for key in ("data", "init") if identity[key] is not None}
