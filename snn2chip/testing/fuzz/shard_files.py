"""The door of stored shards: results of small runs as files, and damage that is sealed as if it had been written so."""

from __future__ import annotations

import io
import json
import random
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from snn2chip.testing.fuzz import seeds
from snn2chip.testing.fuzz.archives import zip_damage
from snn2chip.testing.fuzz.damage import Damage, bytes_damage
from snn2chip.testing.fuzz.values import changed, json_text

if TYPE_CHECKING:
    from snn2chip.shards.partial import Partial

MARK = "snn2chip shard"
START, STOP = 0, 3
TREE = "tree.npy"


def _place(folder: Path) -> Partial:
    """Where shards of `run` would be kept; the versions of this machine are no part of the name."""
    from snn2chip.shards.partial import Partial
    from snn2chip.shards.running import RunJob

    own = folder / "set" / "0123456789ab"
    own.mkdir(parents=True, exist_ok=True)
    return Partial(own, RunJob.fields)


def shard_files(folder: Path) -> list[bytes]:
    """What three samples gave: outputs alone, and everything."""
    import snn2chip
    from snn2chip.shards.plan import Shard
    from snn2chip.shards.running import trace_state
    from snn2chip.shards.trees import pack

    x, part = np.random.default_rng(7).integers(0, 2, (4, STOP, 6)), _place(folder)
    made = []
    for record in ("outputs", "all"):
        trace = snn2chip.run(seeds.small_program(), x, backend="reference", record=record, time_axis=True)
        part.write(Shard(0, START, STOP), pack(trace_state(trace)))
        made.append(part.path(START, STOP).read_bytes())
    return made


def load_shard(path: Path) -> object:
    """The input in the place of a stored shard."""
    part = _place(path.parent)
    part.path(START, STOP).write_bytes(path.read_bytes())
    return part.opened(START, STOP)


def resealed(damage: Damage) -> Damage:
    """The same damage with the seal made right again, so that what lies behind it is reached."""

    def sealing(data: bytes, rng: random.Random) -> bytes:
        from snn2chip.shards.trees import seal, unseal

        mark = data[data.rindex(MARK.encode()) :].decode().rpartition(" ")[0]
        return seal(damage(unseal(data, mark), rng), mark)

    return sealing


def tree_damage(data: bytes, rng: random.Random) -> bytes:
    """The JSON text that names the arrays, with some of its values exchanged."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    tree = json.loads(np.load(io.BytesIO(members[TREE])).tobytes())
    stream = io.BytesIO()
    np.save(stream, np.frombuffer(json_text(changed(tree, rng), rng).encode(), np.uint8))
    members[TREE] = stream.getvalue()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


WAYS: tuple[tuple[int, Any], ...] = ((3, resealed(zip_damage)), (3, resealed(tree_damage)), (2, resealed(bytes_damage)))
