"""Figure 1 from a real run: f at an image x and at its adversarial twin x + eps v, as adversarial training proceeds.

The paper draws the ideal by hand: Delta = |f(x + eps v) - f(x)| and the gradients at both points shrink to almost 0.
Here one test image is observed through two trainings of section 4.2, one with the penalty and one without. One image
illustrates; how Delta changes for many images is counted before the training and after it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby, pairwise
from statistics import median
from typing import Any

import numpy as np

from minidbp.autodiff import Tensor, jacobian, no_grad, softmax
from minidbp.data import Dataset
from minidbp.files.markdown import code_span, markdown_table
from minidbp.nn import Sequential
from minidbp.paper.statistics import wilson
from minidbp.sweeps.runs import Run
from minidbp.training import Protocol, Workers, train
from minidbp.training.environment import environment
from minidbp.training.protocol import check_choice

N_TEST = 10_000
MANY = 1000  # test images, chosen at random by the seed, whose Delta is compared before and after the training
CHUNK = 250  # of them in one call of the model
POINTS = ("x", "x_adv")
T = np.arange(81) / 64  # places on the line x + t (x_adv - x), exact in float32; 0 is x and 1 is x_adv
BETWEEN = T <= 1
NEARLY = 0.05  # "almost 0": below this share of the largest value in the run
PENALTIES = {  # what section 4.2 used, and the norm it stands for
    "summed_jacobian_l1": "Σ_j |Σ_i ∂f_i/∂x_j|",
    "jacobian_l1": "‖J‖₁,₁ = Σ_i Σ_j |∂f_i/∂x_j|",
}
QUANTITIES = {
    "delta": "Δ",
    "span": "span of f_y between x and x + εv",
    "norm_x": "‖∇f_y‖₁ at x",
    "norm_x_adv": "‖∇f_y‖₁ at x + εv",
    "penalty_x": "penalty at x, as a sum, before λ",
}

# epochs and training images by preset and model; all presets have the paper's batch size
PRESETS: Mapping[str, Mapping[str, tuple[int, int]]] = {
    "smoke": {"A": (2, 1280), "B": (2, 640), "C": (2, 12_800)},
    "laptop": {"A": (4, 19_200), "B": (3, 12_800), "C": (10, 55_000)},
    "paper": {"A": (100, 55_000), "B": (100, 55_000), "C": (100, 55_000)},
}


@dataclass(frozen=True, eq=False)
class Observation:
    """What f does at x and x_adv after `step` steps of training. Arrays have x in row 0, x_adv in row 1."""

    step: int
    label: int  # y
    x_adv: np.ndarray  # (28, 28, 1)
    logits: np.ndarray  # (2, 10): f
    probabilities: np.ndarray  # (2, 10): softmax of f
    gradient_l1: np.ndarray  # (2, 10): ||grad_x f_i||_1 = sum_j |J_ij|, per unit of pixel value
    summed_jacobian_l1: np.ndarray  # (2,): sum_j |sum_i J_ij|, what Table 3 penalises
    along: np.ndarray  # (len(T),): f_y(x + t (x_adv - x)) for t in T
    predicted_along: np.ndarray  # (len(T),): the class with the largest logit there
    slopes: np.ndarray  # (2,): d/dt of that at t = 0 and t = 1

    @property
    def delta(self) -> float:
        """Delta = |f_y(x_adv) - f_y(x)|."""
        at_x, at_x_adv = self.logits[:, self.label]
        return abs(float(at_x_adv) - float(at_x))

    @property
    def span(self) -> float:
        """Largest minus smallest f_y between x and x_adv: Delta alone does not say that f is flat between them."""
        return float(np.ptp(self.along[BETWEEN].astype(float)))

    @property
    def norms(self) -> np.ndarray:
        """(2,): ||grad_x f_y||_1 at x and at x_adv."""
        return self.gradient_l1[:, self.label]

    def penalty(self, name: str) -> np.ndarray:
        """(2,): the penalty of that name at x and at x_adv, before the protocol's reduction."""
        return self.gradient_l1.sum(axis=1) if name == "jacobian_l1" else self.summed_jacobian_l1

    @property
    def predicted(self) -> np.ndarray:
        """(2,): the class with the largest logit, at x and at x_adv."""
        return np.argmax(self.logits, axis=1)


@dataclass(frozen=True, eq=False)
class ObservedRun:
    """A run and its observations, the first of them before the first step."""

    run: Run
    observations: list[Observation]
    deltas: list[np.ndarray] = field(default_factory=list)  # (MANY,): before the first step and after the last

    @property
    def label(self) -> str:
        return f"λ = {self.run.lam:g}"

    @property
    def steps(self) -> list[int]:
        return [o.step for o in self.observations]

    def series(self) -> dict[str, list[float]]:
        """Each of QUANTITIES at every observation."""
        penalty = self.run.protocol.penalty
        rows = np.array([(o.delta, o.span, *o.norms, o.penalty(penalty)[0]) for o in self.observations], float)
        return dict(zip(QUANTITIES, rows.T.tolist(), strict=True))

    @property
    def ratios(self) -> np.ndarray | None:
        """(MANY,): Delta after the training over Delta before; None if the training has not ended."""
        if len(self.deltas) < 2:
            return None
        before, after = self.deltas
        return after / np.maximum(before, np.finfo(before.dtype).tiny)


@dataclass(frozen=True, eq=False)
class Study:
    """What Figure 1 is drawn from: the test image x with its label, and the runs. `stopped`: Ctrl-C ended it early."""

    image: int
    x: np.ndarray  # (28, 28, 1)
    label: int
    observed: list[ObservedRun]
    stopped: bool


def plan_runs(preset: str, model: str, lam: float, penalty: str, seed: int) -> list[Run]:
    """The run with the penalty and the same without (just that one for lambda = 0).

    Raises ValueError for an unknown preset, model or penalty, and for values that `Run` refuses.
    """
    for what, value, choices in ("preset", preset, PRESETS), ("penalty", penalty, PENALTIES):
        check_choice(what, value, choices)
    run = Run(model, lam, seed, Protocol(adversarial_training=True, penalty=penalty, stop_rule="none"))  # checks all
    epochs, images = PRESETS[preset][model]
    run = replace(run, protocol=replace(run.protocol, max_epochs=epochs, n_train=images))
    return [run, replace(run, lam=0.0)] if lam else [run]


def steps_of(run: Run) -> tuple[int, int]:
    """How many steps the run's training takes, and how many of them make an epoch."""
    per_epoch = -(-run.protocol.n_train // run.protocol.batch_size)
    return run.protocol.max_epochs * per_epoch, per_epoch


def observed_steps(total: int, per_epoch: int) -> list[int]:
    """0, 1, then each about sqrt(2) times the last, and the end of every epoch."""
    geometric = {round(2 ** (k / 2)) for k in range(2 * total.bit_length())}
    return sorted({0, *(s for s in geometric if s <= total), *range(per_epoch, total + 1, per_epoch)})


def observe(model: Sequential, x: np.ndarray, y: int, protocol: Protocol, step: int) -> Observation:
    """What the model, which is only read, does around x (28, 28, 1) with label y; x_adv is the FGSM image of x now."""
    x_adv = protocol.fgsm(model, x[None], np.array([y]))[0]
    both, direction = np.stack([x, x_adv]), x_adv - x
    line = x + T.astype(x.dtype)[:, None, None, None] * direction
    J = jacobian(model, both).data
    with no_grad():
        logits, along = model(Tensor(both)), model(Tensor(line))
        return Observation(
            step, y, x_adv,
            logits=logits.data,
            probabilities=softmax(logits).data,
            gradient_l1=np.abs(J).sum(axis=(2, 3, 4)),
            summed_jacobian_l1=np.abs(J.sum(axis=1)).sum(axis=(1, 2, 3)),
            along=along.data[:, y],
            predicted_along=np.argmax(along.data, axis=1),
            slopes=(J[:, y] * direction).sum(axis=(1, 2, 3)),
        )  # fmt: skip


def many_images(seed: int) -> np.ndarray:
    """(MANY,): the numbers of random test images, the same for every lambda."""
    return np.sort(np.random.default_rng(seed).choice(N_TEST, MANY, replace=False))


def many_deltas(model: Sequential, x: np.ndarray, y: np.ndarray, protocol: Protocol) -> np.ndarray:
    """(N,): Delta of each image of x (N, 28, 28, 1) with labels y (N,), between it and its FGSM image now."""
    deltas = []
    for begin in range(0, len(x), CHUNK):
        images, labels = x[begin : begin + CHUNK], y[begin : begin + CHUNK]
        twins = protocol.fgsm(model, images, labels)
        with no_grad():
            change = model(Tensor(twins)).data - model(Tensor(images)).data
        deltas.append(np.abs(change[np.arange(len(labels)), labels]))
    return np.concatenate(deltas)


def train_observed(
    observed: ObservedRun, mnist: Dataset, image: int, workers: Workers, on_step: Callable[[], None]
) -> Sequential:
    """Train a run, add what is observed at a test image and at many, and return the model. Raises DivergenceError.

    An observed training gives the same bits as any other.
    """
    run = observed.run
    state, wanted = run.start(), observed_steps(*steps_of(run))

    def look(step: int) -> None:
        if step in wanted:
            x, y = mnist.x_test[image], int(mnist.y_test[image])
            observed.observations.append(observe(state.model, x, y, run.protocol, step))

    def after_step(epoch: int, step: int, steps: int) -> None:
        look((epoch - 1) * steps + step)
        on_step()

    many = many_images(run.seed)

    def look_at_many() -> None:
        observed.deltas.append(many_deltas(state.model, mnist.x_test[many], mnist.y_test[many], run.protocol))

    look(0)
    look_at_many()
    train(state, run.split(mnist), workers, after_step)
    look_at_many()
    return state.model


def make_study(runs: Sequence[Run], mnist: Dataset, image: int, workers: Workers, on_step: Callable[[], None]) -> Study:
    """Train and observe the runs in turn. Ctrl-C ends the study with what was observed. Raises DivergenceError."""
    observed = [ObservedRun(run, []) for run in runs]
    stopped = False
    try:
        for each in observed:
            train_observed(each, mnist, image, workers, on_step)
    except KeyboardInterrupt:
        stopped = True
    begun = [each for each in observed if each.observations]
    return Study(image, mnist.x_test[image], int(mnist.y_test[image]), begun, stopped)


def moments(observations: Sequence[Observation]) -> list[Observation]:
    """Up to four observations: the first, the last, and two between them, evenly spaced in the logarithm of the step.

    The step alone decides, so the panels are not picked by what they show.
    """
    logs = np.log1p([o.step for o in observations])
    nearest = [int(np.argmin(np.abs(logs - share * logs[-1]))) for share in (0, 1 / 3, 2 / 3, 1)]
    return [observations[i] for i in dict.fromkeys(nearest)]


# What the figure shows, in numbers and words


@dataclass(frozen=True)
class Change:
    """How a quantity changed in a run. `late`: over the second half of the steps, because single moments fluctuate."""

    first: float
    largest: float
    largest_step: int
    late_least: float
    late_median: float
    late_most: float
    last: float


@dataclass(frozen=True)
class Claim:
    """A part of the paper's ideal, whether this run fulfils it, and the numbers that show it."""

    text: str
    holds: bool
    numbers: str


def changes(observed: ObservedRun) -> dict[str, Change]:
    """How each of QUANTITIES changed in a run."""
    steps = observed.steps
    begin = sum(2 * step < steps[-1] for step in steps)
    by_name = {}
    for name, values in observed.series().items():
        largest, late = max(values), values[begin:]
        step = steps[values.index(largest)]
        by_name[name] = Change(values[0], largest, step, min(late), median(late), max(late), values[-1])
    return by_name


def ideal(observed: ObservedRun) -> list[Claim]:
    """What the paper's Figure 1 promises, compared with a run."""
    last = observed.observations[-1]
    deltas = [o.delta for o in moments(observed.observations)]
    falling = len(deltas) > 1 and all(before > after for before, after in pairwise(deltas))
    order = " > ".join(f"Δ{'₁₂₃₄'[k]}" for k in range(len(deltas)))
    claims = [Claim(order, falling, ", ".join(f"{delta:.3g}" for delta in deltas))]
    for name, c in changes(observed).items():
        if name != "penalty_x":
            text, late = QUANTITIES[name], c.late_median
            share = late / c.largest if c.largest else 0.0
            claims += [
                Claim(f"{text} has shrunk", late < c.first, f"{c.first:.3g} before, {late:.3g} late"),
                Claim(f"{text} is almost 0", share < NEARLY, f"late {100 * share:.3g}% of its largest"),
            ]
    predictions = {"at both points": last.predicted, "all the way between them": last.predicted_along[BETWEEN]}
    for where, predicted in predictions.items():
        text = f"the true class has the largest logit {where}"
        classes = ", ".join(str(c) for c, _ in groupby(predicted))
        claims.append(Claim(text, bool((predicted == last.label).all()), f"predicted at the end: {classes}"))
    return claims


def over_many(observed: ObservedRun) -> dict[str, Any] | None:
    """On MANY images: the percentage whose Delta has shrunk, its 95% interval, the medians; None before the end."""
    if observed.ratios is None:
        return None
    before, after = observed.deltas
    shrunk = int((after < before).sum())
    return {
        "images": len(before),
        "shrunk": 100 * shrunk / len(before),
        "interval": list(wilson(shrunk, len(before))),
        "median_before": float(np.median(before)),
        "median_after": float(np.median(after)),
    }


def over_many_in_words(observed: ObservedRun) -> str:
    """`over_many` as a sentence; empty before the end of the training."""
    m = over_many(observed)
    if m is None:
        return ""
    return (
        f"{observed.label}: Δ has shrunk for {m['shrunk']:.1f}% of {m['images']:,} random test images (95% interval "
        f"{m['interval'][0]:.1f} to {m['interval'][1]:.1f}); its median was {m['median_before']:.3g} before and is "
        f"{m['median_after']:.3g} at the end"
    )


def on_screen(study: Study) -> str:
    """For a terminal: how each quantity changed in each run, and the model's predictions at the end."""
    lines = []
    for observed in study.observed:
        last = observed.observations[-1]
        lines.append(
            f"{observed.label}: after {last.step:,} steps the model predicts {last.predicted[0]} at x and "
            f"{last.predicted[1]} at x + εv; the true class is {last.label}"
        )
        lines += [
            f"  {QUANTITIES[name]}: {c.first:.3g} before, at most {c.largest:.3g} (step {c.largest_step:,}), "
            f"late {c.late_median:.3g}, last {c.last:.3g}"
            for name, c in changes(observed).items()
        ]
        lines += [f"  {text}" for text in [over_many_in_words(observed)] if text]
    return "\n".join([*lines, '"late" is the median over the second half of the steps'])


def summary_as_json(study: Study) -> dict[str, Any]:
    """The summary for --json."""
    runs = [
        {
            "lambda": observed.run.lam,
            "steps": observed.steps[-1],
            **{name: asdict(change) for name, change in changes(observed).items()},
            "ideal": [asdict(claim) for claim in ideal(observed)],
            "many_images": over_many(observed),
        }
        for observed in study.observed
    ]
    return {"image": study.image, "label": study.label, "finished": not study.stopped, "runs": runs}


def as_json(study: Study) -> dict[str, Any]:
    """All series, for figure1.json: the same for the same seed, whatever the number of threads."""
    run = study.observed[0].run
    return {
        "model": run.model,
        "seed": run.seed,
        "image": study.image,
        "label": study.label,
        "finished": not study.stopped,
        "protocol": run.protocol.as_dict(),
        "steps_per_epoch": steps_of(run)[1],
        "t": T.tolist(),
        "many_images": many_images(run.seed).tolist(),
        "runs": [
            {
                "lambda": observed.run.lam,
                "observations": [_observation_as_json(o) for o in observed.observations],
                "deltas_of_many": [_decimals(deltas) for deltas in observed.deltas],
            }
            for observed in study.observed
        ],
        "environment": asdict(environment()),
    }


def _observation_as_json(o: Observation) -> dict[str, Any]:
    shown = {
        "predicted": o.predicted.tolist(),
        "logits": _decimals(o.logits),
        "probabilities": _decimals(o.probabilities),
        "gradient_l1": _decimals(o.gradient_l1),
        "jacobian_l1": o.gradient_l1.sum(axis=1, dtype=np.float64).tolist(),
        "summed_jacobian_l1": _decimals(o.summed_jacobian_l1),
        "slope": _decimals(o.slopes),
    }
    points = {point: {name: values[i] for name, values in shown.items()} for i, point in enumerate(POINTS)}
    along = {"f_y": _decimals(o.along), "predicted": o.predicted_along.tolist()}
    return {"step": o.step, "delta": o.delta, "span": o.span, **points, **along}


def _decimals(values: np.ndarray) -> list:
    """Numbers as a list, each in the fewest decimals that identify it in its dtype."""
    return values.astype(str).astype(float).tolist()


def as_markdown(study: Study, command: str, seconds: float) -> str:
    """figure1.md: caption, description, comparison with the ideal, numbers, protocol and machine."""
    first = study.observed[0]
    run, p = first.run, first.run.protocol
    all_changes = {observed.label: changes(observed) for observed in study.observed}
    steps = ", ".join(f"{o.step:,}" for o in moments(first.observations))
    claims = [
        [same[0].text, *(f"{'yes' if claim.holds else '**no**'}: {claim.numbers}" for claim in same)]
        for same in zip(*map(ideal, study.observed), strict=True)
    ]
    columns = ["", "", "before", "largest", "at step", "late: least", "late: median", "late: most", "last"]
    numbers = [
        [text, lam, *(f"{n:,}" if isinstance(n, int) else f"{n:.3g}" for n in asdict(change[name]).values())]
        for name, text in QUANTITIES.items()
        for lam, change in all_changes.items()
    ]
    stopped = "\n**Stopped before the end: the figure shows what was observed until then.**\n" if study.stopped else ""
    control = "\nOrange and dashed: the same training without the penalty, from the same weights, on the same batches."
    control *= len(study.observed) > 1
    over = [f"- {text}." for text in map(over_many_in_words, study.observed) if text]
    many = (
        "\n".join(["\nOn many images (the last panel of the figure), each λ after one training:\n", *over, ""])
        if over
        else ""
    )
    return f"""# Figure 1 from a real run: model {run.model}, test image {study.image} (a {study.label})

Made by {code_span(command)} in {seconds / 60:.1f} minutes.
{stopped}
![{_description(study)}](figure1.png)

The paper's Figure 1 is a drawing of the ideal: at first Δ = |f(x + εv) − f(x)| and the gradients at x and at x + εv
are large, then Δ₁ > Δ₂ > Δ₃ > Δ₄ ≈ 0, and in the end the gradients are nearly 0. This is the same picture, measured.

**Above**: f_y, the logit of the true class {study.label}, on the line from x (white circle) to x + εv (black square)
and a little beyond. The panels are at steps {steps} of {p.batch_size} images and their adversarial twins;
{steps_of(run)[1]} steps make an epoch. The steps are evenly spaced in their logarithm, not picked by what they show.
The dashed lines are the tangents at both points. A red cross means that another class has the largest logit. v is the
sign of the loss gradient at that moment, ε = {p.eps:g}, and pixels are clipped to [0, 1]. The small images are x and
x + εv, with the class that has the largest logit (red and crossed where wrong) and the probability of the true class.

**Below**, against the step: Δ, and dotted the span of f_y (largest minus smallest) between x and x + εv; ‖∇f_y‖₁ at
both points, in logits per unit of pixel value; and the penalty at x as a sum, before its weight λ:
{PENALTIES[p.penalty]}.{control}

All {len(first.observations)} observations as a film: [figure1.gif](figure1.gif). Every number, for all ten classes:
[figure1.json](figure1.json).

## Does the ideal hold here?

"Late" is the median over the second half of the steps, because single moments fluctuate. "Almost 0" is below
{100 * NEARLY:g}% of the largest value in the run. This is one test image (the paper's is a training point) and one
seed: it illustrates the method and does not measure it.
{many}
{markdown_table(["the paper's ideal", *all_changes], claims)}
## Numbers

{markdown_table(columns, numbers, "---:")}
## Protocol

Section 4.2: model {run.model}, seed {run.seed}. Every image and its FGSM twin are in the batch, the penalty at both.

{markdown_table(["field", "value"], [[name, str(value)] for name, value in p.as_dict().items()])}
## Machine

{environment().in_words()}
"""


def _description(study: Study) -> str:
    """The picture in words."""
    panels = "; ".join(
        f"step {o.step}: f_y is {o.logits[0, o.label]:.2f} at x and {o.logits[1, o.label]:.2f} at x + εv, "
        f"Δ = {o.delta:.2f}, gradient norms {o.norms[0]:.3g} and {o.norms[1]:.3g}"
        for o in moments(study.observed[0].observations)
    )
    curves = "; ".join(
        f"{observed.label}: Δ {c.first:.2f}, at most {c.largest:.2f}, in the end {c.last:.2f}"
        for observed in study.observed
        for c in [changes(observed)["delta"]]
    )
    return f"Panels above, f_y between x and its adversarial twin: {panels}. Curves below, against the step: {curves}."
