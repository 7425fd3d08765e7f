"""The resume file: a run that was killed at any moment goes on and ends with the same bytes as an unbroken one.

    CKPT.resume.ckpt    Lightning's checkpoint (weights, optimiser, schedule, loops, scaler) and, under "snn2chip",
                        epoch, done (batches of that epoch) and the identity of the run

It is written beside its name and renamed, so that it is whole at every moment; read as plain data (weights_only), so
that it cannot execute code; and removed when the final checkpoint is there. Random numbers need no saving: order,
augmentation, steps of online training and the global generators are functions of (seed, epoch, batch).
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback

from snn2chip.checkpoint_tensors import DAMAGE, load_pickled
from snn2chip.errors import FileFormatError, InputError
from snn2chip.train.batches import GLOBAL, Batches, number_of
from snn2chip.writing import replacing

KEY = "snn2chip"
_HASHED_ROWS = 64
_HASHED_WHOLE = 2**32  # bytes


def resume_path(out: str | os.PathLike[str]) -> Path:
    """Return where the resume file of checkpoint `out` lies."""
    return Path(f"{os.fspath(out)}.resume.ckpt")


def data_digest(batches: Batches) -> str:
    """Return a hash of the training data: all values, or labels and 64 rows when they do not lie in memory."""
    digest = hashlib.sha256()
    raw, labels = batches.raw, batches.labels
    digest.update(labels.numpy().tobytes())
    whole = isinstance(raw, torch.Tensor) and raw.numel() * raw.element_size() <= _HASHED_WHOLE
    rows = raw if whole else raw[torch.linspace(0, len(raw) - 1, min(_HASHED_ROWS, len(raw))).long()]
    digest.update(str((len(raw), str(rows.dtype), tuple(rows.shape))).encode())
    digest.update(rows.numpy().data)
    return digest.hexdigest()


def read_resume(path: Path, identity: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return (epoch, done) of the resume file at `path`, or None when there is none.

    Raises FileFormatError for a file that is not whole, InputError when it belongs to another run.
    """
    if not path.exists():
        return None
    again = f"delete it, or start anew with --no-resume (resume {path})"
    try:
        found = load_pickled(path, advice="")[KEY]
        theirs, epoch, done = json.loads(found["identity"]), int(found["epoch"]), int(found["done"])
    except (FileFormatError, *DAMAGE) as error:
        raise FileFormatError(f"{path}: not a resume file, or damaged ({error!s:.200}); {again}") from error
    if breaches := list(_differences(theirs, json.loads(json.dumps(identity)))):
        raise InputError([f"{path}: belongs to another run: {text}; {again}" for text in breaches])
    return epoch, done


def _differences(theirs: Any, ours: Any, *, at: str = "") -> Iterator[str]:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in sorted({*theirs, *ours}):
            yield from _differences(theirs.get(key), ours.get(key), at=f"{at}.{key}" if at else key)
    elif theirs != ours:
        yield f"{at} is {ours!s:.40} now and was {theirs!s:.40}"


class Resume(Callback):
    """Writes the resume file after every epoch, and inside epochs every `minutes` or `steps`."""

    def __init__(
        self, path: Path, identity: Mapping[str, Any], *, minutes: float | None = None, steps: int | None = None
    ) -> None:
        super().__init__()
        self.path, self.identity = path, json.dumps(identity, sort_keys=True)
        self.minutes, self.steps = minutes, steps
        self.reached = (0, 0)
        self.saved = time.monotonic()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save inside an epoch; behind its last batch the end of the epoch does."""
        done = batch_idx + 1
        due = self.steps is not None and done % self.steps == 0
        if self.minutes is not None and not due:
            late = time.monotonic() - self.saved >= 60 * self.minutes
            due = bool(trainer.strategy.broadcast(late)) if trainer.world_size > 1 else late
        if due and done < trainer.num_training_batches:
            self.save(trainer, epoch=trainer.current_epoch, done=done)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Save the whole epoch."""
        self.save(trainer, epoch=trainer.current_epoch + 1, done=0)

    def save(self, trainer: Any, *, epoch: int, done: int) -> None:
        """Write the file so that it is whole at every moment."""
        self.reached = (epoch, done)
        if trainer.is_global_zero:
            with replacing(self.path) as part:
                trainer.save_checkpoint(part)
        else:
            trainer.save_checkpoint(self.path)  # takes part, writes nothing
        self.saved = time.monotonic()

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Say which run this is and how far it came."""
        epoch, done = self.reached
        checkpoint[KEY] = {"identity": self.identity, "epoch": epoch, "done": done}


class Seeds(Callback):
    """Sets the global generators of torch, numpy and random before every batch, from (seed, epoch, batch)."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Set them; every process its own."""
        number = number_of(self.seed, trainer.current_epoch, GLOBAL, batch_idx, trainer.global_rank)
        torch.manual_seed(number)
        np.random.seed(number % 2**32)  # noqa: NPY002
        random.seed(number)


@contextmanager
def callers_generators() -> Iterator[None]:
    """The global generators of torch, numpy and random are the caller's again afterwards."""
    states = np.random.get_state(), random.getstate()  # noqa: NPY002
    with torch.random.fork_rng():
        try:
            yield
        finally:
            np.random.set_state(states[0])  # noqa: NPY002
            random.setstate(states[1])
