"""The site builds strictly: every link and every anchor as mkdocs sees them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from blocks import ROOT

pytest.importorskip("mkdocs", reason="the site needs the extra `docs`")


@pytest.mark.slow
def test_the_site_builds(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    front = (tmp_path / "site" / "index.html").read_text()
    assert "Begin with the" in front
    assert (tmp_path / "site" / "benchmarks" / "RESULTS" / "index.html").is_file()
    assert not (tmp_path / "site" / "tools").exists()
