"""Compare the numbers of a training step with finite differences, none of which crosses a kink."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from minidbp.autodiff import NotDifferentiableError, Tensor
from minidbp.checking.finite_differences import directional_difference
from minidbp.explain.step import Arrays, LayerGradients, TrainingStep, distance, forward, gather, norm, restored
from minidbp.nn import cross_entropy
from minidbp.nn.layer import Layer

LOWERED_BY = 0.1
SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


@dataclass(frozen=True)
class Comparison:
    """A number by the engine and by a finite difference.

    At a kink there is no difference: `difference`, `relative_error` and `step` are None, and `why` gives the reason.
    For the norm of an array, `relative_error` is the error of the whole array. `step` is half the width of the
    difference; no mask and no sign changes within it.
    """

    quantity: str
    engine: float
    difference: float | None = None
    relative_error: float | None = None
    step: float | None = None
    why: str = ""


def compare(
    f: Callable[[list[Tensor]], list[Tensor]],
    at: Arrays,
    direction: Arrays,
    engine: Mapping[str, ArrayLike],
    of: Callable[[list[np.ndarray]], Sequence[ArrayLike]] = lambda slopes: slopes,
) -> list[Comparison]:
    """Compare derivatives of f at `at` along `direction` with the engine's numbers or arrays.

    Args:
        engine: by name, the derivatives that the engine gives.
        of: from the slopes of all outputs of f to one number or array for each name.
    """
    try:
        difference = directional_difference(f, at, direction)
    except NotDifferentiableError as error:
        return [Comparison(name, _size(value), why=str(error)) for name, value in engine.items()]
    return [
        Comparison(name, _size(value), _size(slope), distance(value, slope), difference.step)
        for (name, value), slope in zip(engine.items(), of(difference.values), strict=True)
    ]


@contextmanager
def inactive_biases_lowered(layers: Sequence[LayerGradients]) -> Iterator[dict[int, list[int]]]:
    """For the block, lower the bias of each unit that is active nowhere at x and exactly 0 somewhere.

    A filter that was never active still has the bias 0. Where the image is 0, it returns exactly 0, so no finite
    difference in x or b exists. A lower bias leaves it inactive: ReLU'(0) is 0, so no other number changes. The block
    gets the units by layer.
    """
    lowered = {}
    with restored([g.layer.b for g in layers]):
        for g in layers[:-1]:
            on_the_kink = g.z.reshape(-1, g.z.shape[-1]).max(axis=0) == 0
            if on_the_kink.any():
                g.layer.b.data = g.layer.b.data - LOWERED_BY * on_the_kink
                lowered[g.number] = on_the_kink.nonzero()[0].tolist()
        yield lowered


def compare_all(
    step: TrainingStep, g: np.ndarray, J: np.ndarray, layers: Sequence[LayerGradients], rng: np.random.Generator
) -> Iterator[tuple[str, list[Comparison]]]:
    """Compare everything; each result comes with the section of the report that it belongs to."""
    slope = {"‖g‖₁: slope along v": np.abs(g).sum()}
    yield "loss", compare(lambda ts: [cross_entropy(step.model(ts[0]), step.y)], [step.x], [np.sign(g)], slope)
    rows, tangents = _compare_jacobian(step, J, layers)
    yield "jacobian", rows
    yield "passes", [*_compare_cotangents(step, layers), *tangents]
    for layer in layers:
        yield "weights", _compare_gradients(step, layer)
    yield "everywhere", _compare_everywhere(step, layers, rng)


def _compare_jacobian(
    step: TrainingStep, J: np.ndarray, layers: Sequence[LayerGradients]
) -> tuple[list[Comparison], list[Comparison]]:
    """Compare the rows of J and P, and T_1, T_2, ...

    Copy k of the image moves along S_k: the slope of f_k is ||J_k||_1, and the slopes of the inputs are T[k].
    """
    numbers = [str(k).translate(SUBSCRIPTS) for k in range(len(J))]
    rows = {f"‖J{k}‖₁: slope of f{k} along S{k}": np.abs(row).sum() for k, row in zip(numbers, J, strict=True)}
    rows[f"P = Σᵢ ‖Jᵢ‖₁ / {J.size}"] = np.abs(J).mean()
    tangents = {f"‖T{layer.number - 1}‖: up from S": layer.T for layer in layers[1:]}

    def inputs_and_logits(tensors: list[Tensor]) -> list[Tensor]:
        inputs, outputs = forward(step.model.layers, tensors[0])
        return [*inputs[1:], outputs[-1]]

    def of(slopes: list[np.ndarray]) -> list[ArrayLike]:
        own = np.diag(slopes[-1])
        return [*own, own.sum() / J.size, *slopes[:-1]]

    copies = np.repeat(step.x, len(J), axis=0)
    comparisons = compare(inputs_and_logits, [copies], [np.sign(J)], {**rows, **tangents}, of)
    return comparisons[: len(rows)], comparisons[len(rows) :]


def _compare_cotangents(step: TrainingStep, layers: Sequence[LayerGradients]) -> list[Comparison]:
    """Move copy k of z_l along V_l[k] / ||V_l||: the slopes of the f_k add up to ||V_l||."""
    comparisons = []
    for g in layers[:-1]:
        above = step.model.layers[step.model.layers.index(g.layer) + 1 :]

        def own_logits(tensors: list[Tensor], above: Sequence[Layer] = above) -> list[Tensor]:
            _, outputs = forward(above, tensors[0])
            return [(outputs[-1] * np.eye(step.n_classes)).sum()]

        copies = np.repeat(g.z, step.n_classes, axis=0)
        comparisons += compare(own_logits, [copies], [_unit(g.V)], {f"‖V{g.number}‖: down from the logits": norm(g.V)})
    return comparisons


def _compare_gradients(step: TrainingStep, g: LayerGradients) -> list[Comparison]:
    """The slope along a gradient, scaled to length 1, is its norm. lambda P is also taken along the loss's gradient."""
    n, W, b = g.number, g.layer.w, g.layer.b
    slopes = (
        (f"‖dL/dW{n}‖", step.loss, W, g.loss_part, g.loss_part),
        (f"‖d(λP)/dW{n}‖", step.weighted_penalty, W, g.penalty_part, g.penalty_part),
        (f"‖dW{n}‖, both together", step.whole, W, g.whole, g.whole),
        (f"slope of λP along dL/dW{n}", step.weighted_penalty, W, g.penalty_part, g.loss_part),
        (f"‖dL/db{n}‖", step.loss, b, g.bias_loss_part, g.bias_loss_part),
        (f"slope of λP along dL/db{n}", step.weighted_penalty, b, g.bias_penalty_part, g.bias_loss_part),
    )
    return [_compare_slope(name, f, [p], [gradient], [_unit(along)]) for name, f, p, gradient, along in slopes]


def _compare_everywhere(
    step: TrainingStep, layers: Sequence[LayerGradients], rng: np.random.Generator
) -> list[Comparison]:
    """The slopes along one random direction of length 1 through all weights and biases at once."""
    parameters = step.model.parameters()
    drawn = [rng.standard_normal(p.shape) for p in parameters]
    length = np.sqrt(sum(norm(r) ** 2 for r in drawn))
    direction = [r / length for r in drawn]
    losses, penalties = gather(layers, "loss_part"), gather(layers, "penalty_part")
    return [
        _compare_slope(f"slope of {name}, random direction", f, parameters, gradients, direction)
        for name, f, gradients in (
            ("L", step.loss, losses),
            ("λP", step.weighted_penalty, penalties),
            ("L + λP", step.whole, [a + b for a, b in zip(losses, penalties, strict=True)]),
        )
    ]


def _compare_slope(
    name: str, f: Callable[[], Tensor], parameters: Sequence[Tensor], gradients: Arrays, direction: Arrays
) -> Comparison:
    """Compare the slope of f along a direction of the parameters with <gradients, direction>."""

    def with_values(tensors: list[Tensor]) -> list[Tensor]:
        with restored(parameters):
            for p, t in zip(parameters, tensors, strict=True):
                p.data = t.data
            return [f()]

    slope = sum(np.sum(g * d) for g, d in zip(gradients, direction, strict=True))
    return compare(with_values, [p.data for p in parameters], direction, {name: slope})[0]


def _size(value: ArrayLike) -> float:
    """A number as it is, or the norm of an array."""
    a = np.asarray(value)
    return norm(a) if a.ndim else float(a)


def _unit(a: np.ndarray) -> np.ndarray:
    return a / (norm(a) or 1.0)
