"""Running Lightning's Trainer as a library should: quiet, repeatable, and leaving the caller's state alone.

Deterministic algorithms, the random state, log levels and warning filters are the caller's again afterwards.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snn2chip.errors import EnvironmentFault, InputError

if TYPE_CHECKING:
    from torch import nn

    from snn2chip.train.batches import Batches
    from snn2chip.train.recipe import Recipe

DEVICES = ("cpu", "cuda")
_LOGGERS = ("lightning.pytorch", "lightning.fabric", "pytorch_lightning", "lightning_fabric")


def fit(
    model: nn.Module,
    batches: Batches,
    recipe: Recipe,
    *,
    device: str = "cpu",
    progress: bool | None = None,
    logs: Path | None = None,
) -> None:
    """Train `model` in place; `progress` None shows a bar on a terminal only, `logs` writes CSV files there.

    Raises EnvironmentFault when Lightning is not installed or the device is not here.
    """
    try:
        with _quiet():
            from lightning.pytorch import Trainer
            from lightning.pytorch.callbacks import Callback, RichProgressBar
            from lightning.pytorch.loggers import CSVLogger

            from snn2chip.train.modules import module_for
    except ImportError as error:
        raise EnvironmentFault(
            f"training needs Lightning ({error}); install it with: pip install 'snn2chip[train]'"
        ) from error
    check_device(device)
    shown = sys.stderr.isatty() if progress is None else progress
    bars: list[Callback] = [RichProgressBar(leave=False, console_kwargs={"stderr": True})] if shown else []
    with _quiet(), _repeatable(device, threads=recipe.threads), _interruptible():
        trainer: Any = Trainer(
            accelerator="gpu" if device == "cuda" else "cpu",
            devices=1,
            max_epochs=recipe.epochs,
            deterministic=True,
            logger=CSVLogger(str(logs), name=None) if logs is not None else False,
            log_every_n_steps=10,
            callbacks=bars,
            enable_progress_bar=shown,
            enable_checkpointing=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
        )
        trainer.fit(module_for(model, recipe, steps_per_epoch=len(batches)), batches)
    if trainer.interrupted:
        raise KeyboardInterrupt
    model.cpu()


def check_device(device: str) -> None:
    """Raise InputError for an unknown device, EnvironmentFault for one that is not here."""
    import torch

    if device not in DEVICES:
        raise InputError(f"device {device!r} is unknown; known: {', '.join(DEVICES)}")
    if device == "cuda" and not torch.cuda.is_available():
        raise EnvironmentFault("device 'cuda' was asked for, but PyTorch sees no CUDA device; use --device cpu")


@contextmanager
def _quiet() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(lightning|pytorch_lightning|torchmetrics|torch\.jit)")
        warnings.filterwarnings("ignore", message=".*pkg_resources.*")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C stays a KeyboardInterrupt: Lightning turns it into exit(1) and ignores the next one."""
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    finally:
        if main and handler is not None:
            signal.signal(signal.SIGINT, handler)


@contextmanager
def _repeatable(device: str, *, threads: int) -> Iterator[None]:
    """One recipe, one result: deterministic algorithms, own random state, the recipe's number of CPU threads."""
    import torch

    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    if device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads)
    with torch.random.fork_rng():
        try:
            yield
        finally:
            torch.set_num_threads(threads_before)
            torch.use_deterministic_algorithms(before, warn_only=warn_only)
