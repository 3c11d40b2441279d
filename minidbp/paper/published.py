"""The numbers of the paper's tables: accuracy in percent, mean and standard deviation.

Table 2 is over 10 repetitions. The paper does not say how many repetitions Tables 3 and 4 are over.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np


class Reported(NamedTuple):
    """Accuracy on clean test images and under FGSM: mean and standard deviation, in percent."""

    clean: tuple[float, float]
    fgsm: tuple[float, float]


def _cells(table: str, models: str) -> dict[tuple[Any, ...], Reported]:
    """The cells by model and key, from lines with a key of some numbers and four numbers for each model."""
    cells = {}
    for line in table.strip().splitlines():
        numbers = [float(word) for word in line.split()]
        key = numbers[: -4 * len(models)]
        for model, (clean, fgsm) in zip(models, np.reshape(numbers[len(key) :], (-1, 2, 2)).tolist(), strict=True):
            cells[model, *key] = Reported(tuple(clean), tuple(fgsm))
    return cells


EPS = 0.3  # of Tables 2 and 4
REPETITIONS = 10  # of Table 2
LAMBDAS = (50.0, 25.0, 10.0, 1.0, 0.1)
EPSILONS = (0.05, 0.1, 0.2, 0.3)
TABLE_3_LAMBDA = 10.0

# A line has the key, and then four numbers for each of the models A, B and C.
_TABLE_2 = """
50    99.37 0.04 45.09 5.36    98.99 0.05 6.35 3.258   98.63 0.11 29.92 14.24
25    99.36 0.03 44.96 4.44    98.99 0.05 4.69 1.91    98.67 0.05 25.76 11.96
10    99.38 0.04 46    10.16   98.98 0.07 3.69 0.73    98.57 0.06 18.24 9.97
1     99.35 0.03 28.83 9.34    98.94 0.07 3    1.14    98.55 0.05 19.99 5.63
0.1   99.35 0.06 22.64 5.02    98.90 0.05 3.17 0.82    98.60 0.08 13.66 6.64
"""
_TABLE_3 = """
0.05 0    99.36 0.05  98.57 0.11    98.94 0.079 98.37 0.48   98.98 0.06 96.26 0.22
0.1  0    99.34 0.06  97.50 0.26    99.07 0.03  98.22 0.61   98.68 0.06 93.56 0.47
0.2  0    99.27 0.03  96.39 0.37    98.96 0.05  98.55 0.26   98.59 0.07 93.24 0.48
0.3  0    99.30 0.06  95.72 0.19    98.85 0.05  98.67 0.07   98.48 0.1  95.52 0.74
0.05 10   99.38 0.028 98.73 0.072   99.05 0.05  98.18 0.15   98.79 0.04 96.36 0.11
0.1  10   99.35 0.035 97.45 0.3     99.06 0.05  97.64 1.04   98.87 0.07 94.56 0.16
0.2  10   99.25 0.061 96.63 0.3     98.95 0.02  98.30 0.49   98.69 0.09 93.73 0.75
0.3  10   99.26 0.06  97.60 0.34    98.84 0.07  97.80 1.11   98.42 0.08 96.62 0.51
"""
_TABLE_4 = """
0     98.48 0.1   95.52 0.74
10    98.42 0.08  96.62 0.51
50    98.49 0.06  97.25 0.05
100   98.59 0.1   96.88 0.51
200   98.60 0.11  96.71 0.19
1000  98.62 0.07  94.65 0.79
"""

# By model and lambda, at eps 0.3. Table 2 has no lambda = 0.
TABLE_2: Mapping[tuple[str, float], Reported] = _cells(_TABLE_2, "ABC")

# By model, eps and lambda: 0 is adversarial training alone ("adv_train"), 10 has the penalty ("adv_train_gp").
TABLE_3: Mapping[tuple[str, float, float], Reported] = _cells(_TABLE_3, "ABC")

# By lambda: model C with adversarial training, eps 0.3. Its lambda = 0 and 10 repeat Table 3, after 100 epochs; the
# others were trained for up to 150.
TABLE_4 = {lam: cell for (_, lam), cell in _cells(_TABLE_4, "C").items()}
