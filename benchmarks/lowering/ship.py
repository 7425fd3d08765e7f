"""A trained zoo checkpoint as a `.s2c` file with golden vectors: `python -m benchmarks.lowering.ship CKPT OUT`.

The golden vector is the first test image and what the reference backend makes of them.
"""

from __future__ import annotations

import sys
from pathlib import Path

from snn2chip.checkpoint_compile import compile_checkpoint

GOLDEN = 1


def ship(checkpoint: Path, out: Path, *, golden: int = GOLDEN) -> int:
    """Write `out` and return its size in bytes."""
    from benchmarks.lowering.nets import images

    program = compile_checkpoint(checkpoint)
    program.save(out, golden=golden, inputs=images("test", golden)[0])
    return out.stat().st_size


if __name__ == "__main__":
    print(f"wrote {sys.argv[2]}, {ship(Path(sys.argv[1]), Path(sys.argv[2])):,} bytes")
