"""The judge of every run of a table and of `minidbp train`: accuracies under attacks, and a small diagnosis."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from minidbp.data import Dataset, random_images
from minidbp.diagnosis.evidence import Gathered, evidence_passes, gather
from minidbp.diagnosis.trials import LabelledImages, strongest_passes
from minidbp.diagnosis.verdict import judge
from minidbp.robust.penalties import Model
from minidbp.robust.worst_case import STRONGEST
from minidbp.training import (
    Protocol,
    Tracked,
    Workers,
    correct,
    correct_under_fgsm,
    correct_under_pgd,
    percent,
    percent_by_class,
    track,
)
from minidbp.training.evaluate import FGSM_PASSES, pgd_passes
from minidbp.training.judgement import AccuracyAt, Judge, Judgement, MaskingFigures, Report

Right = dict[str, np.ndarray]  # which of the judged images a model gets right, bool (n_test,), by attack


def judged_images(dataset: Dataset, protocol: Protocol, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The test images (n_test, H, W, C) for every attack, drawn by the run's seed, with their labels (n_test,)."""
    # `Run` uses the streams 0, 1 and 2 of its seed, and `attacked` the stream 3.
    return random_images(dataset.x_test, dataset.y_test, protocol.n_test, np.random.default_rng([seed, 4]))


def judge_model(
    model: Model, dataset: Dataset, protocol: Protocol, seed: int, pool: Workers, report: Report
) -> Judgement:
    """Judge a model on `judged_images`, in percent, with the accuracy of each class, and diagnose it."""
    x, y = judged_images(dataset, protocol, seed)
    images = LabelledImages(x, y, pool, seed, lambda passes: report(passes, "diagnosis"))
    right = correct_by_attack(model, x, y, protocol, pool, seed=seed, report=report)
    gathered = gather(model, images, protocol, dataset)
    withstood = np.all([right["fgsm"], right["pgd"], gathered.evidence.worst_case], axis=0)
    by_eps = correct_by_eps(
        model, x, y, protocol, pool, dict(gathered.evidence.strongest), withstood=withstood, seed=seed, report=report
    )
    others = [right["fgsm"], right["pgd"], *by_eps[protocol.eps].values()]
    evidence = replace(gathered.evidence, others=others)
    return Judgement(
        **{name: percent(of_attack) for name, of_attack in right.items()},
        by_eps=[
            accuracy_at(eps, of_eps, [evidence.worst_case] if eps == protocol.eps else [])
            for eps, of_eps in by_eps.items()
        ],
        per_class={name: percent_by_class(of_attack, y, dataset.n_classes) for name, of_attack in right.items()},
        diagnosis=masking_figures(replace(gathered, evidence=evidence), dataset.chance),
    )


def track_model(
    model: Model, dataset: Dataset, protocol: Protocol, seed: int, pool: Workers, report: Report
) -> Tracked:
    """`track` the first n_tracked of `judged_images`."""
    x, y = (array[: protocol.n_tracked] for array in judged_images(dataset, protocol, seed))
    return track(model, x, y, protocol, pool, seed=seed, done=lambda n: report(n, "accuracy along the training"))


def correct_by_attack(
    model: Model, x: np.ndarray, y: np.ndarray, p: Protocol, pool: Workers, *, seed: int, report: Report
) -> Right:
    """Which of images x (N, ...) with labels y (N,) the model gets right: "clean", under "fgsm" and under "pgd"."""
    passes = pgd_passes(p)
    return {
        "clean": correct(model, x, y, pool, lambda n: report(n, "clean test images")),
        "fgsm": correct_under_fgsm(model, x, y, p, pool, lambda n: report(FGSM_PASSES * n, "FGSM")),
        "pgd": correct_under_pgd(model, x, y, p, pool, seed=seed, done=lambda n: report(passes * n, "PGD")),
    }


def correct_by_eps(
    model: Model,
    x: np.ndarray,
    y: np.ndarray,
    p: Protocol,
    pool: Workers,
    at_eps: Right,
    *,
    withstood: np.ndarray,
    seed: int,
    report: Report,
) -> dict[float, Right]:
    """Which images the model gets right at each of `attack_sizes`: under "fgsm", and after each attack of STRONGEST.

    An image that a smaller attack changed to a wrong one is wrong at a larger eps too, and is not attacked again.

    at_eps: which images it gets right after each attack of STRONGEST at the protocol's own eps.
    withstood: which images (N,) withstand all other attacks of that size.
    """
    by_eps, still_right = {}, np.ones(len(x), bool)
    for eps in p.attack_sizes:
        rows, passes = np.flatnonzero(still_right), strongest_passes(p)
        done = _in_passes(report, 1, f"strongest attacks, eps {eps:g}")
        if eps == p.eps:
            right = {name: of_attack & still_right for name, of_attack in at_eps.items()}
            still_right = still_right & withstood
        else:
            right = {name: np.zeros(len(x), bool) for name in STRONGEST}
            if len(rows):
                images = LabelledImages(x[rows], y[rows], pool, seed, done)
                for name, values in images.strongest(model, p.at(eps)).items():
                    right[name][rows] = values
            if len(rows) < len(x):
                done(passes * (len(x) - len(rows)))
        still_right = still_right & right[STRONGEST[-1]]
        fgsm = correct_under_fgsm(model, x, y, p.at(eps), pool, _in_passes(report, FGSM_PASSES, "FGSM"))
        by_eps[eps] = {"fgsm": fgsm, **right}
    return by_eps


def _in_passes(report: Report, passes: int, what: str) -> Callable[[int], None]:
    return lambda images: report(images * passes, what)


def accuracy_at(eps: float, right: Right, more: Sequence[np.ndarray] = ()) -> AccuracyAt:
    """The accuracies of one size of attacks.  more: which images (N,) other attacks of this size leave right."""
    worst_case = percent(np.all([*right.values(), *more], axis=0))
    return AccuracyAt(eps, **{name: percent(of_attack) for name, of_attack in right.items()}, worst_case=worst_case)


def masking_figures(gathered: Gathered, chance: float) -> MaskingFigures:
    """The verdict on a model, where a guess is right in `chance` percent, and the figures that a table shows."""
    evidence = gathered.evidence
    verdict = judge(evidence, chance)
    return MaskingFigures(
        **vars(gathered.gradients),
        noise=percent(evidence.right["noise_sign"]),
        pgd_margin=percent(evidence.right["pgd_margin"]),
        worst_case=percent(evidence.worst_case),
        word=verdict.word,
        reasons=verdict.sentences,
    )


def sizes_passes(p: Protocol) -> int:
    """How many passes of each image `correct_by_eps` reports."""
    sizes = len(p.attack_sizes)
    return (sizes - 1) * strongest_passes(p) + sizes * FGSM_PASSES


def judge_passes(protocol: Protocol, n_classes: int) -> float:
    """How many passes of an image `judge_model` reports."""
    p = protocol
    return p.n_test * (1 + FGSM_PASSES + pgd_passes(p) + sizes_passes(p) + evidence_passes(p, n_classes))


JUDGE = Judge(judge_model, judge_passes, track_model)
