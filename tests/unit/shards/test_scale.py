"""The table of docs/scale.md is what its arithmetic makes of the figures measured."""

from __future__ import annotations

import json

from benchmarks.scale import BEGIN, END, FIGURES, PAGE, Assumed, cost, table


def test_the_arithmetic_by_hand():
    """2 nodes of 4 cores: 32 shards of 32 images, 4 rounds of 32 * 0.5 s at half speed; 3 s at half speed to start."""
    assumed = Assumed(cores=4, speed=0.5, bandwidth=1e6, picture=1000)
    row = cost(2, image=0.5, start=3.0, take=0.25, assumed=assumed, images=1024)
    assert (row.workers, row.shard, row.shards) == (8, 32, 32)
    assert row.seconds == 6.0 + 4 * 32 * 0.5 / 0.5 + 32 * 0.25
    assert row.cpu_hours * 3600 == 1024 * 0.5 + 8 * 3.0 + 32 * 0.25
    slow = cost(2, image=0.5, start=3.0, take=0.25, assumed=Assumed(cores=4, speed=0.5, bandwidth=1e3, picture=1000),
                images=1024)  # fmt: skip
    assert slow.seconds == 6.0 + 1024 + 8.0  # the file share takes longer than the work


def test_the_page_holds_the_table_of_its_figures():
    made = PAGE.read_text().split(BEGIN)[1].split(END)[0].strip()
    assert made == table(json.loads(FIGURES.read_text()), Assumed())
