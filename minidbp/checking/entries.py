"""Every entry of a Jacobian against finite differences."""

import numpy as np

from minidbp.autodiff.tensor import Tensor
from minidbp.checking.finite_differences import Difference, Differences
from minidbp.checking.noise import rounding_bound, rounding_noise
from minidbp.checking.points import flat, in_input, index_of, part_of, step_scale, unit_cotangents
from minidbp.checking.subject import Subject
from minidbp.checking.verdicts import (
    DOUBTFUL,
    NEGLIGIBLE,
    NEGLIGIBLE_OUTPUT,
    NOISY,
    RULE_ROUNDING,
    UNDECIDED,
    ZERO,
    ZERO_ERROR,
    check_precision,
    undecided,
)


def compare_entries(s: Subject) -> None:
    """The whole Jacobian J: a row for each element of the outputs, a column for each element of the inputs."""
    if not any(x.size for x in s.xs) or not any(y.size for y in s.ys):
        return
    J = np.concatenate([_jacobian(s, y) for y in s.ys])
    places = [(i, j) for i, x in enumerate(s.xs) for j in range(x.size)]  # of the columns
    bounds = [rounding_bound(y).reshape(y.shape) for y in s.ys]
    noise = rounding_noise(s.f, s.xs, s.rng)
    # some noise does not show where it is measured; a tenth of the bound is allowed then
    expected = [np.fmax(e, b / 10) for e, b in zip(noise.largest, bounds, strict=True)]
    differences, bound = Differences(s.f, s.xs, expected), flat(bounds)[:, None]
    columns = [_column(differences, i, j) for i, j in places]
    numeric = np.stack([flat(d.values) for d in columns], axis=1)
    error = np.stack([flat(d.errors) for d in columns], axis=1)
    refined = np.zeros(len(places), bool)  # the columns for which other steps were tried
    while True:
        wrong, doubtful, hidden, excess = _judge(s, J, numeric, error, bound)
        left = doubtful.any(axis=0) & ~refined
        if (wrong & refined).any() or not left.any():
            break
        column = int(np.argmax(np.where(left, excess.max(axis=0), -1.0)))  # the worst first
        best = _column(differences, *places[column], refine=True)
        numeric[:, column], error[:, column] = flat(best.values), flat(best.errors)
        refined[column] = True
    values = np.abs(flat([y.data for y in s.ys]))
    noisy = wrong & ((values > 0) & (flat(expected) > NOISY * values))[:, None]
    hidden, wrong = hidden | noisy, wrong & ~noisy
    if wrong.any():
        _report(s, J, numeric, error, np.where(wrong, excess, -1.0))
    if hidden.any():
        row, column = np.argwhere(hidden)[0]
        raise undecided(
            columns[column].why, J[row, column], numeric[row, column], max(error[row, column], 4 * bound[row, 0])
        )
    check_precision(s.name, noise.closest, bounds)


def _judge(
    s: Subject, J: np.ndarray, numeric: np.ndarray, error: np.ndarray, bound: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Which entries are wrong, doubtful, or hidden by rounding; and their differences, divided by what is allowed."""
    size, difference = np.fmax(np.abs(J), np.abs(numeric)), np.abs(J - numeric)
    of_output = size.max(axis=1, keepdims=True, initial=0.0)
    ends = np.cumsum([x.size for x in s.xs])[:-1]
    largest_ones = [part.max(axis=1, initial=0.0, keepdims=True) for part in np.split(size, ends, axis=1)]
    of_input = np.repeat(np.concatenate(largest_ones, axis=1), [x.size for x in s.xs], axis=1)  # of the same output too
    small = NEGLIGIBLE * np.maximum(of_input, np.minimum(of_output, 1.0))
    allowed = s.rtol * np.abs(numeric) + error + RULE_ROUNDING * of_output
    differs = ~(difference <= allowed)  # for NaN too
    # a rule may be rounded as much as the value, and underflow
    relative = np.maximum(1.0, np.abs(flat(s.xs)))
    wrong = differs & ~(difference * relative <= 4 * bound + 1e-300)

    negligible = NEGLIGIBLE_OUTPUT * float(of_output.max())
    constant = (of_output <= max(ZERO * s.largest, negligible)) & (error <= max(ZERO_ERROR, negligible))
    constant &= ~(differs & (np.abs(numeric) > 1e3 * error))  # a slope so far above its error is no rounding
    judged = ~constant & (size != 0)
    uncertain = np.maximum(error, np.where(differs, difference, 0.0))
    hidden = ~wrong & judged & (uncertain > UNDECIDED * size) & (uncertain > small)
    doubtful = wrong | hidden | judged & (uncertain > DOUBTFUL * size) & (np.abs(J) > RULE_ROUNDING * of_input)
    with np.errstate(all="ignore"):
        return wrong, doubtful, hidden, np.nan_to_num(difference / allowed, nan=np.inf)


def _jacobian(s: Subject, y: Tensor) -> np.ndarray:
    """(size of y, size of all inputs), by the rules; a few hundred rows in each backward pass."""
    blocks = [np.zeros((0, sum(x.size for x in s.xs)))]
    for rows in unit_cotangents(y.shape, np.arange(y.size)):
        pulled = s.pull(y, s.leaves, rows)
        blocks.append(np.concatenate([g.reshape(len(rows), -1) for g in pulled], axis=1))
    return np.concatenate(blocks)


def _column(differences: Differences, i: int, j: int, refine: bool = False) -> Difference:
    """The derivatives in element j of input i, by differences; with `refine`, from the best of all steps."""
    x = differences.xs[i]
    unit, scale = np.zeros_like(x), float(step_scale(x.flat[j]))
    unit.flat[j] = scale
    method = differences.refined if refine else differences.estimate
    difference = method(in_input(i, unit, differences.xs))
    values, errors = ([a / scale for a in arrays] for arrays in (difference.values, difference.errors))
    return difference._replace(values=values, errors=errors)


def _report(s: Subject, J: np.ndarray, numeric: np.ndarray, error: np.ndarray, excess: np.ndarray) -> None:
    """Raise the error for the entry with the largest excess, which is -1 where an entry is right."""
    row, column = map(int, np.unravel_index(int(np.argmax(excess)), excess.shape))
    k, rows = part_of(row, [y.size for y in s.ys])
    i, columns = part_of(column, [x.size for x in s.xs])
    y, x, part = s.ys[k].data, s.xs[i], (rows, columns)
    message = (
        f"{s.derivative} is wrong: output {k} at {index_of(row - rows.start, y.shape)}, "
        f"in input {i} at {index_of(column - columns.start, x.shape)}, is {numeric[row, column]:.10g} "
        f"by differences (error at most {error[row, column]:.1g}) but {J[row, column]:.10g} by its rule; "
        f"{np.sum(excess[part] >= 0)} of {excess[part].size} entries differ"
    )
    allowed = s.rtol * np.abs(numeric[part]) + error[part]
    raise s.error(message, i, s.cause(J[part], numeric[part], allowed, y, x))
