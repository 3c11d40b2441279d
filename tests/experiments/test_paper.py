"""The paper's Table 2, as printed."""

import pytest

from minidbp.experiments.paper import LAMBDAS, TABLE_2

PRINTED = """
λ         50             25             10             1              0.1
A clean   99.37 ± 0.04   99.36 ± 0.03   99.38 ± 0.04   99.35 ± 0.03   99.35 ± 0.06
A adv     45.09 ± 5.36   44.96 ± 4.44   46 ± 10.16     28.83 ± 9.34   22.64 ± 5.02
B clean   98.99 ± 0.05   98.99 ± 0.05   98.98 ± 0.07   98.94 ± 0.07   98.90 ± 0.05
B adv     6.35 ± 3.258   4.69 ± 1.91    3.69 ± 0.73    3.00 ± 1.14    3.17 ± 0.82
C clean   98.63 ± 0.11   98.67 ± 0.05   98.57 ± 0.06   98.55 ± 0.05   98.60 ± 0.08
C adv     29.92 ± 14.24  25.76 ± 11.96  18.24 ± 9.97   19.99 ± 5.63   13.66 ± 6.64
"""
HEADER, *LINES = (line.replace("±", " ").split() for line in PRINTED.strip().splitlines())


def test_lambdas() -> None:
    assert list(LAMBDAS) == [float(word) for word in HEADER[1:]]
    assert set(TABLE_2) == {(model, lam) for model in "ABC" for lam in LAMBDAS}


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{line[0]} {line[1]}")
def test_every_cell_is_the_printed_one(line: list[str]) -> None:
    model, attack, *numbers = line
    pairs = list(zip(map(float, numbers[::2]), map(float, numbers[1::2]), strict=True))
    found = [getattr(TABLE_2[model, lam], "clean" if attack == "clean" else "fgsm") for lam in LAMBDAS]
    assert found == pairs
