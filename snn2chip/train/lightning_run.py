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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snn2chip.errors import EnvironmentFault
from snn2chip.threads import torch_threads

if TYPE_CHECKING:
    from torch import nn

    from snn2chip.train.batches import Batches
    from snn2chip.train.options import RunOptions
    from snn2chip.train.recipe import Recipe

_LOGGERS = ("lightning.pytorch", "lightning.fabric", "pytorch_lightning", "lightning_fabric")


def fit(
    model: nn.Module,
    batches: Batches,
    recipe: Recipe,
    *,
    options: RunOptions,
    resume: Path,
    identity: Mapping[str, Any],
) -> bool:
    """Train `model` in place, going on from the file `resume` when it is there; it stays on the training device.

    Returns whether this process is the one that writes results. Raises EnvironmentFault when Lightning or a logger is
    not installed, and what `read_resume` raises.
    """
    with quiet():
        require_lightning()
        from lightning.pytorch import Trainer
        from lightning.pytorch.callbacks import Callback, RichProgressBar

        from snn2chip.train.modules import Data, module_for
        from snn2chip.train.resume import Resume, Seeds, callers_generators, read_resume
    if not options.resume:
        resume.unlink(missing_ok=True)
    reached = read_resume(resume, identity)
    if reached is not None:
        batches.begin(epoch=reached[0], done=reached[1])
    shown = sys.stderr.isatty() if options.progress is None else options.progress
    saves = Resume(resume, identity, minutes=options.save_minutes, steps=options.save_steps)
    callbacks: list[Callback] = [Seeds(recipe.seed), saves]
    if shown:
        callbacks.append(RichProgressBar(leave=False, console_kwargs={"stderr": True}))
    with quiet(), repeatable(options.device, threads=recipe.threads), callers_generators(), _interruptible():
        trainer: Any = Trainer(
            accelerator="gpu" if options.device == "cuda" else "cpu",
            devices=options.devices,
            num_nodes=options.nodes,
            strategy=options.strategy,
            precision=recipe.precision,  # type: ignore[arg-type]
            sync_batchnorm=options.device == "cuda" and options.processes > 1,
            max_epochs=recipe.epochs,
            deterministic=recipe.deterministic,
            benchmark=not recipe.deterministic,
            logger=_logger(options) if options.logs is not None else False,
            log_every_n_steps=10,
            callbacks=callbacks,
            plugins=_plugins(),
            enable_progress_bar=shown,
            enable_checkpointing=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
        )
        module = module_for(model, recipe, steps_per_epoch=len(batches))
        data = Data(batches, workers=options.workers, pin=options.device == "cuda")
        trainer.fit(module, datamodule=data, ckpt_path=None if reached is None else str(resume), weights_only=True)
    if trainer.interrupted:
        raise KeyboardInterrupt
    return bool(trainer.is_global_zero)


def require_lightning() -> None:
    """Raise EnvironmentFault when Lightning is not installed."""
    try:
        import lightning.pytorch  # noqa: F401
    except ImportError as error:
        raise EnvironmentFault(
            f"training needs Lightning ({error}); install it with: pip install 'snn2chip[train]'"
        ) from error


def _plugins() -> list[Any]:
    """On SLURM: no checkpoints of Lightning's own when a job is requeued, they would come before the resume file."""
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

    return [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []


def _logger(options: RunOptions) -> Any:
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

    if options.logger == "csv":
        return CSVLogger(str(options.logs), name=None)
    if find_spec("tensorboard") is None and find_spec("tensorboardX") is None:
        raise EnvironmentFault("logs for TensorBoard need its package; install it with: pip install tensorboard")
    return TensorBoardLogger(str(options.logs), name=None)


@contextmanager
def quiet() -> Iterator[None]:
    """Lightning's advice and notes are for its own users."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(lightning|pytorch_lightning|torchmetrics|torch\.jit)")
        warnings.filterwarnings("ignore", message=".*pkg_resources.*")
        warnings.filterwarnings("ignore", message=".*checkpoint that ended before the epoch ended.*")
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
            raise error.__context__ from None
        raise
    finally:
        if main and handler is not None:
            signal.signal(signal.SIGINT, handler)


@contextmanager
def repeatable(device: str, *, threads: int) -> Iterator[None]:
    """One recipe, one result: the recipe's number of CPU threads; deterministic algorithms are undone afterwards."""
    import torch

    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn = torch.backends.cudnn
    flags = cudnn.benchmark, cudnn.deterministic
    if device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    try:
        with torch_threads(threads):
            yield
    finally:
        cudnn.benchmark, cudnn.deterministic = flags
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
