"""The files of this folder by import, whatever the folder tests are run from."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
