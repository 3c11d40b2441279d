"""How much of the processor others took meanwhile: a time measured on a busy machine says little."""

import os
import time
from pathlib import Path

STAT = Path("/proc/stat")
TOO_MUCH = 0.1  # of all cores: beyond that, times are not to be compared


class Contention:
    """From its making on, `share()` is the part of all cores' time that went to other processes."""

    def __init__(self) -> None:
        self._started, self._busy, self._mine = time.perf_counter(), _busy_seconds(), _my_seconds()

    def share(self) -> float | None:
        """0 to 1; None where the system does not say, which is all but Linux."""
        busy, elapsed = _busy_seconds(), time.perf_counter() - self._started
        if busy is None or self._busy is None or not elapsed:
            return None
        others = (busy - self._busy) - (_my_seconds() - self._mine)
        return min(1.0, max(0.0, others / (elapsed * (os.cpu_count() or 1))))


def warning(share: float | None) -> str | None:
    """One sentence, if others took too much."""
    if share is None or share <= TOO_MUCH:
        return None
    return f"other processes took {100 * share:.0f}% of this machine meanwhile: measure again when it is idle"


def _my_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _busy_seconds() -> float | None:
    """Seconds of all cores in which something ran, since the machine began; None where the system does not say."""
    try:
        numbers = [int(n) for n in STAT.read_text().splitlines()[0].split()[1:9]]
    except (OSError, ValueError, IndexError):
        return None
    user, nice, system, _idle, _waiting, irq, softirq, steal = numbers
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
