"""A trained zoo checkpoint as the files that come with the zoo: `python -m benchmarks.lowering.ship CKPT NAME`.

    NAME.safetensors    weights rounded to float16, which is then the float model; its accuracy measured again
    NAME.s2c            what it compiles to, its accuracy, one test image as golden vector by the reference backend

Both at most 1 MB. Accuracies are those of the whole test set of the data set it was trained on.
"""

from __future__ import annotations

import sys
from pathlib import Path

import attrs
from snn2chip_models.shipped import FOLDER

from snn2chip.checkpoint import load_checkpoint, save_checkpoint
from snn2chip.checkpoint_compile import compile_checkpoint

GOLDEN, LARGEST = 1, 1_000_000


def ship(checkpoint: Path, name: str, *, folder: Path = FOLDER, golden: int = GOLDEN) -> dict[str, float]:
    """Write both files and return accuracies and sizes."""
    from snn2chip.api import run
    from snn2chip.data import open_data
    from snn2chip.train import evaluate

    model, header = load_checkpoint(checkpoint)
    weights, out = folder / f"{name}.safetensors", folder / f"{name}.s2c"
    folder.mkdir(parents=True, exist_ok=True)
    save_checkpoint(weights, model, header, half=True)
    model, header = load_checkpoint(weights)
    arrays, labels = open_data(str(header.provenance["data"]), split="test").arrays()
    exact = evaluate(model, (arrays["x"], labels), spec=header.input)
    header = attrs.evolve(header, metrics={**header.metrics, "test_accuracy": exact, "test_samples": len(labels)})
    save_checkpoint(weights, model, header, half=True)
    program = compile_checkpoint(weights)
    found = float((run(program, arrays["x"], record="outputs").pred == labels).mean())
    said = {**program.meta, "accuracy": {"float": exact, "integer": found, "samples": len(labels)}}
    attrs.evolve(program, meta=said).save(out, golden=golden, inputs=arrays["x"][:golden])
    sizes = {path.name: path.stat().st_size for path in (weights, out)}
    if max(sizes.values()) > LARGEST:
        raise SystemExit(f"more than {LARGEST:,} bytes: {sizes}")
    return {"float": exact, "integer": found, **sizes}


if __name__ == "__main__":
    print(ship(Path(sys.argv[1]), sys.argv[2]))
