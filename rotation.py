"""Step 1 of PT4AL: train a ResNet to tell by which quarter turn an image of the pool was rotated.
No labels are used.

Reads:  the training images of the data set.
Writes: checkpoint/<experiment>/rotation.pth   weights of the epoch with the best rotation accuracy on the pool
        runs/<experiment>/rotation/            config.json, metrics.csv (test columns: rotation
        accuracy on the pool)
Run:    python rotation.py digits              about a minute on 2 CPU cores
        python rotation.py                     CIFAR-10 with the paper's settings, for a GPU
"""

from config import from_command_line
from loader import load_images, normalisation
from utils import processes
from utils.console import run_script
from utils.files import save_checkpoint
from utils.network import describe, fresh_network
from utils.pretext import TURNS, rotation_task
from utils.run_folder import RunFolder
from utils.training import new_state, train_cycle


def main() -> None:
    config = from_command_line(__doc__)
    device = processes.start(config)
    (pool,) = load_images(config, device, ("train",))
    mean, std = normalisation(config, pool)
    description = describe(config, pool, TURNS, mean, std)
    with RunFolder(config, "rotation") as run:
        state = run.open({"data": description["data"]}, pool.ids) or new_state()
        best = config.checkpoint_dir / "rotation.pth"
        if state["finished"]:
            processes.say(f"{run.tables} is finished, {best} stands; --restart begins anew")
            return
        net = fresh_network(config, TURNS, 0, device)
        train_cycle(net, rotation_task(config, pool, mean, std), run, state, config, device)
        if processes.is_main():
            save_checkpoint(best, {**state["best"], **description})
        run.finish(state)
        processes.say(
            f"rotation accuracy {state['best']['acc']:.2f} % in epoch {state['best']['epoch']}: {best}"
        )


if __name__ == "__main__":
    run_script(main)
