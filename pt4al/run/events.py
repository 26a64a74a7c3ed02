"""What the CSV files of a run hold, for TensorBoard: written as a whole from the same state, so that
a resumed run shows no epoch twice. The package `tensorboard` is optional."""

import io
from pathlib import Path

from pt4al.base.console import UserError
from pt4al.base.files import write_bytes
from pt4al.run.state import State
from pt4al.run.tables import CYCLES, METRICS, Seconds, seconds_of

NAME = "events.out.tfevents.0.pt4al"


def check_package() -> None:
    """Raise a UserError where the package is not installed."""
    try:
        import tensorboard.summary  # noqa: F401
    except ImportError as error:
        raise UserError(f"--tensorboard needs a package ({error}): pip install tensorboard") from None


def write_events(folder: Path, state: State, seconds: Seconds) -> None:
    """`<folder>/tensorboard/`: epochs by their number through all cycles, cycles by their labels.

    Times are seconds of training since the run began.
    """
    try:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter
    except ImportError as error:
        raise UserError(f"--tensorboard needs a package ({error}): pip install tensorboard") from None
    file = io.BytesIO()
    writer = RecordWriter(file)
    clock = 0.0

    def add(group: str, step: int, columns: tuple[str, ...], row: list) -> None:
        values = [
            Summary.Value(tag=f"{group}/{name}", simple_value=x)
            for name, x in zip(columns, row, strict=False)
            if x is not None and name not in ("cycle", "labels", "epoch")
        ]
        event = Event(wall_time=clock, step=step, summary=Summary(value=values))
        writer.write(event.SerializeToString())

    writer.write(Event(wall_time=0.0, file_version="brain.Event:2").SerializeToString())
    ends = {row[0]: row for row in state.cycles}
    last_epochs = {row[0]: i for i, row in enumerate(state.metrics)}
    for i, row in enumerate(state.metrics):
        clock += seconds.get((row[0], row[2]), 0.0)
        add("epoch", i, METRICS, [*row, seconds.get((row[0], row[2]))])
        if row[0] in ends and i == last_epochs[row[0]]:
            add("cycle", ends[row[0]][1], CYCLES, [*ends[row[0]], seconds_of(seconds, row[0])])
    write_bytes(folder / "tensorboard" / NAME, file.getvalue())


def event_files(folder: Path) -> list[Path]:
    """The file that `write_events` writes, if it is there."""
    path = folder / "tensorboard" / NAME
    return [path] if path.exists() else []
