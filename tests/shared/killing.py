"""Kill a sweep with SIGKILL at random moments, start it again, and see that nothing is lost, repeated or half-written.

    python tests/shared/killing.py 50

Small sweeps (see tiny_sweep.py), each killed until it comes to its end, two side by side, as many as so many kills
take. A moment is anywhere in the life of the process: its imports, the runs, the report. Sometimes there are two
worker processes, and the kill is for the process that started them or for one of them. After every kill each file that
is there must load, and those of finished runs be the same files as before; at the end the table, every run's result
and its weights must have the bits of a sweep that nobody disturbed, and nothing else may be left.
"""

import collections
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib.image
import numpy as np
import psutil
from tiny_sweep import PATIENCE, assert_same, descendants, files_in, started, table2, until, workers_of

from minidbp.nn import load_model
from minidbp.sweeps.runs import find
from minidbp.sweeps.sweep import load
from minidbp.training import TrainingState, load_checkpoint

LANES = 2  # sweeps side by side
EARLY = 0.1  # of the kills do not wait for the first file
PLACES = ((), (), ("--workers", "2"))  # one of them at random
Counts = collections.Counter[str]


def torment(kills: int, seed: int, folder: Path) -> Counts:
    """Kill so many times; how many of the kills fell when, and how many sweeps came to their end.  AssertionError."""
    alone = folder / "alone"
    with started(table2(alone)) as sweep:
        until(alone.exists, sweep)
        begun = time.monotonic()
        _, errors = sweep.communicate(timeout=PATIENCE)
    assert sweep.returncode == 0, errors
    life = time.monotonic() - begun
    shares = [kills // LANES + (lane < kills % LANES) for lane in range(LANES)]
    with ThreadPoolExecutor(LANES) as pool:
        lanes = [
            pool.submit(_lane, share, np.random.default_rng([seed, lane]), folder / str(lane), alone, life)
            for lane, share in enumerate(shares)
        ]
        return sum((lane.result() for lane in lanes), Counts())


def _lane(kills: int, rng: np.random.Generator, folder: Path, alone: Path, life: float) -> Counts:
    counts = Counts()
    while kills > counts["kills"]:
        out, kept = folder / str(counts["sweeps"]), {}
        while not _one_life(out, rng, life, counts, last=counts["kills"] == kills):
            kept = _check(out, kept)
        _check(out, kept)
        assert_same(out, alone)
        counts["sweeps"] += 1
    return counts


def _one_life(out: Path, rng: np.random.Generator, life: float, counts: Counts, last: bool) -> bool:
    """Start the sweep, kill it at some moment or not at all (`last`); whether it came to its end.

    The moment is at random in its life from the first file on, which takes about `life` seconds, or in its imports.
    """
    place = PLACES[rng.integers(len(PLACES))]
    delay, whom, early = rng.uniform(0, life), rng.integers(3), rng.random() < EARLY
    before = _last_change(out)
    with started(table2(out, *place)) as sweep:
        if not early:
            until(lambda: _last_change(out) != before, sweep)
        try:
            _, errors = sweep.communicate(timeout=PATIENCE if last else delay)
        except subprocess.TimeoutExpired:
            family, workers = descendants(sweep), workers_of(sweep)
            counts["kills"] += 1
            counts[_phase(out)] += 1
            if workers and whom < len(workers):  # the sweep goes on without it
                counts["of a worker"] += 1
                workers[whom].kill()
                _, errors = sweep.communicate(timeout=PATIENCE)
            else:
                sweep.kill()
                sweep.communicate()
                _, alive = psutil.wait_procs(family, timeout=60)
                assert not alive, f"workers outlive their parent: {alive}"
                return False
    assert sweep.returncode == 0, errors
    return True


def _last_change(out: Path) -> int:
    return out.stat().st_mtime_ns if out.exists() else 0


def _phase(out: Path) -> str:
    if not (out / "sweep.json").exists():
        return "before it began"
    done = [run for run in load(out).runs if (out / "runs" / f"{run.name}.json").exists()]
    return "in the report" if len(done) == len(load(out).runs) else "in training"


def _check(out: Path, kept: dict[str, tuple]) -> dict[str, tuple]:
    """Every file loads; those of finished runs are the same as in `kept`: (inode, time, SHA-256) by name."""
    for name in files_in(out):
        path = out / name
        if name.endswith(".json"):
            assert isinstance(json.loads(path.read_text()), dict)
        elif name.endswith(".png"):
            assert matplotlib.image.imread(path).std() > 0
        elif name.endswith((".md", ".csv", ".html")):
            assert path.read_text().endswith("\n")
        elif name.endswith(".safetensors") and not name.endswith(".checkpoint.safetensors"):
            load_model(path)
        else:
            assert name.endswith((".checkpoint.safetensors", ".part", ".lock")), name
    if not (out / "sweep.json").exists():
        return {}
    found = {}
    for run in load(out).runs:
        checkpoint = out / "runs" / f"{run.name}.checkpoint.safetensors"
        if checkpoint.exists():
            state = TrainingState(run.build(), run.lam, run.protocol, run.generator(2))
            load_checkpoint(checkpoint, state, run.identity())
            assert 1 <= len(state.history) <= run.protocol.max_epochs
        if find(run, out / "runs"):
            for end in ".json", ".safetensors":
                path = out / "runs" / (run.name + end)
                stat = path.stat()
                found[path.name] = stat.st_ino, stat.st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest()
    assert {name: found.get(name) for name in kept} == kept, "a finished run was lost or trained again"
    return found


def as_text(counts: Counts) -> str:
    """'50 kills (...) over 9 sweeps'."""
    kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(counts.items()) if kind not in ("kills", "sweeps"))
    return f"{counts['kills']} kills ({kinds}) over {counts['sweeps']} sweeps"


if __name__ == "__main__":
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        text = as_text(torment(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0, Path(scratch)))
    print(f"{text}, in {time.monotonic() - begun:.0f} s: nothing lost, nothing repeated, every file whole")
