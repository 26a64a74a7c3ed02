"""Kill every root script at random moments, start it again until it is done, and compare all files
with a run that was left alone: they must be equal byte for byte (wall-clock columns apart).

    python tests/stress/kill_and_resume.py --kills 200      about 5 s a kill on 2 CPU cores

Prints a line a scenario and exits with status 1 on the first difference.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from shell import RANDOM_BASELINE, TINY, command, differences, environment, run

STEPS = {
    "rotation": ("rotation.py", []),
    "make_batches": ("make_batches.py", []),
    "main": ("main.py", []),
    "main_pt4al": ("main_pt4al.py", []),
    "whole_dataset": ("whole_dataset.py", []),
}
VARIANTS = {
    "plain": [],
    "float32, scratch, last": ["--precision", "float32", "--init", "scratch", "--select", "last"],
    "every epoch saved": ["--checkpoint-every", "1"],
    "two processes": ["--threads", "1"],
    "random baseline": RANDOM_BASELINE,
}


def start(folder: Path, script: str, flags: list[str], processes: int) -> subprocess.Popen:
    return subprocess.Popen(
        command(script, "digits", *TINY, *flags, processes=processes), cwd=folder, env=environment(),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def kill_until_done(
    folder: Path,
    script: str,
    flags: list[str],
    processes: int,
    seconds: float,
    limit: int,
    source: random.Random,
    number: signal.Signals = signal.SIGKILL,
) -> int:
    """Run a script to its end through up to `limit` kills at moments drawn from `source`; returns
    how many there were.

    Raises:
        RuntimeError: the script ended by itself with anything but success.
    """  # fmt: skip
    kills = 0
    while True:
        process = start(folder, script, flags, processes)
        try:
            if kills < limit:
                time.sleep(source.uniform(0, seconds))
                if process.poll() is None:
                    # the whole session dies under SIGKILL, as a machine does; other signals go to the script
                    os.killpg(
                        process.pid, number
                    ) if number == signal.SIGKILL else process.send_signal(number)
                    process.communicate()
                    kills += 1
                    continue
            error = process.communicate()[1]
            if process.returncode != 0:
                raise RuntimeError(f"{script} {flags}: exit status {process.returncode}: {error}")
            return kills
        finally:
            if process.poll() is None:
                process.kill()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20, help="kills in all (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    source, kills, scenario = random.Random(options.seed), 0, 0
    references: dict[str, tuple[Path, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as top:
        while kills < options.kills:
            variant = list(VARIANTS)[scenario % len(VARIANTS)]
            flags, processes = VARIANTS[variant], 2 if variant == "two processes" else 1
            if variant not in references:
                alone, seconds = Path(top, f"alone-{variant}"), {}
                alone.mkdir()
                for step, (script, _) in STEPS.items():
                    began = time.perf_counter()
                    run(alone, script, "digits", *TINY, *flags, processes=processes)
                    seconds[step] = time.perf_counter() - began
                references[variant] = alone, seconds
            alone, seconds = references[variant]
            folder = Path(top, "killed")
            folder.mkdir()
            counts = {}
            for step, (script, _) in STEPS.items():
                counts[step] = kill_until_done(
                    folder, script, flags, processes, seconds[step], 6, source
                )
            kills += sum(counts.values())
            if different := differences(alone, folder):
                sys.exit(f"{variant}: after {counts} these files differ: {', '.join(different)}")
            print(
                f"{variant}: {sum(counts.values())} kills {counts}, no difference; {kills} in all",
                flush=True,
            )
            shutil.rmtree(folder)
            scenario += 1


if __name__ == "__main__":
    main()
