"""When a training stops and which epoch is judged: a history can be read under every rule afterwards."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from minidbp.training.protocol import CHOICES, Protocol

RULES = [(stop, keep) for stop in CHOICES["stop_rule"] for keep in CHOICES["keep"]]


def stops(validation: Sequence[float], protocol: Protocol) -> bool:
    """Whether training ends after epochs with these validation accuracies in percent.

    The paper's rule: after min_epochs, stop when validation accuracy changes by less than the tolerance.
    """
    return len(validation) >= protocol.max_epochs or _rule_holds(validation, protocol)


def judged_epoch(validation: Sequence[float], protocol: Protocol, stop_rule: str, keep: str) -> int | None:
    """The epoch, from 1, that would be judged under other rules; None if the training ended before that rule holds.

    Under the protocol's own stop rule, and under "none", training ends where it ended.

    Args:
        validation: the accuracy of each epoch of a training by this protocol, in percent.
    """
    other, last = replace(protocol, stop_rule=stop_rule), len(validation)
    if stop_rule not in (protocol.stop_rule, "none"):
        ends = [k for k in range(1, last + 1) if _rule_holds(validation[:k], other)]
        if not ends:
            return None
        last = ends[0]
    return last if keep == "last" else 1 + int(np.argmax(validation[:last]))


def _rule_holds(validation: Sequence[float], protocol: Protocol) -> bool:
    if protocol.stop_rule == "none" or len(validation) < max(2, protocol.min_epochs + 1):
        return False
    change = (validation[-1] - validation[-2]) / 100
    return (abs(change) if protocol.stop_rule == "absolute" else change) < protocol.stop_tolerance
