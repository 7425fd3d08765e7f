"""The command `snn2chip`, and `python -m snn2chip`: listens to signals first, then loads the verbs."""

from __future__ import annotations

from snn2chip.signals import leave_early


def main() -> None:
    """Entry point of the command; see `snn2chip.cli.command.main`."""
    leave_early()
    from snn2chip.cli import main as command

    command()


if __name__ == "__main__":
    main()
