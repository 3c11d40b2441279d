"""Table 2: accuracy on clean and FGSM test images for models A, B, C and several lambdas, and for lambda = 0."""

from collections.abc import Mapping

from minidbp.paper.claims import table2_verdicts
from minidbp.paper.plans import Condition, Experiment, Preset
from minidbp.paper.published import EPS, LAMBDAS, TABLE_2, Reported
from minidbp.paper.small import small
from minidbp.training import Protocol


def _preset(about: str, lambdas: tuple[float, ...], plans: Mapping[str, tuple[int, Protocol]]) -> Preset:
    """plans: for each model its seeds and protocol."""
    return Preset(about, {Condition(m, lam, p): seeds for m, (seeds, p) in plans.items() for lam in lambdas})


def _paper(condition: Condition) -> Reported | None:
    return TABLE_2.get((condition.model, condition.lam)) if condition.protocol.eps == EPS else None


TABLE2 = Experiment(
    "table2",
    "Table 2",
    {
        "smoke": _preset(
            "does everything work: under a minute, too little training to mean anything",
            (0.0, 50.0),
            {
                "A": (1, small(1, 384, 32, 500, 100)),
                "B": (1, small(1, 192, 32, 250, 50)),
                "C": (1, small(1, 3200, 64, 1000, 200)),
            },
        ),
        "laptop": _preset(
            "the penalty's effect on fewer images and epochs: under 15 minutes on two cores",
            (0.0, 1.0, 10.0, 50.0),
            {
                "A": (2, small(2, 2560, 32, 2000, 500)),
                "B": (2, small(2, 800, 32, 2000, 500)),
                "C": (3, small(5, 8000, 64, 10_000, 1000)),
            },
        ),
        "paper": _preset(
            "the paper's protocol in full, 10 seeds, and lambda = 0: days on two cores",
            (0.0, *reversed(LAMBDAS)),
            {model: (10, Protocol()) for model in "ABC"},
        ),
    },
    _paper,
    table2_verdicts,
)
