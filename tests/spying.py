"""A script of ours, and in `read.txt` the options that it read, one a line.

python tests/spying.py SCRIPT ARGUMENTS
"""

import os
import runpy
import sys
from dataclasses import fields
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from config import Config
from pt4al.base import processes

# These read every option, or those that the metadata names.
BLIND_TO = {"dataclasses.py", "command_line.py", "record.py"}
NAMES = {f.name for f in fields(Config)}


def main() -> None:
    seen: set[str] = set()

    def spy(config: Config, name: str) -> object:
        if name in NAMES and Path(sys._getframe(1).f_code.co_filename).name not in BLIND_TO:
            seen.add(name)
        return object.__getattribute__(config, name)

    Config.__getattribute__ = spy
    if os.environ.get("CONTROL"):  # a script that reads what it does not name
        start = processes.start
        processes.start = lambda config, **how: start(config, **{**how, "trains": True})
    del sys.argv[0]
    sys.argv[0] = str(ROOT / sys.argv[0])
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    finally:
        Path("read.txt").write_text("\n".join(sorted(seen)))


if __name__ == "__main__":
    main()
