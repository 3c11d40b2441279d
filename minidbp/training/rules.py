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


def last_epoch(validation: Sequence[float], protocol: Protocol, stop_rule: str) -> int | None:
    """The epoch, from 1, after which this stop rule would end a training that `protocol` ended after the last one.

    Under the protocol's own rule, and under "none", training ends where it ended. Another rule ends it at the first
    epoch at which it holds. If it never holds, training ends at max_epochs, provided that it got there under a stop
    rule. Otherwise the result is None, because nobody knows how long it would train.

    Args:
        validation: accuracy after each epoch, in percent.
    """
    if stop_rule in (protocol.stop_rule, "none"):
        return len(validation)
    other = replace(protocol, stop_rule=stop_rule)
    ends = (k for k in range(1, len(validation) + 1) if _rule_holds(validation[:k], other))
    at_limit = protocol.stop_rule != "none" and len(validation) >= protocol.max_epochs
    return next(ends, len(validation) if at_limit else None)


def kept_epoch(validation: Sequence[float], keep: str) -> int:
    """The epoch, from 1, whose weights are judged after a training with these validation accuracies."""
    return len(validation) if keep == "last" else 1 + int(np.argmax(validation))


def _rule_holds(validation: Sequence[float], protocol: Protocol) -> bool:
    if protocol.stop_rule == "none" or len(validation) < max(2, protocol.min_epochs + 1):
        return False
    change = (validation[-1] - validation[-2]) / 100
    return (abs(change) if protocol.stop_rule == "absolute" else change) < protocol.stop_tolerance
