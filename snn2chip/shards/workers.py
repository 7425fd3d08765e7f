"""Where shards run: processes of this machine, a Dask scheduler's workers, or a Ray cluster; all through joblib."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from snn2chip.errors import EnvironmentFault, InputError

EXECUTORS = ("local", "dask", "ray")
RAY_ADDRESS = "RAY_ADDRESS"
"""Environment variable in which Ray looks for a cluster when nobody names one."""
CONNECT_SECONDS = 20
ALWAYS, PER_PROCESSOR = 16, 4
"""Processes of this machine that may be asked for anywhere, and for each of its processors."""


@attrs.frozen(kw_only=True)
class Workers:
    """`count` shards at once (None: one, or all that a cluster has), `shard` samples in each (None: by `count`).

    `executor`: local (processes of this machine), dask (`address` of its scheduler) or ray (`address` of the cluster;
    None starts or finds one here). `partial`: folder in which the results of shards are kept; `keep` them when all is
    done. Raises InputError for what does not go together.
    """

    count: int | None = None
    executor: str = "local"
    address: str | None = None
    shard: int | None = None
    partial: Path | None = None
    keep: bool = True

    def __attrs_post_init__(self) -> None:
        if self.executor not in EXECUTORS:
            raise InputError(f"the executor is one of {', '.join(EXECUTORS)}, got {self.executor!r}")
        if self.executor == "dask" and not self.address:
            raise InputError("dask needs the address of its scheduler, --scheduler tcp://HOST:8786")
        if self.executor == "local" and self.address:
            raise InputError("an address belongs to a cluster: --executor dask or --executor ray")
        for name, value in (("workers", self.count), ("samples per shard", self.shard)):
            if value is not None and value < 1:
                raise InputError(f"{name} must be at least 1, got {value}")
        if self.starts and (self.count or 1) > ALWAYS and (self.count or 1) > (most := _most()):
            raise InputError(
                f"workers must be at most {most} on this machine ({PER_PROCESSOR} for each of its processors), got "
                f"{self.count}; more processes only take memory"
            )

    @property
    def starts(self) -> bool:
        """Whether processes of this machine are started for it (Ray starts some where nobody names a cluster)."""
        named = self.address or os.environ.get(RAY_ADDRESS)
        return self.executor == "local" or (self.executor == "ray" and not named)

    @property
    def here(self) -> bool:
        """Whether shards run one after the other in this process."""
        return self.executor == "local" and (self.count or 1) == 1

    @contextmanager
    def connected(self) -> Iterator[Pool]:
        """The pool, for the time of the block. Raises EnvironmentFault for missing packages and silent addresses."""
        opened = {"local": _local, "dask": _dask, "ray": _ray}[self.executor]
        with opened(self) as pool:
            yield pool


@attrs.frozen(kw_only=True)
class Pool:
    """`lanes` shards at once; `options` are joblib's for its `backend`; `streams`: results come as they are made.

    `parent` is this process if the workers are its children.
    """

    lanes: int
    backend: str
    options: dict[str, Any]
    streams: bool = True
    parent: int | None = None


def _most() -> int:
    """Most processes of this machine."""
    return max(ALWAYS, PER_PROCESSOR * _processors())


def _processors() -> int:
    """Processors of this machine; in a container, those of its share."""
    from joblib import cpu_count

    return int(cpu_count())


@contextmanager
def _local(workers: Workers) -> Iterator[Pool]:
    options = {"inner_max_num_threads": 1}
    yield Pool(lanes=workers.count or 1, backend="loky", options=options, parent=os.getpid())


@contextmanager
def _dask(workers: Workers) -> Iterator[Pool]:
    try:
        distributed: Any = importlib.import_module("distributed")
    except ImportError as error:
        raise EnvironmentFault(_install("dask", error)) from error
    logging.getLogger("distributed").setLevel(logging.ERROR)
    try:
        client = distributed.Client(workers.address, timeout=CONNECT_SECONDS, set_as_default=True)
    except (OSError, TimeoutError, ValueError) as error:
        raise EnvironmentFault(f"no Dask scheduler answers at {workers.address} ({error})") from error
    try:
        found = sum(client.nthreads().values())
        if not found:
            raise EnvironmentFault(f"the Dask scheduler at {workers.address} has no workers; start some: dask worker")
        yield Pool(lanes=min(workers.count or found, found), backend="dask", options={})
    finally:
        client.close()


@contextmanager
def _ray(workers: Workers) -> Iterator[Pool]:
    try:
        ray: Any = importlib.import_module("ray")
        joblib: Any = importlib.import_module("ray.util.joblib")
    except ImportError as error:
        raise EnvironmentFault(_install("ray", error)) from error
    own = not ray.is_initialized()
    if own:
        places = {"num_cpus": max(2, workers.count or _processors()), "include_dashboard": False}
        given = places if workers.starts else {}
        try:
            ray.init(address=workers.address, log_to_driver=False, logging_level=logging.ERROR, **given)
        except (Exception, SystemExit) as error:  # Ray raises plain ones and leaves, too
            raise EnvironmentFault(f"no Ray cluster at {workers.address or 'this machine'} ({error})") from error
    joblib.register_ray()
    try:
        found = int(ray.cluster_resources().get("CPU", 0))
        if found < 2:  # joblib runs what has one place in this process
            raise EnvironmentFault(f"shards need a Ray cluster of two CPUs or more, this one has {found}: ray start")
        yield Pool(lanes=min(workers.count or found, found), backend="ray", options={}, streams=False)
    finally:
        if own:
            ray.shutdown()


def _install(name: str, error: ImportError) -> str:
    return f"--executor {name} needs its package ({error}); install it with: pip install 'snn2chip[{name}]'"
