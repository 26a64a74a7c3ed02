"""main.py, but the state is saved at the end of a cycle and at a stop only, as where saving takes long.

python tests/saving_late.py ARGUMENTS OF main.py
"""

import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from pt4al.run import run_folder

if __name__ == "__main__":
    run_folder.SAVING_SHARE = -1
    sys.argv[0] = str(ROOT / "main.py")
    runpy.run_path(sys.argv[0], run_name="__main__")
