"""Kill every root script at random moments, start it again until it is done, and compare all files
with a run that was left alone: they must be equal byte for byte (wall-clock columns apart).

    python tests/stress/kill_and_resume.py --kills 300      about 3 s a kill on 2 CPU cores

Half of the kills come at a moment drawn over the time that the script takes, half while a file is being written
(its `.part` is there). They hit every process at once, the process groups, or one process; a quarter are SIGTERM
to the groups. The variants take turns; one process saves after every epoch, two as seldom as ever. Prints a line
per scenario and exits with status 1 on the first difference.
"""

import argparse
import contextlib
import math
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
from shell import (
    RANDOM_BASELINE,
    SCRIPTS,
    TINY,
    Started,
    command,
    differences,
    environment,
    environment_of,
    run_tiny,
    tree,
)

VARIANTS: dict[str, tuple[list[str], int]] = {
    "precision auto, warm, best": ([], 1),
    "two processes": (["--threads", "1"], 2),
    "float32, scratch, last": (["--precision", "float32", "--init", "scratch", "--select", "last"], 1),
    "scratch, best": (["--init", "scratch", "--select", "best"], 1),
    "two processes, float32, last": (["--threads", "1", "--precision", "float32", "--select", "last"], 2),
    "random baseline, warm, last": ([*RANDOM_BASELINE, "--select", "last"], 1),
}


def start(folder: Path, script: str, flags: list[str], processes: int) -> Started | subprocess.Popen:
    if processes == 1:
        return Started(folder, script, "digits", *TINY, *flags, saving_share=math.inf)
    return subprocess.Popen(
        command(script, "digits", *TINY, *flags, processes=processes), cwd=folder, env=environment(), text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def kill(process: Started | subprocess.Popen, how: str, source: random.Random) -> None:
    """Stop a script and all that it started, and wait until all of it is gone.

    Args:
        how: tree (SIGKILL to every process at once, as when a machine goes down), group (SIGKILL to
            its process groups), terminate (SIGTERM to them, as a launcher does), or one (SIGKILL to
            one process; its launcher, if any, stops the others).
    """
    pids = tree(process.pid)
    if how == "one":
        workers = [pid for pid in pids if "RANK" in environment_of(pid)]
        hit(source.choice(workers or pids), signal.SIGKILL)
    elif how == "tree":
        for pid in pids:
            hit(pid, signal.SIGKILL)
    else:
        number = signal.SIGKILL if how == "group" else signal.SIGTERM
        for group in {os.getpgid(pid) for pid in pids if alive(pid)} - {os.getpgid(0)}:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, number)
    process.communicate()
    while any(alive(pid) for pid in pids):
        time.sleep(0.01)


def hit(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for_a_write(folder: Path, process: subprocess.Popen, number: int) -> None:
    """Until the script is writing a file for the `number`th time, or has ended."""
    seen: set[tuple[str, int]] = set()
    while process.poll() is None and len(seen) < number:
        time.sleep(0.0005)
        for top, _, names in os.walk(folder):
            for name in names:
                if name.endswith(".part"):
                    with contextlib.suppress(FileNotFoundError):
                        path = os.path.join(top, name)
                        seen.add((path, os.stat(path).st_ino))


def kill_until_done(
    folder: Path,
    script: str,
    flags: list[str],
    processes: int,
    seconds: float,
    limit: int,
    source: random.Random,
) -> int:
    """Run a script to its end through up to `limit` kills drawn from `source`; returns how many there were.

    Raises:
        RuntimeError: the script ended by itself with anything but success.
    """
    kills = 0
    while True:
        process = start(folder, script, flags, processes)
        if kills < limit:
            if source.random() < 0.5:
                wait_for_a_write(folder, process, source.randint(1, 4))
            else:
                time.sleep(source.uniform(0, seconds))
            if process.poll() is None:
                kill(process, source.choice(("tree", "group", "terminate", "one")), source)
                kills += 1
                continue
        error = process.communicate()[1]
        if process.returncode != 0:
            raise RuntimeError(f"{script} {flags}: exit status {process.returncode}: {error}")
        return kills


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20, help="kills in all (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    options = parser.parse_args()
    source, kills, scenario = random.Random(options.seed), 0, 0
    references: dict[str, tuple[Path, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as top:
        while kills < options.kills:
            variant = list(VARIANTS)[scenario % len(VARIANTS)]
            flags, processes = VARIANTS[variant]
            if variant not in references:
                alone, seconds = Path(top, f"alone-{variant}"), {}
                alone.mkdir()
                for script in SCRIPTS:
                    began = time.perf_counter()
                    run_tiny(alone, script, *flags, processes=processes)
                    seconds[script] = time.perf_counter() - began
                references[variant] = alone, seconds
            alone, seconds = references[variant]
            folder = Path(top, "killed")
            folder.mkdir()
            counts = {
                script: kill_until_done(folder, script, flags, processes, seconds[script], 15, source)
                for script in SCRIPTS
            }
            kills += sum(counts.values())
            if different := differences(alone, folder):
                sys.exit(f"{variant}: after {counts} these files differ: {', '.join(different)}")
            print(f"{variant}: {counts}, no difference; {kills} kills in all", flush=True)
            shutil.rmtree(folder)
            scenario += 1


if __name__ == "__main__":
    main()
