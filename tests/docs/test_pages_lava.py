"""The pages that run Lava."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from blocks import Page, pages, run_page

PAGES = [page for page in pages() if page.runs and "lava" in page.needs]


@pytest.mark.lava
@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page(page: Page, folder: Callable[[Page], None]) -> None:
    folder(page)
    run_page(page)
