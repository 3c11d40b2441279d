"""All experiments by name."""

from minidbp.experiments.credit import CREDIT
from minidbp.experiments.plans import Experiment
from minidbp.experiments.runs import RunError
from minidbp.experiments.table2 import TABLE2
from minidbp.experiments.table3 import TABLE3
from minidbp.experiments.table4 import TABLE4

EXPERIMENTS = {experiment.name: experiment for experiment in (TABLE2, TABLE3, TABLE4, CREDIT)}


def experiment_named(name: object) -> Experiment:
    """Raises RunError for a name that there is not."""
    if not isinstance(name, str) or name not in EXPERIMENTS:
        raise RunError(f"there is no experiment {name!r}: there are {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]
