"""Step 1 of PT4AL: train a ResNet to predict by which of 0, 90, 180 and 270
degrees an image of the pool was rotated. No labels are used.

Reads:   the training images
Writes:  checkpoint/EXP/rotation.pth   weights of the epoch with the best
                                       rotation accuracy on the pool
         runs/EXP/rotation/            config.json, metrics.csv (test columns:
                                       rotation accuracy on the pool)

Run:     python rotation.py digits     about a minute on 2 CPU cores
         python rotation.py            CIFAR-10 as in the paper, on a GPU
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # for python -P, too

from config import Config
from loader import READERS, load_images
from pt4al.base import processes
from pt4al.base.console import UserError, run_script
from pt4al.base.files import load_checkpoint, lock_folder
from pt4al.data.images import Images
from pt4al.data.transforms import normalization
from pt4al.method.pretext import ROTATIONS, rotation_task
from pt4al.method.shortcuts import check_pretext
from pt4al.method.strategies import FIRST_PICKS, STRATEGIES
from pt4al.run.command_line import from_command_line
from pt4al.run.pictures import changes
from pt4al.run.record import check_record, compare, make_record
from pt4al.run.run_folder import RunFolder
from pt4al.train.network import describe, fresh_network
from pt4al.train.training import train_cycle


def main() -> None:
    config = from_command_line(__doc__, dataset=READERS, strategy=STRATEGIES, first_pick=FIRST_PICKS)
    device = processes.start(config)
    (pool,) = load_images(config, device, ("train",))
    mean, std = normalization(config, pool)
    description = describe(config, pool, ROTATIONS, mean, std)
    net = fresh_network(config, ROTATIONS, 0, device)
    best, inputs = config.checkpoint_dir / "rotation.pth", {"data": description["data"]}

    with RunFolder(config, "rotation.py", "rotation") as run:
        processes.from_main(lambda: claim_weights(config, run.name, inputs, pool))
        run.open(inputs, pool, best)
        if not run.state.finished:
            train_cycle(net, rotation_task(config, pool, mean, std), run)
            trained = run.state.best
            run.save_weights(best, {**trained, **description})
            processes.say(f"rotation accuracy {trained['acc']:.2f} % in epoch {trained['epoch'] + 1}: {best}")
            net.load_state_dict(trained["net"])
            if warning := check_pretext(net, pool, mean, std, config):
                processes.say(warning)
            run.finish()
        else:
            run.write_tables()
            if not best.exists():
                run.save_weights(best, {**run.state.best, **description})
                processes.say(f"{best} was missing: written again from {run.last}")
            processes.say(f"{run.tables} is finished, {best} stands; --restart starts over")


def claim_weights(config: Config, run_name: str, inputs: dict[str, str], pool: Images) -> None:
    """Lock the experiment's rotation.pth, and refuse if another run owns it. --restart
    replaces released weights that were put in its place.

    Raises:
        UserError: it is of another run, of none, or made from anything else; or another run of
            rotation.py is at work here.
    """
    lock_folder(config.checkpoint_dir)
    path = config.checkpoint_dir / "rotation.pth"
    if not path.exists():
        return
    try:
        record = load_checkpoint(path).get("record")
    except UserError:
        record = None  # damaged: nobody's
    record = record if isinstance(record, dict) else {}
    owner = record.get("run")
    if owner not in (None, run_name):
        raise UserError(
            f"{path} is of run {owner}, and an experiment has one pretext network: use another --experiment"
        )
    if config.restart:
        return  # the run deletes it with what else it wrote
    if owner is None:
        raise UserError(
            f"{path} was not written by this code, or is damaged: make_batches.py can use released weights "
            "as they are; --restart replaces them, --experiment takes another folder"
        )
    ours, known = make_record(config, "rotation.py", run_name, inputs), check_record(record, path)
    compare(known, ours, path, "--experiment", changes(config, known["inputs"], inputs, {"data": pool}))


if __name__ == "__main__":
    run_script(main)
