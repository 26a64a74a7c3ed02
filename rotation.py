"""Step 1 of PT4AL: train a ResNet to tell by which quarter turn an image of the
pool was rotated. No labels are used.

Reads:   the training images
Writes:  checkpoint/EXP/rotation.pth   weights of the epoch with the best
                                       rotation accuracy on the pool
         runs/EXP/rotation/            config.json, metrics.csv (test columns:
                                       rotation accuracy on the pool)

Run:     python rotation.py digits     about a minute on 2 CPU cores
         python rotation.py            CIFAR-10 as in the paper, on a GPU
"""

if __name__ == "__main__":
    import signal

    signal.signal(signal.SIGINT, signal.SIG_DFL)  # while torch is imported; then run_script's

from config import Config
from loader import load_images
from pt4al import processes
from pt4al.command_line import from_command_line
from pt4al.console import UserError, run_script
from pt4al.files import load_checkpoint
from pt4al.network import describe, fresh_network
from pt4al.pretext import TURNS, rotation_task
from pt4al.record import compare
from pt4al.run_folder import RunFolder, new_state
from pt4al.training import train_cycle
from pt4al.transforms import normalisation


def main() -> None:
    config = from_command_line(__doc__)
    device = processes.start(config)
    (pool,) = load_images(config, device, ("train",))
    mean, std = normalisation(config, pool)
    description = describe(config, pool, TURNS, mean, std)
    best = config.checkpoint_dir / "rotation.pth"

    with RunFolder(config, "rotation.py", "rotation") as run:
        processes.from_main(lambda: make_way(config, run.name))
        state = run.open({"data": description["data"]}, pool.ids) or new_state()
        if best.exists():
            compare(load_checkpoint(best)["record"], run.record, best, "--experiment")
        if not state["finished"]:
            net = fresh_network(config, TURNS, 0, device)
            task = rotation_task(config, pool, mean, std)
            train_cycle(net, task, run, state, config, device)
            run.save_weights(best, {**state["best"], **description})
            run.finish(state)
            accuracy, epoch = state["best"]["acc"], state["best"]["epoch"]
            processes.say(f"rotation accuracy {accuracy:.2f} % in epoch {epoch}: {best}")
        else:
            run.write_tables(state)
            if not best.exists():
                run.save_weights(best, {**state["best"], **description})
                processes.say(f"{best} was missing: written anew from {run.last}")
            processes.say(f"{run.tables} is finished, {best} stands; --restart begins anew")


def make_way(config: Config, run_name: str) -> None:
    """See to it that rotation.pth is this run's or none: --restart deletes it, and replaces released
    weights that were put in its place.

    Raises:
        UserError: it is of another run, or of none.
    """
    path = config.checkpoint_dir / "rotation.pth"
    if not path.exists():
        return
    try:
        owner = (load_checkpoint(path).get("record") or {}).get("run")
    except UserError:
        owner = None  # damaged: nobody's
    if owner not in (None, run_name):
        raise UserError(
            f"{path} is of run {owner}, and an experiment has one pretext network: use another --experiment"
        )
    if config.restart:
        path.unlink()
    elif owner is None:
        raise UserError(
            f"{path} was not written by this code, or is damaged: make_batches.py can use released weights as they "
            "are; --restart replaces them, --experiment takes another folder"
        )


if __name__ == "__main__":
    run_script(main)
