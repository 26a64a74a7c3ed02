"""Show runs in TensorBoard: its events, made from the CSV files of finished or
running runs. Epochs are steps counted through all cycles; the step of a cycle
is its number of labels. Started again it replaces what it wrote, so no epoch
shows twice.

Needs:   pip install tensorboard
Reads:   RUN/metrics.csv and, where there are cycles, RUN/cycles.csv
Writes:  RUN/tensorboard/events.out.tfevents.0.pt4al

Run:     python utils/to_tensorboard.py runs/cifar10-seed0/*
         tensorboard --logdir runs
"""

import io
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pt4al.base.console import Parser, UserError, run_script, say
from pt4al.base.files import write_bytes
from pt4al.run.runs import Table, read_table

POSITION = ("cycle", "labels", "epoch")  # which row it is; the other columns are shown


def events_of(metrics: Table, cycles: Table) -> bytes:
    """The content of an event file: a row's time is the seconds of training up to its end."""
    try:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter
    except ImportError as error:
        raise UserError(f"TensorBoard is not installed ({error}): pip install tensorboard") from None
    file = io.BytesIO()
    writer = RecordWriter(file)
    writer.write(Event(wall_time=0.0, file_version="brain.Event:2").SerializeToString())

    def add(group: str, table: Table, steps: np.ndarray, times: np.ndarray) -> None:
        names = [name for name in (table.rows or [{}])[0] if name not in POSITION]
        columns = np.array([table.column(name) for name in names])
        for step, time, row in zip(steps, times, columns.T, strict=True):
            shown = {f"{group}/{name}": x for name, x in zip(names, row, strict=True) if not np.isnan(x)}
            summary = Summary(value=[Summary.Value(tag=tag, simple_value=x) for tag, x in shown.items()])
            writer.write(Event(wall_time=time, step=int(step), summary=summary).SerializeToString())

    times, cycle = np.nancumsum(metrics.column("seconds")), metrics.column("cycle")
    add("epoch", metrics, np.arange(len(times)), times)
    ends = np.searchsorted(cycle, cycles.column("cycle"), side="right") - 1
    add("cycle", cycles, cycles.column("labels"), times[ends])
    return file.getvalue()


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="a run folder: runs/EXPERIMENT/RUN")
    events = {}
    for run in parser.parse_args().runs:
        metrics, cycles = read_table(run / "metrics.csv"), read_table(run / "cycles.csv")
        if not metrics.rows:
            raise UserError(f"{metrics.path} is missing or empty: is {run} a run folder?")
        events[run / "tensorboard" / "events.out.tfevents.0.pt4al"] = events_of(metrics, cycles)
    for path, content in events.items():
        write_bytes(path, content)
        say(path)


if __name__ == "__main__":
    run_script(main)
