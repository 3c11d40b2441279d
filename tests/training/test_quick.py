import numpy as np
import pytest

from minidbp import no_grad
from minidbp.training import Protocol, quickly_trained


def test_knows_its_digits_after_some_steps(mnist):
    model = quickly_trained("C", mnist.x_train, mnist.y_train, steps=60)
    with no_grad():
        said = np.argmax(model(mnist.x_test[:500]).data, axis=1)
    assert np.mean(said == mnist.y_test[:500]) > 0.75


def test_same_seed_same_bits_and_the_wider_model_has_the_same_weights(mnist):
    x, y = mnist.x_train[:200], mnist.y_train[:200]
    ticks = []
    first = quickly_trained("C", x, y, steps=2, lam=1.0, seed=3, on_step=lambda: ticks.append(1))
    again = quickly_trained("C", x, y, steps=2, lam=1.0, seed=3, dtype="float64")
    other = quickly_trained("C", x, y, steps=2, lam=1.0, seed=4)
    assert len(ticks) == 2
    for p, q, r in zip(first.parameters(), again.parameters(), other.parameters(), strict=True):
        assert (p.dtype, q.dtype) == (np.float32, np.float64)
        np.testing.assert_array_equal(p.data, q.data)
        assert p.size < 200 or not np.array_equal(p.data, r.data)


def test_the_protocol_counts(mnist):
    x, y = mnist.x_train[:100], mnist.y_train[:100]
    plain, smoothed = (quickly_trained("C", x, y, steps=2, protocol=Protocol(label_smoothing=s)) for s in (0.0, 0.5))
    assert any(
        not np.array_equal(p.data, q.data) for p, q in zip(plain.parameters(), smoothed.parameters(), strict=True)
    )


def test_no_steps_are_refused(mnist):
    with pytest.raises(ValueError, match="steps must be at least 1; got 0"):
        quickly_trained("C", mnist.x_train, mnist.y_train, steps=0)
