import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidbp.data import Dataset, Split, batches, random_images, split_train_validation

X = np.arange(40, dtype=np.float32).reshape(20, 2, 1, 1) / 40
Y = np.arange(20)


def split(how: str, n_validation: int = 6, seed: int = 0) -> Split:
    return split_train_validation(X, Y, n_validation, how, np.random.default_rng(seed))


@pytest.mark.parametrize("how", ["random", "first", "last"])
def test_mnist_splits_into_55000_and_5000(mnist: Dataset, how: str) -> None:
    parts = split_train_validation(mnist.x_train, mnist.y_train, how=how, rng=np.random.default_rng(0))
    assert parts.x_train.shape == (55_000, 28, 28, 1)
    assert parts.x_validation.shape == (5_000, 28, 28, 1)
    assert (parts.x_train.dtype, parts.y_train.dtype) == (np.dtype(np.float32), np.dtype(np.int64))
    counts = np.bincount(parts.y_train) + np.bincount(parts.y_validation)
    np.testing.assert_array_equal(counts, np.bincount(mnist.y_train))


@pytest.mark.parametrize("how", ["random", "first", "last"])
@pytest.mark.parametrize("n_validation", [0, 1, 6, 19])
def test_the_parts_are_disjoint_complete_and_in_order(how: str, n_validation: int) -> None:
    parts = split(how, n_validation)
    assert len(parts.y_validation) == n_validation
    assert sorted([*parts.y_train, *parts.y_validation]) == list(range(20))
    assert (np.diff(parts.y_train) > 0).all()
    np.testing.assert_array_equal(parts.x_train, X[parts.y_train])
    np.testing.assert_array_equal(parts.x_validation, X[parts.y_validation])


def test_first_and_last_take_the_ends() -> None:
    assert split("first").y_validation.tolist() == [0, 1, 2, 3, 4, 5]
    assert split("last").y_validation.tolist() == [14, 15, 16, 17, 18, 19]


def test_a_random_split_depends_on_the_generator_alone() -> None:
    np.random.seed(1)  # noqa: NPY002  the very thing that must not matter
    one = split("random", seed=3).y_validation
    np.random.seed(2)  # noqa: NPY002
    np.testing.assert_array_equal(one, split("random", seed=3).y_validation)
    assert one.tolist() != split("random", seed=4).y_validation.tolist()


@pytest.mark.parametrize("how", ["random", "first", "last"])
def test_the_parts_are_read_only_and_the_whole_stays_as_it_was(how: str) -> None:
    parts = split(how)
    for part in (parts.x_train, parts.y_train, parts.x_validation, parts.y_validation):
        assert not part.flags.writeable
    assert X.flags.writeable


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"how": "middle"}, "how must be 'random', 'first' or 'last'; got 'middle'"),
        ({"how": "random"}, "how='random' needs rng, a numpy.random.Generator; got None"),
        ({"how": "first", "n_validation": 20}, r"n_validation must lie in 0\.\.19 for 20 images; got 20"),
        ({"how": "first", "n_validation": -1}, r"n_validation must lie in 0\.\.19"),
        ({"how": "first", "y": Y[1:]}, "equally many; got 20 images and 19 labels"),
    ],
)
def test_bad_arguments_of_the_split(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split_train_validation(**{"x": X, "y": Y, "n_validation": 6} | arguments)  # type: ignore[arg-type]


def test_a_fraction_is_no_number_of_images() -> None:
    with pytest.raises(TypeError, match=r"n_validation must be an integer; got 0\.1"):
        split_train_validation(X, Y, 0.1, "first")  # type: ignore[arg-type]


@settings(deadline=None)
@given(st.integers(0, 50), st.integers(1, 60), st.booleans())
def test_batches_cover_every_index_once(n: int, size: int, shuffled: bool) -> None:
    indices = list(batches(n, size, np.random.default_rng(0) if shuffled else None))
    assert [len(batch) for batch in indices] == [size] * (n // size) + [n % size] * (n % size > 0)
    assert sorted(i for batch in indices for i in batch) == list(range(n))


def test_batches_without_a_generator_are_in_order() -> None:
    assert [batch.tolist() for batch in batches(5, 2)] == [[0, 1], [2, 3], [4]]


def test_shuffled_batches_repeat_with_the_seed_and_change_with_the_epoch() -> None:
    rng, again = np.random.default_rng(0), np.random.default_rng(0)
    first, second = (np.concatenate(list(batches(100, 7, rng))) for _ in range(2))
    np.testing.assert_array_equal(first, np.concatenate(list(batches(100, 7, again))))
    assert first.tolist() != second.tolist()


@pytest.mark.parametrize(("n", "size", "message"), [(5, 0, "at least 1; got 0"), (-1, 2, "at least 0; got -1")])
def test_bad_batches_are_refused_at_the_call(n: int, size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        batches(n, size)


def test_random_images_keep_their_labels_and_the_first_of_more_are_the_same() -> None:
    x = np.arange(50.0)
    few, many = (random_images(x, 2 * x, n, np.random.default_rng(3)) for n in (10, 50))
    np.testing.assert_array_equal(few[1], 2 * few[0])
    np.testing.assert_array_equal(few[0], many[0][:10])
    assert sorted(many[0]) == x.tolist()
    assert many[0].tolist() != x.tolist()


@pytest.mark.parametrize(("n", "labels", "message"), [(0, 5, "got 0"), (6, 5, "got 6"), (2, 4, "equally many")])
def test_random_images_refuse(n: int, labels: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        random_images(np.zeros(5), np.zeros(labels), n, np.random.default_rng(0))
