"""`python -m snn2chip` is the command `snn2chip`."""

from __future__ import annotations

from snn2chip.cli import main

if __name__ == "__main__":
    main()
