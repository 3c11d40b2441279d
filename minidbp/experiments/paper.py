"""The numbers the paper reports: accuracy in percent, mean and standard deviation over 10 repetitions."""

from typing import NamedTuple


class Reported(NamedTuple):
    """Accuracy on clean test images and under FGSM, eps 0.3: mean and standard deviation, in percent."""

    clean: tuple[float, float]
    fgsm: tuple[float, float]


LAMBDAS = (50.0, 25.0, 10.0, 1.0, 0.1)

# Table 2, by model and lambda.  It has no lambda = 0.
TABLE_2: dict[tuple[str, float], Reported] = {
    (model, lam): Reported(clean, fgsm)
    for model, cells in {
        "A": (
            ((99.37, 0.04), (45.09, 5.36)),
            ((99.36, 0.03), (44.96, 4.44)),
            ((99.38, 0.04), (46.0, 10.16)),
            ((99.35, 0.03), (28.83, 9.34)),
            ((99.35, 0.06), (22.64, 5.02)),
        ),
        "B": (
            ((98.99, 0.05), (6.35, 3.258)),
            ((98.99, 0.05), (4.69, 1.91)),
            ((98.98, 0.07), (3.69, 0.73)),
            ((98.94, 0.07), (3.00, 1.14)),
            ((98.90, 0.05), (3.17, 0.82)),
        ),
        "C": (
            ((98.63, 0.11), (29.92, 14.24)),
            ((98.67, 0.05), (25.76, 11.96)),
            ((98.57, 0.06), (18.24, 9.97)),
            ((98.55, 0.05), (19.99, 5.63)),
            ((98.60, 0.08), (13.66, 6.64)),
        ),
    }.items()
    for lam, (clean, fgsm) in zip(LAMBDAS, cells, strict=True)
}
