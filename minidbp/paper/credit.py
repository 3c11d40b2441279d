"""Who gets the credit: lambda, label smoothing or the length of training (DESIGN, section 6).

The paper's Table 2 has no lambda = 0, trains until a rule stops it, and smooths the labels throughout.  All three move
accuracy under FGSM; here each is taken by itself.
"""

from minidbp.paper.plans import Condition, Experiment, Preset
from minidbp.paper.small import small
from minidbp.training import Protocol

SMOOTHINGS = (0.0, 0.1)


def _preset(about: str, seeds: int, lambdas: tuple[float, ...], lengths: tuple[Protocol, ...]) -> Preset:
    return Preset(
        about,
        {
            Condition("C", lam, Protocol(**{**protocol.as_dict(), "label_smoothing": smoothing})): seeds
            for lam in lambdas
            for smoothing in SMOOTHINGS
            for protocol in lengths
        },
    )


CREDIT = Experiment(
    "credit",
    "Who gets the credit: lambda, label smoothing, length of training",
    {
        "smoke": _preset(
            "does everything work: under a minute",
            1, (0.0, 50.0), tuple(small(epochs, 1600, 64, 500, 100) for epochs in (1, 2)),
        ),
        "laptop": _preset(
            "up to 15 epochs of 8,000 images, two seeds: under 20 minutes on two cores",
            2, (0.0, 10.0, 50.0), tuple(small(epochs, 8000, 64, 10_000, 1000) for epochs in (1, 5, 15)),
        ),
        "paper": _preset(
            "all images, up to 30 epochs, 10 seeds: a day on two cores",
            10, (0.0, 10.0, 50.0), tuple(Protocol(stop_rule="none", max_epochs=epochs) for epochs in (1, 11, 20, 30)),
        ),
    },
    lambda condition: None,
    lambda results: [],
    along="max_epochs",
    compared=("label_smoothing", "max_epochs"),
)  # fmt: skip
