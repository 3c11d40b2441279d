"""Send bursts of Ctrl-C, SIGTERM and SIGHUP to sweeps at random moments, and see that they end soon and leave nothing.

    python tests/shared/bursts.py 50

Small sweeps (see tiny_sweep.py), in one process or with two workers, and trainings of one model, each interrupted until
it comes to its end, two side by side. A burst is 1 to 6 signals to the process group, as a terminal sends them, up to
half a second apart: Ctrl-C, sometimes SIGTERM or SIGHUP, sometimes Ctrl-C and then SIGKILL for the command. It falls
anywhere in the life of the process, its imports included. Then the command must end within LIMIT, with the right exit
code and no traceback. No process may be left and no file but checkpoints, and what it says must be what its folder
holds. In the end, every result and all weights must have the bits of an undisturbed command.
"""

import collections
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
from tiny_sweep import PATIENCE, assert_same, descendants, files_in, passing, results_in, started, table2

LANES = 2  # commands side by side
LIMIT = 10.0  # seconds from the first signal to the end of the command
SLACK = 5.0  # seconds more that a machine may take which does much else
GAP = 0.5  # seconds between two signals, at most
PLACES = ("one process", "two workers", "train")
EARLY = 0.15  # of the bursts come during the imports
SHARES = {signal.SIGINT: 0.8, signal.SIGTERM: 0.1, signal.SIGHUP: 0.1}
CODES = {code for number in SHARES for code in (128 + number, -number)}
Counts = collections.Counter[str]


def torment(bursts: int, seed: int, folder: Path, kinds: Sequence[str] = ("sweep", "train")) -> tuple[Counts, float]:
    """Send so many bursts; how many of them fell where, and the longest time to an end.  AssertionError."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    x = np.clip(rng.random((3, 8, 8, 1))[y] + 0.3 * rng.random((60, 8, 8, 1)), 0, 1)
    np.savez(folder / "data.npz", x=x, y=y, x_test=x[:6], y_test=y[:6])
    alone = {kind: folder / "alone" / kind for kind in kinds}
    life = {}
    for kind, out in alone.items():
        begun = time.monotonic()
        with started(_line(kind, out, folder)) as command:
            _, errors = command.communicate(timeout=PATIENCE)
        assert command.returncode == 0, errors
        life[kind] = time.monotonic() - begun
    shares = [bursts // LANES + (lane < bursts % LANES) for lane in range(LANES)]
    with ThreadPoolExecutor(LANES) as pool:
        lanes = [
            pool.submit(_lane, share, np.random.default_rng([seed, lane]), folder / str(lane), alone, life)
            for lane, share in enumerate(shares)
        ]
        found = [lane.result() for lane in lanes]
    return sum((counts for counts, _ in found), Counts()), max(longest for _, longest in found)


def _line(place: str, out: Path, folder: Path) -> list[str]:
    if place == "train":
        options = ["--model", "C", "--epochs", "40", "--data", folder / "data.npz", "--threads", "1", "--out", out]
        return [sys.executable, "-m", "minidbp", "train", *map(str, options)]
    return table2(out, *(("--workers", "2") if place == "two workers" else ()))


def _lane(
    bursts: int, rng: np.random.Generator, folder: Path, alone: dict[str, Path], life: dict[str, float]
) -> tuple[Counts, float]:
    counts, longest = Counts(), 0.0
    while bursts > counts["bursts"]:
        out = folder / str(counts["commands"])
        kind = "train" if "train" in alone and rng.random() < 0.25 else "sweep"
        while True:
            place = kind if kind == "train" else PLACES[rng.integers(2)]
            line = _line(place, out, folder.parent)
            seconds = _one_life(line, out, rng, life[kind], place, counts, last=counts["bursts"] == bursts)
            longest = max(longest, seconds or 0.0)
            if seconds is None:
                break
        _check_end(kind, out, alone[kind])
        counts["commands"] += 1
    return counts, longest


def _one_life(
    line: list[str], out: Path, rng: np.random.Generator, life: float, place: str, counts: Counts, last: bool
) -> float | None:
    """Start the command and interrupt it at some moment, or not at all (`last`).

    Returns:
        The seconds from the first signal to its end; None if it came to its end.
    """
    delay = rng.uniform(0, life) if rng.random() > EARLY else rng.uniform(0, 0.5)
    gaps = rng.uniform(0, GAP, rng.integers(1, 7)) * (rng.random() < 0.8)
    gaps[0] = 0.0
    before = set(files_in(out)) if out.exists() else set()  # of a life that ended with SIGKILL
    with started(line, start_new_session=True) as command:
        _until_it_is_quiet(command)
        try:
            _, errors = command.communicate(timeout=PATIENCE if last else delay)
        except subprocess.TimeoutExpired:
            counts["bursts"] += 1
            counts[f"in {place}"] += 1
            family, begun = descendants(command), time.monotonic()
            numbers = rng.choice([*SHARES], len(gaps), p=[*SHARES.values()])
            killed = rng.random() < 0.1
            for gap, number in zip(gaps, numbers, strict=True):
                time.sleep(gap)
                if command.poll() is None:
                    os.killpg(command.pid, number)
            if killed:
                counts["then SIGKILL"] += 1
                time.sleep(rng.uniform(0, GAP))
                command.kill()
            _, errors = command.communicate(timeout=PATIENCE)
            seconds = time.monotonic() - begun
            _check(command.returncode, errors, out, before, seconds, killed)
            _, alive = psutil.wait_procs(family, timeout=30 if killed else 5)
            assert not alive, f"processes outlive their command: {alive}"
            return None if command.returncode == 0 else seconds
    assert command.returncode == 0, errors
    return None


def _until_it_is_quiet(command: "subprocess.Popen[str]") -> None:
    """Wait until Python itself has started: it catches Ctrl-C from then on, until our first import stops that."""
    seen = False
    while command.poll() is None:
        status = Path(f"/proc/{command.pid}/status").read_text()
        caught = int(re.search(r"SigCgt:\s*(\w+)", status)[1], 16) >> (signal.SIGINT - 1) & 1  # type: ignore[index]
        if seen and not caught:
            return
        seen |= bool(caught)
        time.sleep(0.001)


def _check(code: int, errors: str, out: Path, before: set[str], seconds: float, killed: bool) -> None:
    """What a command that was interrupted has said and left."""
    said = f"exit code {code} after {seconds:.1f} s: {errors}"
    assert "Traceback" not in errors, said
    assert seconds < LIMIT + SLACK, said
    if killed and code == -signal.SIGKILL:
        return
    assert code in (0, *CODES), said
    if code > 0:
        assert errors.splitlines()[-1].startswith("minidbp: stopped"), said
    if code and out.exists():
        left = {name for name in passing(files_in(out)) if not name.endswith(".checkpoint.safetensors")}
        assert left <= before, f"{left - before} left; {said}"
    if match := re.search(r"stopped: (\d+) of 4 runs", errors):
        assert int(match[1]) == len(list((out / "runs").glob("*.json"))), said


def _check_end(kind: str, out: Path, alone: Path) -> None:
    if kind == "sweep":
        assert_same(out, alone)
        return
    assert files_in(out) == files_in(alone)
    assert results_in(out, "") == results_in(alone, "")
    for weights in alone.glob("*.safetensors"):
        assert (out / weights.name).read_bytes() == weights.read_bytes()


def as_text(counts: Counts, longest: float) -> str:
    """'50 bursts (...) over 9 commands; each ended within 8.1 s'."""
    kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(counts.items()) if kind not in ("bursts", "commands"))
    return f"{counts['bursts']} bursts ({kinds}) over {counts['commands']} commands; each ended within {longest:.1f} s"


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # else a background job's commands would ignore Ctrl-C
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        text = as_text(*torment(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0, Path(scratch)))
    print(f"{text}; {time.monotonic() - begun:.0f} s in all: no traceback, nothing left, nothing lost")
