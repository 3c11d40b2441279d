"""Table 3: FGSM adversarial training with and without the penalty, for four eps and models A, B, C."""

from collections.abc import Mapping
from typing import Any

from minidbp.paper.claims import table3_verdicts
from minidbp.paper.plans import Condition, Experiment, Preset
from minidbp.paper.published import EPSILONS, TABLE_3, Reported
from minidbp.paper.small import small
from minidbp.training import Protocol

# The paper's surrogate, "due to time constraints"; it trains for 100 epochs without a stop rule.
SECTION_4_2: dict[str, Any] = {"adversarial_training": True, "penalty": "summed_jacobian_l1"}


def _preset(about: str, epsilons: tuple[float, ...], plans: Mapping[str, tuple[int, Protocol]]) -> Preset:
    """plans: for each model its seeds and its protocol but for eps."""
    return Preset(
        about,
        {
            Condition(model, lam, Protocol(**{**protocol.as_dict(), "eps": eps})): seeds
            for model, (seeds, protocol) in plans.items()
            for eps in epsilons
            for lam in (0.0, 10.0)
        },
    )


def _paper(condition: Condition) -> Reported | None:
    return TABLE_3.get((condition.model, condition.protocol.eps, condition.lam))


TABLE3 = Experiment(
    "table3",
    "Table 3",
    {
        "smoke": _preset(
            "does everything work: about a minute, two eps, too little training to mean anything",
            (0.1, 0.3),
            {
                "A": (1, small(1, 256, 32, 250, 50, **SECTION_4_2)),
                "B": (1, small(1, 128, 32, 100, 20, **SECTION_4_2)),
                "C": (1, small(1, 1600, 64, 1000, 200, **SECTION_4_2)),
            },
        ),
        "laptop": _preset(
            "fewer images and epochs: under 30 minutes on two cores",
            EPSILONS,
            {
                "A": (2, small(2, 2560, 32, 2000, 500, **SECTION_4_2)),
                "B": (2, small(2, 1280, 32, 1000, 250, **SECTION_4_2)),
                "C": (3, small(5, 8000, 64, 10_000, 1000, **SECTION_4_2)),
            },
        ),
        "paper": _preset(
            "the paper's protocol in full, 100 epochs, 10 seeds: weeks on two cores",
            EPSILONS,
            {model: (10, Protocol(stop_rule="none", **SECTION_4_2)) for model in "ABC"},
        ),
    },
    _paper,
    table3_verdicts,
    along="eps",
)
