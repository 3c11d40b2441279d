"""Figure 1: what is observed is true, observing changes nothing, and the pictures and the page show it."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from PIL import Image

from minidbp import nn
from minidbp.data import Dataset
from minidbp.diagnosis.judge import JUDGE
from minidbp.files.plots import save
from minidbp.paper import figure1, figure1_pictures
from minidbp.paper.figure1 import Observation, ObservedRun, Study, T
from minidbp.sweeps.execute import execute
from minidbp.sweeps.runs import Run
from minidbp.training import Protocol, workers

TINY = Protocol(
    adversarial_training=True, penalty="summed_jacobian_l1", stop_rule="none", max_epochs=2, n_train=96, batch_size=32,
    n_validation=50, n_test=20, n_tracked=5, pgd_steps=1,
    judged_eps=(0.1, 0.3), apgd_steps=1, apgd_restarts=1, square_queries=1, reference_steps=1,
)  # fmt: skip
RUN = Run("C", 10.0, 3, TINY)
IMAGE = 2


def study_by(mnist: Dataset, threads: int, runs: list[Run]) -> Study:
    with workers(threads) as pool:
        return figure1.make_study(runs, mnist, IMAGE, pool, lambda: None)


@pytest.fixture(scope="module")
def study(mnist: Dataset) -> Study:
    return study_by(mnist, 2, [RUN, dataclasses.replace(RUN, lam=0.0)])


# -- one observation ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seen(mnist: Dataset) -> tuple[nn.Sequential, np.ndarray, Observation]:
    """A model in float64, so that differences are sharp, an image with label 7, and what is seen there."""
    model, x = nn.build_model("C", seed=5, dtype="float64"), mnist.x_test[0].astype(np.float64)
    return model, x, figure1.observe(model, x, 7, Protocol(), 11)


def log_of_sum_of_exp(f: np.ndarray) -> np.ndarray:
    return np.log(np.exp(f).sum(axis=-1, keepdims=True))


def test_x_adv_goes_eps_along_the_sign_of_the_loss_gradient(seen: Any) -> None:
    """The sign from differences of the loss, at pixels where it is not too flat for them."""
    model, x, o = seen

    def loss(points: np.ndarray) -> np.ndarray:
        f = model(points).data
        return (log_of_sum_of_exp(f) - f[:, 7:8])[:, 0]

    h = 1e-6 * np.eye(784).reshape(784, 28, 28, 1)
    slope = ((loss(x + h) - loss(x - h)) / 2e-6).reshape(28, 28, 1)
    clear = np.abs(slope) > 1e-6
    assert clear.mean() > 0.9
    np.testing.assert_allclose(o.x_adv[clear], np.clip(x + 0.3 * np.sign(slope), 0, 1)[clear], atol=1e-12)


@pytest.mark.parametrize("point", [0, 1])
def test_gradient_norms_are_those_of_differences(seen: Any, point: int) -> None:
    model, x, o = seen
    at = (x, o.x_adv)[point]
    h = 1e-6 * np.eye(784).reshape(784, 28, 28, 1)
    J = (model(at + h).data - model(at - h).data) / 2e-6  # (784, 10)
    np.testing.assert_allclose(o.gradient_l1[point], np.abs(J).sum(axis=0), rtol=1e-5)
    np.testing.assert_allclose(o.summed_jacobian_l1[point], np.abs(J.sum(axis=1)).sum(), rtol=1e-5)
    assert o.norms[point] == o.gradient_l1[point, 7]
    assert o.penalty("jacobian_l1")[point] == pytest.approx(np.abs(J).sum(), rel=1e-5)
    assert o.penalty("summed_jacobian_l1")[point] == o.summed_jacobian_l1[point]


def test_logits_probabilities_and_delta(seen: Any) -> None:
    model, x, o = seen
    f = model(np.stack([x, o.x_adv])).data
    np.testing.assert_allclose(o.logits, f, rtol=1e-12)
    np.testing.assert_allclose(o.probabilities, np.exp(f - log_of_sum_of_exp(f)), rtol=1e-12)
    assert o.delta == pytest.approx(abs(f[1, 7] - f[0, 7]), rel=1e-12)
    assert o.predicted.tolist() == f.argmax(axis=1).tolist()
    assert (o.step, o.label) == (11, 7)


def test_the_line_goes_through_both_points_with_the_slopes_of_the_tangents(seen: Any) -> None:
    model, x, o = seen
    way = o.x_adv - x
    for t in (0.0, 0.25, 1.0, 1.25):
        (k,) = np.flatnonzero(t == T)
        f = model((x + t * way)[None]).data[0]
        assert o.along[k] == pytest.approx(f[7], rel=1e-10)
        assert o.predicted_along[k] == f.argmax()
    np.testing.assert_allclose(o.along[[0, 64]], o.logits[:, 7], rtol=1e-10)
    for t, slope in zip((0.0, 1.0), o.slopes, strict=True):
        ahead, behind = (model((x + (t + h) * way)[None]).data[0, 7] for h in (1e-6, -1e-6))
        assert slope == pytest.approx((ahead - behind) / 2e-6, rel=1e-5)
    between = [model((x + t * way)[None]).data[0, 7] for t in np.arange(65) / 64]
    assert o.span == pytest.approx(max(between) - min(between), rel=1e-10)
    assert o.span >= o.delta * (1 - 1e-10)


def test_delta_is_within_the_papers_bound(seen: Any) -> None:
    """Eq. 2: Delta is at most eps times the largest gradient norm on the segment, and close to it for small eps."""
    model, x, _ = seen
    o = figure1.observe(model, x, 7, Protocol(eps=1e-5, clip=False), 0)
    assert 0 < o.delta <= 1e-5 * o.norms.max() * (1 + 1e-9)


def test_the_protocol_decides_the_attack(seen: Any) -> None:
    model, x, o = seen
    beyond = figure1.observe(model, x, 7, Protocol(clip=False), 0).x_adv
    assert beyond.min() < 0
    np.testing.assert_allclose(np.clip(beyond, 0, 1), o.x_adv)


# -- a training, observed -------------------------------------------------------------------------------------------


def test_observing_changes_no_bit_of_the_training(mnist: Dataset) -> None:
    with workers(2) as pool:
        _, unobserved = execute(RUN, mnist, pool, JUDGE, lambda work, what: None)
        found: list[Observation] = []
        steps: list[int] = []
        observed = figure1.train_observed(ObservedRun(RUN, found), mnist, IMAGE, pool, lambda: steps.append(1))
    assert len(found) > 4
    assert len(steps) == 6
    for a, b in zip(unobserved.parameters(), observed.parameters(), strict=True):
        np.testing.assert_array_equal(a.data, b.data)
    again = figure1.observe(unobserved, mnist.x_test[IMAGE], int(mnist.y_test[IMAGE]), TINY, 6)
    np.testing.assert_array_equal(again.gradient_l1, found[-1].gradient_l1)


@pytest.mark.parametrize(
    ("total", "per_epoch", "steps"),
    [
        (6, 3, [0, 1, 2, 3, 4, 6]),
        (1, 1, [0, 1]),
        (40, 10, [0, 1, 2, 3, 4, 6, 8, 10, 11, 16, 20, 23, 30, 32, 40]),
    ],
)
def test_steps_are_dense_at_first_and_at_every_epochs_end(total: int, per_epoch: int, steps: list[int]) -> None:
    assert figure1.observed_steps(total, per_epoch) == steps


def test_every_planned_step_is_observed(study: Study) -> None:
    for w in study.observed:
        assert [o.step for o in w.observations] == [0, 1, 2, 3, 4, 6]
        assert {o.label for o in w.observations} == {study.label}
    assert (study.image, study.stopped) == (IMAGE, False)
    first, control = (w.observations for w in study.observed)
    assert first[0].delta == control[0].delta  # the same weights to begin with
    assert first[-1].delta != control[-1].delta


def test_the_json_is_the_same_with_one_thread_and_two(study: Study, mnist: Dataset) -> None:
    two = json.dumps(figure1.as_json(study))
    assert json.dumps(figure1.as_json(study_by(mnist, 1, [w.run for w in study.observed]))) == two


def test_the_json_has_all_series(study: Study) -> None:
    found = json.loads(json.dumps(figure1.as_json(study)))
    assert (found["model"], found["seed"], found["image"], found["finished"]) == ("C", 3, IMAGE, True)
    assert found["protocol"] == TINY.as_dict()
    assert [run["lambda"] for run in found["runs"]] == [10.0, 0.0]
    for run, w in zip(found["runs"], study.observed, strict=True):
        for there, o in zip(run["observations"], w.observations, strict=True):
            assert (there["step"], there["delta"], there["span"]) == (o.step, o.delta, o.span)
            np.testing.assert_array_equal(np.float32(there["f_y"]), o.along)
            assert there["predicted"] == o.predicted_along.tolist()
            for i, point in enumerate(("x", "x_adv")):
                for name in ("logits", "probabilities", "gradient_l1", "summed_jacobian_l1"):
                    np.testing.assert_array_equal(np.float32(there[point][name]), getattr(o, name)[i])
                assert np.float32(there[point]["slope"]) == o.slopes[i]
                assert there[point]["jacobian_l1"] == pytest.approx(sum(there[point]["gradient_l1"]))
                assert there[point]["predicted"] == o.predicted[i]


@pytest.mark.parametrize(("at_step", "lambdas", "steps"), [(2, [10.0], 2), (7, [10.0, 0.0], 1)])
def test_ctrl_c_keeps_what_was_seen(at_step: int, lambdas: list, steps: int, mnist: Dataset) -> None:
    taken = []

    def done() -> None:
        taken.append(1)
        if len(taken) == at_step:
            raise KeyboardInterrupt

    with workers(1) as pool:
        found = figure1.make_study([RUN, dataclasses.replace(RUN, lam=0.0)], mnist, IMAGE, pool, done)
    assert found.stopped
    assert [w.run.lam for w in found.observed] == lambdas
    assert found.observed[-1].observations[-1].step == steps
    assert "Stopped before the end" in page(found)


# -- plans ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", figure1.PRESETS)
@pytest.mark.parametrize("model", ["A", "B", "C"])
def test_plans_are_section_4_2(preset: str, model: str) -> None:
    run, control = figure1.plan_runs(preset, model, 10.0, "summed_jacobian_l1", 4)
    assert control == dataclasses.replace(run, lam=0.0)
    assert (run.model, run.lam, run.seed) == (model, 10.0, 4)
    p = run.protocol
    assert (p.adversarial_training, p.penalty, p.eps, p.stop_rule) == (True, "summed_jacobian_l1", 0.3, "none")
    if preset == "paper":
        assert (p.max_epochs, p.n_train) == (100, 55_000)


def test_lambda_zero_is_its_own_control() -> None:
    (run,) = figure1.plan_runs("smoke", "C", 0.0, "jacobian_l1", 0)
    assert (run.lam, run.protocol.penalty) == (0.0, "jacobian_l1")


@pytest.mark.parametrize(
    ("changed", "named"),
    [({"preset": "huge"}, "preset must be one of smoke, laptop, paper; got 'huge'"),
     ({"penalty": "l1"}, "penalty must be one of summed_jacobian_l1, jacobian_l1; got 'l1'"),
     ({"model": "D"}, "D.*A, B, C"), ({"lam": -1.0}, "lambda.*-1"), ({"seed": -1}, "seed.*-1")],
)  # fmt: skip
def test_plans_that_mean_nothing(changed: dict, named: str) -> None:
    usual = {"preset": "smoke", "model": "C", "lam": 10.0, "penalty": "jacobian_l1", "seed": 0}
    with pytest.raises(ValueError, match=named):
        figure1.plan_runs(**{**usual, **changed})


# -- many images ----------------------------------------------------------------------------------------------------


def test_many_images_are_random_and_the_same_for_every_lambda(study: Study) -> None:
    images = figure1.many_images(3)
    assert len(set(images.tolist())) == figure1.MANY == 1000
    assert images.min() >= 0
    assert images.max() < 10_000
    assert images.tolist() != figure1.many_images(4).tolist()
    assert abs(images.mean() - 5000) < 400
    with_, without = study.observed
    np.testing.assert_array_equal(with_.deltas[0], without.deltas[0])  # from the same weights
    assert not np.array_equal(with_.deltas[1], without.deltas[1])


def test_deltas_of_many_are_those_of_each(mnist: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figure1, "CHUNK", 2)
    model, x, y = nn.build_model("C", seed=5), mnist.x_test[:5], mnist.y_test[:5]
    each = [figure1.observe(model, image, int(label), TINY, 0).delta for image, label in zip(x, y, strict=True)]
    np.testing.assert_allclose(figure1.many_deltas(model, x, y, TINY), each, rtol=1e-4)


def test_the_share_of_images_whose_delta_has_shrunk_is_counted(study: Study) -> None:
    before, after = np.array([1.0, 1.0, 1.0, 2.0]), np.array([0.5, 0.9, 1.0, 3.0])
    observed = ObservedRun(RUN, study.observed[0].observations, [before, after])
    found = figure1.over_many(observed)
    assert found is not None
    assert (found["images"], found["shrunk"], found["median_before"], found["median_after"]) == (4, 50, 1, 0.95)
    assert found["interval"][0] < 50 < found["interval"][1]
    assert "shrunk for 50.0% of 4 random test images (95% interval 15.0 to 85.0)" in figure1.over_many_in_words(
        observed
    )
    unfinished = ObservedRun(RUN, study.observed[0].observations, [before])
    assert figure1.over_many(unfinished) is None
    assert figure1.over_many_in_words(unfinished) == ""


def test_page_json_and_picture_have_the_many_images(study: Study) -> None:
    page = figure1.as_markdown(study, "minidbp figure1", 1.0)
    shrunk = [figure1.over_many(observed) for observed in study.observed]
    for found in shrunk:
        assert found is not None
        assert f"shrunk for {found['shrunk']:.1f}% of 1,000 random test images" in page
    found = json.loads(json.dumps(figure1.as_json(study)))
    assert found["many_images"] == figure1.many_images(3).tolist()
    assert [np.shape(run["deltas_of_many"]) for run in found["runs"]] == [(2, 1000)] * 2
    panel = next(axes for axes in figure1_pictures.still(study).axes if "1,000 images" in axes.get_title(loc="left"))
    assert panel.get_ylim() == (0.0, 100.0)
    for line, observed in zip(panel.lines, study.observed, strict=False):
        np.testing.assert_array_equal(line.get_xdata(), np.sort(observed.ratios))


# -- pictures -------------------------------------------------------------------------------------------------------


def of_steps(study: Study, *steps: int) -> list[Observation]:
    return [dataclasses.replace(study.observed[0].observations[0], step=step) for step in steps]


def test_moments_are_first_and_last_and_two_between(study: Study) -> None:
    many = of_steps(study, *figure1.observed_steps(4300, 430))
    assert [o.step for o in figure1.moments(many)] == [0, 16, 256, 4300]
    assert [o.step for o in figure1.moments(of_steps(study, 0, 1))] == [0, 1]
    assert [o.step for o in figure1.moments(of_steps(study, 0))] == [0]


@pytest.mark.slow
def test_the_still_shows_what_was_seen(study: Study, tmp_path: Path) -> None:
    figure = figure1_pictures.still(study)
    save(figure, tmp_path / "a.png")
    assert matplotlib.image.imread(tmp_path / "a.png")[..., :3].std() > 0.03
    chosen = figure1.moments(study.observed[0].observations)
    for k, o in enumerate(chosen):
        axes = figure.axes[2 * k + 1]
        whole, between = axes.lines[:2]
        np.testing.assert_array_equal(whole.get_ydata(), o.along)
        np.testing.assert_array_equal(between.get_xdata(), T[:65])
        assert any(f"= {o.delta:.2f}" in text.get_text() for text in axes.texts)
        shown = [np.asarray(inset.images[0].get_array()) for inset in figure.axes[2 * k].child_axes]
        np.testing.assert_array_equal(shown, [study.x[..., 0], o.x_adv[..., 0]])
    curves = {line.get_label(): line for line in figure.axes[8].lines}
    for w in study.observed:
        curve = curves[f"λ = {w.run.lam:g}"]
        assert list(curve.get_xdata()) == [o.step for o in w.observations]
        assert list(curve.get_ydata()) == [o.delta for o in w.observations]
    colours, marks = zip(*((c.get_color(), c.get_marker()) for n, c in curves.items() if "λ" in n), strict=True)
    assert len(set(colours)) == len(set(marks)) == 2


def shortened(study: Study, count: int) -> Study:
    return dataclasses.replace(study, observed=[ObservedRun(w.run, w.observations[:count]) for w in study.observed])


@pytest.mark.slow
def test_one_observation_is_enough_for_a_still(study: Study, tmp_path: Path) -> None:
    save(figure1_pictures.still(shortened(study, 1)), tmp_path / "a.png")
    assert matplotlib.image.imread(tmp_path / "a.png")[..., :3].std() > 0.03


@pytest.mark.slow
def test_the_film_has_a_frame_for_each_observation(study: Study, tmp_path: Path) -> None:
    drawn: list[int] = []
    figure1_pictures.film(shortened(study, 3), tmp_path / "a.gif", lambda: drawn.append(1))
    with Image.open(tmp_path / "a.gif") as film:
        assert film.n_frames == len(drawn) == 3
        assert film.info["loop"] == 0
        durations, frames = [], []
        for k in range(film.n_frames):
            film.seek(k)
            durations.append(film.info["duration"])
            frames.append(np.asarray(film.convert("RGB")))
    assert durations[-1] > 5 * durations[0]
    assert len({frame.tobytes() for frame in frames}) == len(frames)
    assert np.std(frames[0]) > 5
    assert [p.name for p in tmp_path.iterdir()] == ["a.gif"]


@pytest.mark.slow
def test_a_film_that_is_stopped_leaves_nothing(study: Study, tmp_path: Path) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        figure1_pictures.film(study, tmp_path / "a.gif", stop)
    assert list(tmp_path.iterdir()) == []


# -- the page -------------------------------------------------------------------------------------------------------


def page(study: Study) -> str:
    return figure1.as_markdown(study, "minidbp figure1", 66.0)


def made(deltas: list[float], norms: list[float], study: Study, wins: bool = True) -> ObservedRun:
    """A run with these Deltas and gradient norms (the same at both points), a step each."""
    label, some = study.label, study.observed[0].observations[0]
    observations = []
    for step, (delta, norm) in enumerate(zip(deltas, norms, strict=True)):
        logits = np.zeros((2, 10), np.float32)
        logits[:, label] = 1.0, 1.0 + delta
        said = np.full(len(T), label if wins else label - 1)
        observations.append(dataclasses.replace(
            some, step=step, logits=logits, gradient_l1=np.full((2, 10), norm), along=1 + delta * T,
            predicted_along=said,
        ))  # fmt: skip
    return ObservedRun(RUN, observations)


def test_changes_are_first_largest_and_last(study: Study) -> None:
    c = figure1.changes(made([4, 8, 2, 3, 1], [5, 6, 7, 8, 9], study))["delta"]
    assert (c.first, c.largest, c.largest_step, c.last) == pytest.approx((4, 8, 1, 1))
    assert (c.late_least, c.late_median, c.late_most) == pytest.approx((1, 2, 3))  # steps 2, 3, 4


@pytest.mark.parametrize(
    ("deltas", "norms", "wins", "broken"),
    [
        ([8, 4, 2, 0.01, 0.01, 0.01], [90, 50, 20, 1, 1, 1], True, ()),  # the paper's ideal
        ([8, 4, 2, 0.01, 0.01, 0.01], [9, 9, 9, 20, 20, 20], True, ("‖∇f_y‖₁",)),
        ([1, 4, 2, 3, 3, 3], [90, 50, 20, 1, 1, 1], True, ("Δ₁", "Δ", "span")),
        (
            [8, 4, 2, 0.01, 0.01, 0.01],
            [90, 50, 20, 1, 1, 1],
            False,
            ("the true class has the largest logit all the way",),
        ),
    ],
)
def test_the_ideal_is_held_against_the_numbers(
    deltas: list, norms: list, wins: bool, broken: tuple, study: Study
) -> None:
    claims = figure1.ideal(made(deltas, norms, study, wins))
    # Δ₁ to Δ₄ are moments 0, 1, 2 or 3, and the last; the rest is in the texts
    for claim in claims:
        expected = not any(claim.text.startswith(word) for word in broken)
        assert claim.holds == expected, claim


def test_the_page_says_what_the_numbers_say(study: Study) -> None:
    text = page(study)
    (description,) = re.findall(r"!\[(.*)\]\(figure1\.png\)", text)
    for o in figure1.moments(study.observed[0].observations):
        assert f"Δ = {o.delta:.2f}" in description
    for word in ("minidbp figure1", "1.1 minutes", "figure1.gif", "figure1.json", "| penalty | summed_jacobian_l1 |",
                 "λ = 10", "λ = 0", "Δ₁ > Δ₂ > Δ₃ > Δ₄"):  # fmt: skip
        assert word in text
    told = figure1.on_screen(study)
    for w in study.observed:
        c = figure1.changes(w)["delta"]
        (row,) = [line for line in text.splitlines() if line.startswith(f"| Δ | λ = {w.run.lam:g} |")]
        assert f"| {c.first:.3g} | {c.largest:.3g} |" in row
        assert f"  Δ: {c.first:.3g} before, at most {c.largest:.3g} (step {c.largest_step})" in told
    assert "Stopped" not in text


def test_the_summary_is_json(study: Study) -> None:
    found = json.loads(json.dumps(figure1.summary_as_json(study)))
    assert [run["lambda"] for run in found["runs"]] == [10.0, 0.0]
    assert found["runs"][0]["delta"]["last"] == study.observed[0].observations[-1].delta
    assert {type(claim["holds"]) for run in found["runs"] for claim in run["ideal"]} == {bool}
