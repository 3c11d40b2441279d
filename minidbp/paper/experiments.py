"""All experiments by name."""

from minidbp.paper.credit import CREDIT
from minidbp.paper.plans import Experiment
from minidbp.paper.table2 import TABLE2
from minidbp.paper.table3 import TABLE3
from minidbp.paper.table4 import TABLE4
from minidbp.sweeps.runs import RunError

EXPERIMENTS = {experiment.name: experiment for experiment in (TABLE2, TABLE3, TABLE4, CREDIT)}


def experiment_named(name: object) -> Experiment:
    """Raises RunError for a name that there is not."""
    if not isinstance(name, str) or name not in EXPERIMENTS:
        raise RunError(f"there is no experiment {name!r}: there are {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]
