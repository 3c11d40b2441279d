"""The judge of every run of a table and of `minidbp train`: the paper's accuracies, and a small diagnosis."""

import numpy as np

from minidbp.data import Mnist
from minidbp.diagnosis.diagnose import column_passes, diagnose_columns, pgd_passes
from minidbp.nn import Sequential
from minidbp.training import (
    Protocol,
    Workers,
    correct,
    correct_under_fgsm,
    correct_under_pgd,
    percent,
    percent_by_class,
)
from minidbp.training.judgement import Judge, Judgement, Report

FGSM_PASSES = 3  # forward, backward, and the forward pass that judges


def judge_model(
    model: Sequential, mnist: Mnist, protocol: Protocol, seed: int, pool: Workers, report: Report
) -> Judgement:
    """Accuracy on MNIST's first n_test images, clean and under the protocol's attacks, and `diagnose_columns`."""
    x, y = mnist.x_test[: protocol.n_test], mnist.y_test[: protocol.n_test]
    withstood = withstood_by_attack(model, x, y, protocol, seed, pool, report)
    worst = np.all([right[: protocol.n_pgd] for right in withstood.values()], axis=0)
    return Judgement(
        **{name: percent(right) for name, right in withstood.items()},
        per_class={name: percent_by_class(right, y[: len(right)]) for name, right in withstood.items()},
        diagnosis=diagnose_columns(model, x, y, worst, protocol, pool, seed, lambda n: report(n, "diagnosis")),
    )


def withstood_by_attack(
    model: Sequential, x: np.ndarray, y: np.ndarray, protocol: Protocol, seed: int, pool: Workers, report: Report
) -> dict[str, np.ndarray]:
    """Which images are classified correctly: "clean", under "fgsm", and the first n_pgd of them under "pgd"."""
    p, steps = protocol, pgd_passes(protocol)
    return {
        "clean": correct(model, x, y, pool, lambda n: report(n, "clean test images")),
        "fgsm": correct_under_fgsm(model, x, y, p, pool, lambda n: report(FGSM_PASSES * n, "FGSM")),
        "pgd": correct_under_pgd(model, x, y, p, pool, seed=seed, done=lambda n: report(steps * n, "PGD")),
    }


def judge_passes(protocol: Protocol) -> float:
    """How many forward passes of one image `judge_model` reports."""
    p = protocol
    return p.n_test * (1 + FGSM_PASSES) + p.n_pgd * (pgd_passes(p) + column_passes(p))


JUDGE = Judge(judge_model, judge_passes)
