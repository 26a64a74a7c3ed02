"""Who labels what a cycle has chosen.

An oracle has one method, `answer`: the `LabeledSet` that a cycle trains on and is judged by.
"""

import torch

from pt4al.data.images import Images, LabeledSet
from pt4al.person.answers import Annotator
from pt4al.run.run_folder import RunFolder


class KnownLabels:
    """The oracle of a data set that comes with its labels, as in the paper's simulated annotation."""

    def __init__(self, run: RunFolder, pool: Images, test: Images) -> None:
        self.run, self.pool, self.test = run, pool, test

    def answer(self, cycle: int) -> LabeledSet:
        """All that is chosen up to this cycle, in the order chosen."""
        picks = [i for labeled in self.run.state.labeled[: cycle + 1] for i in labeled]
        return LabeledSet(torch.tensor(picks), self.pool, self.test)


def oracle_of(run: RunFolder, pool: Images, test: Images) -> KnownLabels | Annotator:
    return (KnownLabels if pool.labels_known else Annotator)(run, pool, test)
