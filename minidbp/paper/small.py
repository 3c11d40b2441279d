"""The small presets' protocol: the paper's on fewer images, for a fixed number of epochs."""

from typing import Any

from minidbp.training import Protocol


def small(epochs: int, n_train: int, batch_size: int, n_test: int, n_pgd: int, **rest: Any) -> Protocol:
    """Smaller batches make more steps of fewer images; PGD takes fewer and longer steps, on fewer images.

    No rule looks at the validation images, so 1,000 tell enough.
    """
    return Protocol(
        n_validation=1000, stop_rule="none", max_epochs=epochs, n_train=n_train, batch_size=batch_size, n_test=n_test,
        n_pgd=n_pgd, pgd_steps=20, pgd_step=0.03, **rest,
    )  # fmt: skip
