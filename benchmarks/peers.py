"""minidbp beside PyTorch and JAX: the same models, weights, batches and steps, timed in turns in one process.

    env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE python benchmarks/peers.py --json out/peers.json

(`pip install -e ".[bench]"` first; the two variables, where a machine sets them, hold NumPy's OpenBLAS back and leave
its peers alone.)  What is timed, for each of the paper's models:

    plain      a training step: cross-entropy with label smoothing, Adam
    exact      a training step of eq. 3: cross-entropy + lambda * mean |J|, J the Jacobian (N, 10, 28, 28) of the logits
    evaluate   accuracy on the 10,000 test images
    fgsm       accuracy on them under FGSM
    processes  minidbp alone: two single-thread trainings at once against one

Everyone begins from weights that minidbp has trained for --warm steps of eq. 3, as it matters for speed how many ReLUs
are on.  First all must agree on the loss and its gradients (or on how many images are right): if not, nothing is timed.
Each formulation of a peer is then tried, and its best goes on: minidbp and the peer take turns, and what is reported is
the peer's time over minidbp's in each pair of turns, as median and quartiles.  JAX's compilation is not counted.

Measure on an idle machine: PyTorch's threads wait for each other in a busy loop, and another process makes its steps
ten times as long, minidbp's less so.  How much others took is measured too, and told where it is too much;
with --patience SECONDS, a pair of turns that others disturbed is measured again.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import page
from rich.console import Console
from rich.table import Table

from minidbp import kernels
from minidbp.bench.machine import MAX_OTHERS_SHARE, Contention, blas_name, contention_warning, gemm_gflops_per_s
from minidbp.bench.step import Trainer, active_shares, batches_of, step_gflop
from minidbp.data import Dataset, load_mnist
from minidbp.files.atomic import write_text
from minidbp.nn import N_CLASSES, N_PARAMETERS, Sequential, build_model
from minidbp.training import (
    Protocol as Settings,
)
from minidbp.training import (
    Workers,
    accuracy,
    available_cores,
    batch_gradient,
    correct_under_fgsm,
    percent,
    workers,
)
from minidbp.training.environment import environment

WHAT = ("plain", "exact", "evaluate", "fgsm", "processes")
PEERS = ("torch", "jax")
WARM = {"A": 100, "B": 50, "C": 300}  # steps before timing, if --warm does not say
BATCHES = (250, 1000)  # of test images, for the peers
TURN = 0.25  # seconds that a turn takes at least
BUDGET = 30.0  # seconds of turns for one peer, beyond which there are fewer pairs
N_BATCHES = 64  # that a step meets in turn, each kept in every peer's form
SETTLE = 0.05  # seconds between turns, in which the other's threads stop spinning

messages = Console(stderr=True, highlight=False)


class Contestant(Protocol):
    """What the three have in common."""

    name: str
    variant: str

    def load(self, x: np.ndarray, y: np.ndarray) -> tuple[Any, Any]: ...
    def step(self, x: Any, y: Any) -> None: ...
    def gradient(self, x: Any, y: Any) -> tuple[float, list[np.ndarray]]: ...


@dataclass
class Entry:
    """A formulation that may be timed: `run` does the work once."""

    name: str
    variant: str
    run: Callable[[], None]


@dataclass
class Setup:
    """What all measurements share."""

    data: Path | None
    mnist: Dataset
    pool: Workers
    settings: Settings
    lam: float
    pairs: int
    peers: tuple[str, ...]
    slow_peers: bool
    patience: float


def made_by(arguments: list[str]) -> str:
    """The command without the files it wrote, which are this machine's."""
    files = "--json", "--page"
    kept = [a for a, before in zip(arguments, ["", *arguments], strict=False) if a not in files and before not in files]
    return " ".join(["python benchmarks/peers.py", *kept])


def copy_of(name: str, model: Sequential) -> Sequential:
    """A model of its own with the same weights."""
    twin = build_model(name)
    for p, q in zip(twin.parameters(), model.parameters(), strict=True):
        p.data = q.data
    return twin


def trainer(name: str, model: Sequential, lam: float, setup: Setup) -> Trainer:
    batches = batches_of(setup.mnist, setup.settings.batch_size)[:N_BATCHES]
    return Trainer(copy_of(name, model), lam, setup.settings, batches, setup.pool)


# -- who takes part ---------------------------------------------------------------------------------------------------


def contestants(model: Sequential, lam: float, setup: Setup) -> list[Contestant]:
    """The peers' formulations of a training step."""
    convolutional = any(p.data.ndim == 4 for p in model.parameters())
    found: list[Contestant] = []
    if "torch" in setup.peers:
        from torch_peer import TorchPeer

        for jacobian in ("loop", "batched", "expanded") if lam else ("loop",):
            for channels_last in (False, True)[: 1 + convolutional]:
                found.append(TorchPeer(model, lam, setup.settings, jacobian, channels_last))
    if "jax" in setup.peers:
        from jax_peer import JaxPeer

        if not (lam and convolutional):
            found += [
                JaxPeer(model, lam, setup.settings, jacobian) for jacobian in (("vmap", "loop") if lam else ("",))
            ]
        elif setup.slow_peers:  # seconds a step: once is enough
            found.append(JaxPeer(model, lam, setup.settings, "vmap"))
    return found


def step_entries(name: str, model: Sequential, lam: float, setup: Setup) -> list[Entry]:
    """minidbp's step and its peers', after all have given the same loss and gradients."""
    ours = trainer(name, model, lam, setup)
    x, y = ours.batches[0]
    found = batch_gradient(ours.model, x, y, lam, setup.settings, setup.pool)
    entries = [Entry("minidbp", "", lambda: ours.step())]
    for peer in contestants(model, lam, setup):
        messages.print(f"  {peer.name} ({peer.variant}) against minidbp's loss and gradients")
        loss, gradients = peer.gradient(*peer.load(x, y))
        agree(f"{peer.name} ({peer.variant})", loss, gradients, found.loss, found.gradients)
        entries.append(Entry(peer.name, peer.variant, cycle(peer, ours.batches)))
    return entries


def cycle(peer: Contestant, batches: Sequence[tuple[np.ndarray, np.ndarray]]) -> Callable[[], None]:
    """The peer's step on each batch in turn."""
    loaded, i = [peer.load(*batch) for batch in batches], 0

    def run() -> None:
        nonlocal i
        peer.step(*loaded[i % len(loaded)])
        i += 1

    return run


def agree(who: str, loss: float, gradients: Sequence[np.ndarray], our_loss: float, ours: Sequence[np.ndarray]) -> None:
    """Stop if a loss or a gradient differs by more than float32 and a few flipped signs explain."""
    if abs(loss - our_loss) > 1e-4 * abs(our_loss):
        sys.exit(f"{who} has the loss {loss:.7g}, minidbp {our_loss:.7g}: nothing was timed")
    for i, (g, h) in enumerate(zip(gradients, ours, strict=True)):
        error = np.linalg.norm(g - h) / max(np.linalg.norm(h), 1e-12)
        if g.shape != h.shape or not error < 1e-3:
            sys.exit(f"{who} and minidbp differ by {error:.1e} in the gradient of parameter {i}: nothing was timed")


def judging_entries(model: Sequential, eps: float, setup: Setup) -> list[Entry]:
    """minidbp's accuracy, clean (eps 0) or under FGSM, and its peers', after all have counted the same."""
    x, y = setup.mnist.x_test, setup.mnist.y_test

    def ours() -> float:
        if eps:
            return percent(correct_under_fgsm(model, x, y, setup.settings, setup.pool))
        return accuracy(model, x, y, setup.pool)

    expected = ours()
    entries = [Entry("minidbp", "", lambda: void(ours()))]
    for peer in contestants(model, 0.0, setup):
        for size in BATCHES:
            loaded = [peer.load(x[i : i + size], y[i : i + size]) for i in range(0, len(x), size)]

            def theirs(peer: Any = peer, loaded: list = loaded) -> float:
                return 100 * sum(peer.right(a, b, eps) for a, b in loaded) / len(x)

            if abs(theirs() - expected) > 0.2:
                sys.exit(f"{peer.name} counts {theirs():.2f}% right, minidbp {expected:.2f}%: nothing was timed")
            entries.append(Entry(peer.name, f"{peer.variant}, batch {size}", lambda f=theirs: void(f())))
    return entries


def void(_: object) -> None:
    """For what is called for its time, not for its result."""


# -- the clock --------------------------------------------------------------------------------------------------------


def turn(entry: Entry, seconds: float) -> float:
    """Seconds for one run of an entry that takes about `seconds`: the mean over as many as a turn needs."""
    time.sleep(SETTLE)
    if seconds < TURN:
        entry.run()  # the other contestant has emptied the caches
    repeats = max(1, min(50, round(TURN / seconds)))
    started = time.perf_counter()
    for _ in range(repeats):
        entry.run()
    return (time.perf_counter() - started) / repeats


def undisturbed(measure: Callable[[], Any], patience: float) -> tuple[Any, float]:
    """What `measure` gives, and the share of the machine that others took: again for `patience` seconds if too much."""
    end = time.monotonic() + patience
    while True:
        contention, found = Contention(), measure()
        others = contention.share() or 0.0
        if others <= MAX_OTHERS_SHARE or time.monotonic() > end:
            return found, others
        time.sleep(min(1.0, patience))


def first_time(entry: Entry, best: float) -> float:
    """Seconds for one run, warmed up; of a formulation three times slower than the best so far, the first run's."""
    first = once(entry)
    if first > 3 * best and entry.name != "jax":  # JAX's first run compiles
        return first
    seconds = once(entry)
    return turn(entry, seconds) if seconds < 1 else seconds


def first_times(entries: Sequence[Entry], patience: float) -> list[float]:
    """Seconds for one run of each entry."""
    found: list[float] = []
    for entry in entries:
        best = min((t for t, e in zip(found, entries, strict=False) if e.name == entry.name), default=np.inf)
        seconds, _ = undisturbed(lambda e=entry, t=best: first_time(e, t), patience)
        found.append(seconds)
        messages.print(f"  {entry.name} {entry.variant}: {1e3 * seconds:.1f} ms".replace(" :", ":"))
    return found


def once(entry: Entry) -> float:
    """Seconds of a single run."""
    started = time.perf_counter()
    entry.run()
    return time.perf_counter() - started


def compare(entries: Sequence[Entry], pairs: int, patience: float = 0.0) -> dict[str, Any]:
    """minidbp (the first entry) against the best formulation of each peer, in pairs of turns."""
    seconds = first_times(entries, patience)
    ours, peers, times, others = entries[0], {}, [], []
    for name in dict.fromkeys(entry.name for entry in entries[1:]):
        mine = [(t, e) for t, e in zip(seconds, entries, strict=True) if e.name == name]
        best, entry = min(mine, key=lambda pair: pair[0])
        n = max(1, min(pairs, int(BUDGET / (best + seconds[0]))))

        def pair(entry: Entry = entry, best: float = best) -> tuple[float, float]:
            return turn(ours, seconds[0]), turn(entry, best)

        measured, disturbed = zip(*(undisturbed(pair, patience) for _ in range(n)), strict=True)
        others += disturbed
        times += [a for a, _ in measured]
        peers[name] = {
            "variant": entry.variant,
            "ms": 1e3 * statistics.median(b for _, b in measured),
            "ratio": [float(q) for q in np.percentile([b / a for a, b in measured], (25, 50, 75))],
            "pairs": n,
            "tried_ms": {e.variant: 1e3 * t for t, e in mine},
        }
    times = times or [turn(ours, seconds[0]) for _ in range(pairs)]
    share = statistics.fmean(others or [0.0])
    if said := contention_warning(share):
        messages.print(f"  {said}", style="yellow")
    return {
        "minidbp_ms": 1e3 * statistics.median(times),
        "minidbp_min_ms": 1e3 * min(times),
        "peers": peers,
        "others_share": share,
    }


# -- two trainings at once --------------------------------------------------------------------------------------------


def serve(pipe: Any, name: str, arrays: list[np.ndarray], lam: float, settings: Settings, data: Path | None) -> None:
    """In a process of its own: train for as many steps as the pipe asks, and answer with the seconds."""
    model = build_model(name)
    for parameter, array in zip(model.parameters(), arrays, strict=True):
        parameter.data = array
    with workers(1) as pool:
        mine = Trainer(model, lam, settings, batches_of(load_mnist(data), settings.batch_size), pool)
        mine.seconds(2)
        pipe.send(0.0)
        while steps := pipe.recv():
            started = time.perf_counter()
            mine.seconds(steps)
            pipe.send(time.perf_counter() - started)


def processes(name: str, model: Sequential, setup: Setup) -> dict[str, Any]:
    """Training steps a second of two single-thread processes at once over those of one alone."""
    arrays = [p.data for p in model.parameters()]
    context, pipes, started = get_context("spawn"), [], []
    for _ in range(2):
        here, there = context.Pipe()
        process = context.Process(target=serve, args=(there, name, arrays, setup.lam, setup.settings, setup.data))
        process.start()
        pipes.append(here)
        started.append(process)

    def ask(asked: Sequence[Any], steps: int) -> float:
        for pipe in asked:
            pipe.send(steps)
        return max(pipe.recv() for pipe in asked)

    for pipe in pipes:
        pipe.recv()
    steps = max(3, round(1.0 / ask(pipes[:1], 1)))
    ratios, alone = [], []
    for i in range(max(3, setup.pairs // 2)):
        alone.append(ask([pipes[i % 2]], steps))
        ratios.append(2 * alone[-1] / ask(pipes, steps))
    for pipe, process in zip(pipes, started, strict=True):
        pipe.send(0)
        process.join()
    return {
        "one_ms": 1e3 * statistics.median(alone) / steps,
        "throughput": [float(q) for q in np.percentile(ratios, (25, 50, 75))],
        "pairs": len(ratios),
    }


# -- the whole --------------------------------------------------------------------------------------------------------


def measure_model(name: str, what: Sequence[str], warm: int | None, setup: Setup) -> dict[str, Any]:
    """Everything that was asked for about one model."""
    steps = WARM[name] if warm is None else warm
    messages.print(f"model {name}: {steps} steps of training at lambda {setup.lam:g}")
    first = trainer(name, build_model(name), setup.lam, setup)
    first.seconds(steps)
    model, image = first.model, setup.mnist.x_test[0]
    found: dict[str, Any] = {
        "warm": steps,
        "active_share": active_shares(model, setup.mnist.x_test[:512]),
        "gflop": {
            "plain": step_gflop(model, image, setup.settings.batch_size, 0),
            "exact": step_gflop(model, image, setup.settings.batch_size, N_CLASSES),
        },
    }
    for task in what:
        messages.print(f"model {name}: {task}")
        if task == "processes":
            found[task] = processes(name, model, setup)
        elif task in ("plain", "exact"):
            entries = step_entries(name, model, setup.lam if task == "exact" else 0.0, setup)
            found[task] = compare(entries, setup.pairs, setup.patience)
        else:
            entries = judging_entries(model, setup.settings.eps if task == "fgsm" else 0.0, setup)
            found[task] = compare(entries, setup.pairs, setup.patience)
    return found


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All that the options ask for; kept as JSON, if they say where, after each model."""
    found_blas, versions = blas_name(), {}  # NumPy's: PyTorch and JAX bring their own
    if "torch" in options.peers:
        import torch

        torch.set_num_threads(options.threads)
        versions["torch"] = torch.__version__
    if "jax" in options.peers:
        import jax

        versions["jax"] = jax.__version__
    rates = {
        str(n): undisturbed(lambda n=n: gemm_gflops_per_s(n), options.patience)[0] for n in sorted({1, options.threads})
    }
    kernels.warm_up()
    with workers(options.threads) as pool:
        settings = Settings(batch_size=options.batch)
        setup = Setup(
            options.data, load_mnist(options.data), pool, settings, options.lam, options.pairs, options.peers,
            options.slow_peers, options.patience,
        )  # fmt: skip
        results: dict[str, Any] = {
            "environment": asdict(environment()),
            "blas": found_blas,
            "gemm_gflops_per_s": rates,
            "peers": versions,
            "threads": options.threads,
            "batch": options.batch,
            "lam": options.lam,
            "eps": settings.eps,
            "made_by": made_by(sys.argv[1:]),
            "models": {},
        }
        for name in options.models:
            results["models"][name] = measure_model(name, options.what, options.warm, setup)
            keep(results, options.json)  # now, as the next model may take minutes
    return results


def keep(results: dict[str, Any], path: Path | None) -> None:
    """Write the results to `path`, if there is one."""
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(results, indent=1) + "\n")


def words(choices: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """An argparse type: a list of some of `choices` with commas between."""

    def parse(text: str) -> tuple[str, ...]:
        found = tuple(text.split(",")) if text else ()
        for word in found:
            if word not in choices:
                raise argparse.ArgumentTypeError(f"{word!r} is none of {', '.join(choices)}")
        return found

    return parse


def at_least(least: int) -> Callable[[str], int]:
    """An argparse type: a whole number from `least` up."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise argparse.ArgumentTypeError(f"must be a whole number of at least {least}; got {text!r}")
        return number

    return parse


def arguments() -> argparse.Namespace:
    """The options, checked: argparse says in one sentence what is wrong, with exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    models = tuple(N_PARAMETERS)
    parser.add_argument("--models", type=words(models), default=models, help="such as A,C; all by default")
    parser.add_argument("--what", type=words(WHAT), default=WHAT, help=f"of {','.join(WHAT)}; all by default")
    parser.add_argument("--peers", type=words(PEERS), default=PEERS, help="torch,jax, or one, or '' for neither")
    parser.add_argument("--pairs", type=at_least(2), default=9, help="pairs of turns for each peer")
    parser.add_argument("--threads", type=at_least(1), default=available_cores())
    parser.add_argument("--batch", type=at_least(1), default=128)
    parser.add_argument("--lambda", type=float, default=10.0, dest="lam", help="the weight of the penalty")
    parser.add_argument("--warm", type=at_least(0), help=f"training steps before timing; by default {WARM}")
    parser.add_argument("--patience", type=float, default=0.0, help="seconds to repeat a turn that others disturb")
    parser.add_argument("--slow-peers", action="store_true", help="JAX's exact step on A and B too: minutes")
    parser.add_argument("--data", type=Path, help="the folder with MNIST's four files")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--read", type=Path, help="measure nothing: take the figures from this file")
    parser.add_argument("--page", type=Path, help="write the tables into this Markdown page, between its marks")
    options = parser.parse_args()
    if "jax" in options.peers and options.threads != available_cores() and not options.read:
        parser.error(f"JAX uses all {available_cores()} cores of this process: give it fewer with taskset")
    if options.page and not page.has_place(options.page):
        parser.error(f"{options.page} needs the lines {page.BEGIN} and {page.END}")
    if not options.lam > 0:
        parser.error(f"--lambda must be a number above 0; got {options.lam:g}")
    return options


def show(results: dict[str, Any]) -> None:
    """The tables on the screen."""
    console = Console()
    for title, header, rows in page.tables(results):
        table = Table(*header, title=title)
        for row in rows:
            table.add_row(*row)
        console.print(table)


def main() -> None:
    """Measure (or read), show, write the page."""
    options = arguments()
    results = json.loads(options.read.read_text(encoding="utf-8")) if options.read else measure(options)
    show(results)
    if options.page:
        page.write(options.page, results)


if __name__ == "__main__":
    main()
