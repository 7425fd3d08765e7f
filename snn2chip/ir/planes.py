"""Sources with one spatial axis: `[C, L]` is read as `[C, 1, L]` by every layer that works on planes."""

from __future__ import annotations

Shape = tuple[int, ...]


def plane_of(shape: Shape) -> tuple[Shape, list[str]]:
    """Return `[C, H, W]` of a source `[C, H, W]` or `[C, L]`, and what is wrong with any other."""
    if len(shape) == 3:
        return shape, []
    if len(shape) == 2:
        return (shape[0], 1, shape[1]), []
    return shape, [f"needs a source [C,H,W] or [C,L], got {list(shape)}"]


def as_plane(shape: Shape, *, like: Shape) -> Shape:
    """Return a shape `[C, H, W]` with as many axes as the source `like`."""
    return (shape[0], shape[2]) if len(like) == 2 else shape
