"""Peak memory of training, measured in a process of its own.

The process loads the data, builds the model, makes one update (optimiser state, library buffers), resets the kernel's
high-water mark of resident memory, makes three updates and reports the mark above the level before. Freed blocks go
back to the system at once (MALLOC_MMAP_THRESHOLD_), so that resident memory follows the tensors.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

BATCH, UPDATES = 64, 3


def peaks(recipe: str, *, method: str, steps: int) -> float:
    """Return the peak bytes above the loaded model of training `recipe` with T = `steps`, method online or stbp."""
    command = [sys.executable, "-m", "benchmarks.methods.memory", recipe, method, str(steps)]
    small = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_")
    settings = {**dict.fromkeys(small, "65536"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} failed:\n{done.stderr}")
    return float(done.stdout)


def _resident(key: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024


def main(name: str, method: str, steps: int) -> int:
    """Train a few updates and return the peak."""
    import gc

    import attrs
    import torch
    from torch.nn.functional import cross_entropy

    from snn2chip.train import load_recipe
    from snn2chip.train.online import online_step
    from snn2chip.train.optimise import make_optimiser
    from snn2chip.train.prepare import prepare

    torch.set_num_threads(1)
    recipe = load_recipe(name)
    recipe = attrs.evolve(recipe, args={**recipe.args, "T": steps}, train_samples=BATCH, test_samples=1)
    model, header, train, _ = prepare(recipe)
    raw, labels = train.arrays()
    x, y = header.input.apply(raw["x"]), torch.as_tensor(labels)
    optimiser = make_optimiser(model.train(), recipe)

    def update() -> None:
        if method == "online":
            online_step(model, x, y, optimiser=optimiser)
            return
        optimiser.zero_grad()
        cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    update()
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = _resident("VmRSS")
    for _ in range(UPDATES):
        update()
    return _resident("VmHWM") - before


if __name__ == "__main__":
    print(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
