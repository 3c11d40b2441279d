"""The numbers the paper reports: accuracy in percent, mean and standard deviation.

Table 2 is over 10 repetitions; for Tables 3 and 4 the paper does not say over how many.
"""

from typing import NamedTuple


class Reported(NamedTuple):
    """Accuracy on clean test images and under FGSM: mean and standard deviation, in percent."""

    clean: tuple[float, float]
    fgsm: tuple[float, float]


EPS = 0.3  # of Tables 2 and 4
LAMBDAS = (50.0, 25.0, 10.0, 1.0, 0.1)

# Table 2, by model and lambda, at eps 0.3.  It has no lambda = 0.
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

EPSILONS = (0.05, 0.1, 0.2, 0.3)
TABLE_3_LAMBDA = 10.0

# Table 3, by model, eps and lambda: 0 is adversarial training alone ("adv_train"), 10 has the penalty ("adv_train_gp").
TABLE_3: dict[tuple[str, float, float], Reported] = {
    (model, eps, lam): Reported(clean, fgsm)
    for (model, lam), cells in {
        ("A", 0.0): (
            ((99.36, 0.05), (98.57, 0.11)),
            ((99.34, 0.06), (97.50, 0.26)),
            ((99.27, 0.03), (96.39, 0.37)),
            ((99.30, 0.06), (95.72, 0.19)),
        ),
        ("A", TABLE_3_LAMBDA): (
            ((99.38, 0.028), (98.73, 0.072)),
            ((99.35, 0.035), (97.45, 0.30)),
            ((99.25, 0.061), (96.63, 0.30)),
            ((99.26, 0.06), (97.60, 0.34)),
        ),
        ("B", 0.0): (
            ((98.94, 0.079), (98.37, 0.48)),
            ((99.07, 0.03), (98.22, 0.61)),
            ((98.96, 0.05), (98.55, 0.26)),
            ((98.85, 0.05), (98.67, 0.07)),
        ),
        ("B", TABLE_3_LAMBDA): (
            ((99.05, 0.05), (98.18, 0.15)),
            ((99.06, 0.05), (97.64, 1.04)),
            ((98.95, 0.02), (98.30, 0.49)),
            ((98.84, 0.07), (97.80, 1.11)),
        ),
        ("C", 0.0): (
            ((98.98, 0.06), (96.26, 0.22)),
            ((98.68, 0.06), (93.56, 0.47)),
            ((98.59, 0.07), (93.24, 0.48)),
            ((98.48, 0.1), (95.52, 0.74)),
        ),
        ("C", TABLE_3_LAMBDA): (
            ((98.79, 0.04), (96.36, 0.11)),
            ((98.87, 0.07), (94.56, 0.16)),
            ((98.69, 0.09), (93.73, 0.75)),
            ((98.42, 0.08), (96.62, 0.51)),
        ),
    }.items()
    for eps, (clean, fgsm) in zip(EPSILONS, cells, strict=True)
}

# Table 4, by lambda: model C with adversarial training, eps 0.3.  Its lambda = 0 and 10 repeat Table 3, after 100
# epochs; the others were trained for up to 150.
TABLE_4: dict[float, Reported] = {
    0.0: Reported((98.48, 0.10), (95.52, 0.74)),
    10.0: Reported((98.42, 0.08), (96.62, 0.51)),
    50.0: Reported((98.49, 0.06), (97.25, 0.05)),
    100.0: Reported((98.59, 0.10), (96.88, 0.51)),
    200.0: Reported((98.60, 0.11), (96.71, 0.19)),
    1000.0: Reported((98.62, 0.07), (94.65, 0.79)),
}
