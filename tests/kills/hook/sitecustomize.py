"""Put first on PYTHONPATH: the process counts its steps, and dies where it is told to."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from killpoints import install_from_environment

sys.path.pop(0)
install_from_environment()
