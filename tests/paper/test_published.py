"""The paper's Tables 2, 3 and 4, as printed."""

import statistics

import pytest

from minidbp.paper.published import EPSILONS, LAMBDAS, TABLE_2, TABLE_3, TABLE_3_LAMBDA, TABLE_4

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

# Means on one line and deviations on the next, clean and adv in turn for each eps, as the paper prints them.
PRINTED_3 = """
ε                 0.05             0.1              0.2              0.3
A adv_train       99.36   98.57    99.34   97.50    99.27   96.39    99.30   95.72
                  ± 0.05  ± 0.11   ± 0.06  ± 0.26   ± 0.03  ± 0.37   ± 0.06  ± 0.19
A adv_train_gp    99.38   98.73    99.35   97.45    99.25   96.63    99.26   97.60
                  ± 0.028 ± 0.072  ± 0.035 ± 0.30   ± 0.061 ± 0.30   ± 0.06  ± 0.34
B adv_train       98.94   98.37    99.07   98.22    98.96   98.55    98.85   98.67
                  ± 0.079 ± 0.48   ± 0.03  ± 0.61   ± 0.05  ± 0.26   ± 0.05  ±0.07
B adv_train_gp    99.05   98.18    99.06   97,64    98.95   98.30    98.84   97.80
                  ± 0.05  ± 0.15   ± 0.05  ± 1.04   ± 0.02  ± 0.49   ± 0.07  ±1.11
C adv_train       98.98   96.26    98.68   93.56    98.59   93.24    98.48   95.52
                  ± 0.06  ± 0.22   ± 0.06  ± 0.47   ± 0.07  ± 0.48   ± 0.1   ± 0.74
C adv_train_gp    98.79   96.36    98.87   94.56    98.69   93.73    98.42   96.62
                  ± 0.04  ± 0.11   ± 0.07  ± 0.16   ± 0.09  ± 0.75   ± 0.08  ± 0.51
"""  # (one mean is printed with a comma)
HEADER_3, *LINES_3 = (line.replace("±", " ").replace(",", ".").split() for line in PRINTED_3.strip().splitlines())

PRINTED_4 = """
λ      0       10      50      100     200     1000
clean  98.48   98.42   98.49   98.59   98.60   98.62
       ±0.10   ±0.08   ± 0.06  ± 0.10  ± 0.11  ± 0.07
adv    95.52   96.62   97.25   96.88   96.71   94.65
       ± 0.74  ± 0.51  ± 0.05  ± 0.51  ± 0.19  ± 0.79
"""
LINES_4 = [line.replace("±", " ").split() for line in PRINTED_4.strip().splitlines()]


def test_lambdas() -> None:
    assert list(LAMBDAS) == [float(word) for word in HEADER[1:]]
    assert set(TABLE_2) == {(model, lam) for model in "ABC" for lam in LAMBDAS}


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{line[0]} {line[1]}")
def test_every_cell_is_the_printed_one(line: list[str]) -> None:
    model, attack, *numbers = line
    pairs = list(zip(map(float, numbers[::2]), map(float, numbers[1::2]), strict=True))
    found = [getattr(TABLE_2[model, lam], "clean" if attack == "clean" else "fgsm") for lam in LAMBDAS]
    assert found == pairs


def test_table_3_has_every_model_and_eps_with_and_without_the_penalty() -> None:
    assert list(EPSILONS) == [float(word) for word in HEADER_3[1:]]
    assert TABLE_3_LAMBDA == 10
    assert set(TABLE_3) == {(model, eps, lam) for model in "ABC" for eps in EPSILONS for lam in (0, 10)}


@pytest.mark.parametrize(
    ("means", "deviations"), list(zip(LINES_3[::2], LINES_3[1::2], strict=True)), ids=lambda line: line[0]
)
def test_every_cell_of_table_3_is_the_printed_one(means: list[str], deviations: list[str]) -> None:
    model, training, *numbers = means
    lam = {"adv_train": 0.0, "adv_train_gp": 10.0}[training]
    printed = list(zip(map(float, numbers), map(float, deviations), strict=True))
    assert [pair for eps in EPSILONS for pair in TABLE_3[model, eps, lam]] == printed


# Each row's four means, summed by hand, in hundredths of a percent.
@pytest.mark.parametrize(
    ("model", "lam", "clean", "fgsm"),
    [
        ("A", 0.0, 39727, 38818), ("A", 10.0, 39724, 39041), ("B", 0.0, 39582, 39381),
        ("B", 10.0, 39590, 39192), ("C", 0.0, 39473, 37858), ("C", 10.0, 39477, 38127),
    ],
)  # fmt: skip
def test_rows_of_table_3_add_up(model: str, lam: float, clean: int, fgsm: int) -> None:
    row = [TABLE_3[model, eps, lam] for eps in EPSILONS]
    assert sum(round(100 * cell.clean[0]) for cell in row) == clean
    assert sum(round(100 * cell.fgsm[0]) for cell in row) == fgsm


def test_every_cell_of_table_4_is_the_printed_one() -> None:
    lambdas, clean, clean_sd, adv, adv_sd = ([float(w) for w in line if w[0].isdigit()] for line in LINES_4)
    assert list(TABLE_4) == lambdas
    assert [cell.clean for cell in TABLE_4.values()] == list(zip(clean, clean_sd, strict=True))
    assert [cell.fgsm for cell in TABLE_4.values()] == list(zip(adv, adv_sd, strict=True))


@pytest.mark.parametrize("lam", [0.0, 10.0])
def test_table_4_repeats_table_3(lam: float) -> None:
    assert TABLE_4[lam] == TABLE_3["C", 0.3, lam]


def test_the_text_of_the_paper_agrees_with_the_numbers() -> None:
    """Section 4.2: "increasing λ provides better results", "until it fails when too high"."""
    best = max(TABLE_4, key=lambda lam: TABLE_4[lam].fgsm[0])
    assert 0 < best < 1000
    assert TABLE_4[1000.0].fgsm[0] == min(cell.fgsm[0] for cell in TABLE_4.values())
    assert statistics.fmean(cell.clean[0] for cell in TABLE_4.values()) == pytest.approx(591.20 / 6)
