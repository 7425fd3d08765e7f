"""Own Lava processes, one module per folder: Lava's compiler executes every .py file beside a process's module."""

SINK_PORTS = 16
"""Input ports of one sink."""
