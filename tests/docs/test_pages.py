"""Every code block of README and of the pages runs, in order, in a folder of its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from blocks import RUN, SHOWN, Page, pages, run_page

PAGES = [page for page in pages() if page.runs and "lava" not in page.needs]
NOT_RUN_AT_MOST = 12


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page(page: Page, folder: Callable[[Page], None]) -> None:
    folder(page)
    run_page(page)


def test_blocks_say_what_they_are() -> None:
    odd = [f"{p.name}:{b.line}: {b.kind or 'nothing'}" for p in pages() for b in p.blocks if b.kind not in RUN + SHOWN]
    assert not odd, f"a block is one of {', '.join(RUN + SHOWN)}: {odd}"


def test_few_blocks_are_not_run() -> None:
    left = [f"{p.name}:{b.line}: {b.why}" for p in pages() for b in p.blocks if b.kind in RUN and b.why is not None]
    assert len(left) <= NOT_RUN_AT_MOST, "\n".join(left)
