"""The page of the accuracy table, made of result files alone."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.accuracy.measure import Result

HEAD = """# What quantization costs

Written by `python -m benchmarks accuracy` from the files in `accuracy/results`; do not edit. Trained nets of
`tests/data/trained` and of the zoo on all images of the test set: correct answers of the integer program beside those
of the float model, and how many answers agree. Lost: float minus integer, in points; a bar is what a row may lose. Two
nets that disagree on a share d of n images differ in accuracy by chance alone by up to about 100*sqrt(d/n) points (one
standard deviation, shown as ±). Nothing was trained again for these rows: weights are rounded after training (binary
weights were trained binary), on calibration images of the training set.

- nearest: every weight to the nearest; fitted: weights, units and biases chosen on the calibration images
  (`compile --rounding fitted`).
- EM-PF: float is the float model with the program's own payload codes.
"""


def page(results: Sequence[Result]) -> str:
    """Return the page as Markdown."""
    lines = [
        "| net and width | rounding | weight bits | weights, bytes | images | float % | integer % | lost | ± | bar | "
        "agree | | calibration |",
        "|" + " --- |" * 13,
    ]
    lines += [_line(result) for result in results]
    machines = dict.fromkeys(
        f"{r.machine['cpu']}, {r.machine['threads']} thread, Python {r.machine['python']}, torch {r.machine['torch']}"
        for r in results
    )
    seconds = sum(result.seconds for result in results)
    facts = [f"- {machine}" for machine in machines]
    facts.append(f"- torch backend; {seconds / 60:.1f} CPU minutes for all rows")
    return "\n".join([HEAD, *lines, "", *facts, ""])


def _line(r: Result) -> str:
    chance = 100 * ((r.images - r.agree) / r.images**2) ** 0.5
    judged = {True: "pass", False: "**fail**", None: ""}[r.passed]
    cal = r.calibration
    cells = [
        r.what,
        r.rounding,
        r.bits,
        f"{r.weight_bytes:,}",
        f"{r.images:,}",
        f"{100 * r.float_right / r.images:.2f}",
        f"{100 * r.integer_right / r.images:.2f}",
        f"{r.points:+.2f}",
        f"{chance:.2f}",
        "" if r.bar is None else f"<= {r.bar}",
        f"{r.agree:,}",
        judged,
        f"{cal['samples']} images of {cal['data']} {cal['split']}",
    ]
    return "| " + " | ".join(cells) + " |"
