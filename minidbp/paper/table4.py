"""Table 4: adversarial training of model C with eps 0.3 and rising lambda.

The paper's lambda = 0 and 10 repeat Table 3's 100 epochs and the others were trained for up to 150: two things change
at once.  Here every lambda is trained for the longer time, and lambda = 0 and 10 for the shorter one too.
"""

from collections.abc import Sequence

from minidbp.paper.claims import Verdict, table4_verdicts
from minidbp.paper.plans import Condition, Experiment, Preset
from minidbp.paper.published import EPS, TABLE_4, Reported
from minidbp.paper.small import small
from minidbp.paper.statistics import Result
from minidbp.paper.table3 import SECTION_4_2
from minidbp.training import Protocol

LENGTHS = {"smoke": (1, 2), "laptop": (10, 15), "paper": (100, 150)}  # epochs; the paper's is its own
LONG = [long for _, long in LENGTHS.values()]
REPEATED = (0.0, 10.0)  # the lambdas that the paper took over from Table 3


def _preset(about: str, seeds: int, lambdas: tuple[float, ...], short: Protocol, long: Protocol) -> Preset:
    conditions = [Condition("C", lam, short) for lam in REPEATED] + [Condition("C", lam, long) for lam in lambdas]
    return Preset(about, dict.fromkeys(conditions, seeds))


def _small(lengths: tuple[int, int], *sizes: int) -> tuple[Protocol, Protocol]:
    short, long = (small(epochs, *sizes, **SECTION_4_2) for epochs in lengths)
    return short, long


def _paper(condition: Condition) -> Reported | None:
    """The paper's figures, beside the length of training that they come from."""
    other_length = condition.lam in REPEATED and condition.protocol.max_epochs in LONG
    return None if other_length or condition.protocol.eps != EPS else TABLE_4.get(condition.lam)


def _verdicts(results: Sequence[Result]) -> list[Verdict]:
    """On what was trained for one length of time, the longer one."""
    return table4_verdicts([result for result in results if result["protocol"]["max_epochs"] in LONG])


TABLE4 = Experiment(
    "table4",
    "Table 4",
    {
        "smoke": _preset(
            "does everything work: under a minute, too little training to mean anything",
            1,
            (0.0, 10.0, 1000.0),
            *_small(LENGTHS["smoke"], 1600, 64, 500, 100),
        ),
        "laptop": _preset(
            "fewer images and epochs, three seeds: under 30 minutes on two cores",
            3,
            tuple(TABLE_4),
            *_small(LENGTHS["laptop"], 8000, 64, 10_000, 1000),
        ),
        "paper": _preset(
            "the paper's protocol in full, 100 and 150 epochs, 10 seeds: days on two cores",
            10,
            tuple(TABLE_4),
            *(Protocol(stop_rule="none", max_epochs=epochs, **SECTION_4_2) for epochs in LENGTHS["paper"]),
        ),
    },
    _paper,
    _verdicts,
    compared=("max_epochs",),
    note="The paper's λ = 0 and 10 are after 100 epochs, its others after up to 150: its numbers stand beside the "
    "shorter and the longer of our trainings, whatever their length.",
)
