"""One row measured: the program on every test image, its answers beside those of the float network."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from benchmarks.accuracy.rows import FOLDERS, Row
from benchmarks.machine import describe_machine
from snn2chip import quantize
from snn2chip.ir.files import replacing, write_text
from snn2chip.quantize.widths import weight_bytes

BLOCK, FLOAT_BLOCK = 500, 100
"""Images run at once."""


@attrs.frozen(kw_only=True)
class Result:
    """What a row measured: correct answers of both networks, answers that agree, what was used for calibration."""

    row: str
    net: str
    what: str
    bar: float | None
    images: int
    float_right: int
    integer_right: int
    agree: int
    bits: str
    rounding: str
    payload_bits: int | None
    same_payloads: bool
    calibration: dict[str, Any]
    weight_bytes: int
    seconds: float
    identity: str
    machine: dict[str, Any]

    @property
    def points(self) -> float:
        """Points lost against float."""
        return 100 * (self.float_right - self.integer_right) / self.images

    @property
    def passed(self) -> bool | None:
        """Whether it loses no more than it may; None where nothing is asked."""
        return None if self.bar is None else self.points <= self.bar + 1e-9


def checkpoint(row: Row, nets: Sequence[Path] = FOLDERS) -> Path | None:
    """The trained net of a row, or None if it is in none of the folders."""
    return next((path for folder in nets if (path := folder / f"{row.net}.safetensors").is_file()), None)


def identity(row: Row, path: Path, *, images: int) -> str:
    """A digest of the row, the bytes of its net, the number of images and the quantizer's sources."""
    digest = hashlib.sha256(json.dumps([attrs.asdict(row), images], sort_keys=True).encode())
    digest.update(path.read_bytes())
    for source in sorted(Path(quantize.__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def measure(row: Row, path: Path, *, images: int, cache: Path) -> Result:
    """Compile the net `path` as a row says and run it; `cache` keeps float answers, which several rows share."""
    import torch

    from snn2chip.api import run
    from snn2chip.checkpoint_compile import compile_checkpoint_graph
    from snn2chip.data import load_data
    from snn2chip.quantize.choices import Choices
    from snn2chip.quantize.payload_steps import with_payloads

    torch.set_num_threads(1)
    started = time.process_time()
    program, graph = compile_checkpoint_graph(path, choices=Choices(**row.choices), **row.options)
    raw, labels = load_data(str(program.meta["data"]), split="test")
    raw, labels = raw[:images], labels[:images]
    if row.same_payloads:
        graph = with_payloads(program, graph)
    floats = _float_answers(graph if row.same_payloads else path, raw, _key(row, path, len(raw)), cache)
    blocks = (run(program, raw[i : i + BLOCK], record="outputs").outputs for i in range(0, len(raw), BLOCK))
    integers = np.concatenate([block.argmax(1) for block in blocks])
    return Result(
        row=row.name,
        net=row.net,
        what=row.what,
        bar=row.bar,
        images=len(labels),
        float_right=int((floats == labels).sum()),
        integer_right=int((integers == labels).sum()),
        agree=int((floats == integers).sum()),
        bits=", ".join(dict.fromkeys(str(s.bits) for s in program.synapses)),
        rounding=str(program.meta.get("rounding", "nearest")),
        payload_bits=row.choices.get("payload_bits"),
        same_payloads=row.same_payloads,
        calibration=dict(program.meta["calibration"]),
        weight_bytes=weight_bytes(program),
        seconds=round(time.process_time() - started, 1),
        identity=identity(row, path, images=images),
        machine=describe_machine(1),
    )


def _key(row: Row, path: Path, images: int) -> str:
    """Float answers are those of a net; of the same net with a row's own payload codes they are that row's."""
    own = row.name if row.same_payloads else row.net
    return f"{own}-{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}-{images}"


def _float_answers(net: Any, raw: Any, key: str, cache: Path) -> Any:
    """Classes `[N]` of a checkpoint's own model, or of a float graph, on raw samples; kept by key."""
    import torch

    from snn2chip.checkpoint import load_checkpoint
    from snn2chip.train import predict

    kept = cache / f"{key}.npy"
    if kept.is_file():
        return np.load(kept, allow_pickle=False)
    if isinstance(net, Path):
        model, header = load_checkpoint(net)
        answers = predict(model, raw, spec=header.input, batch=FLOAT_BLOCK).argmax(1)
    else:
        blocks = (torch.as_tensor(raw[i : i + FLOAT_BLOCK]).float() for i in range(0, len(raw), FLOAT_BLOCK))
        with torch.no_grad():
            answers = np.concatenate([net.run(block).output.flatten(1).argmax(1).numpy() for block in blocks])
    with replacing(kept) as part, open(part, "wb") as file:
        np.save(file, answers)
    return answers


def write(result: Result, path: Path) -> None:
    """Write a result as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(attrs.asdict(result), indent=1) + "\n")


def read(path: Path) -> Result | None:
    """The result of a file, or None without one."""
    return Result(**json.loads(path.read_text())) if path.is_file() else None
