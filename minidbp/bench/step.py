"""The time of one training step, and what share of the processor's arithmetic it uses."""

import statistics
import sys
from typing import Any

from minidbp import kernels
from minidbp.bench.contention import Contention
from minidbp.bench.counts import active_shares, step_gflop
from minidbp.bench.gemm import blas_name, gemm_gflops_per_s
from minidbp.bench.setting import Done, Trainer, batches_of, nothing
from minidbp.data import Mnist
from minidbp.nn import N_CLASSES, build_model
from minidbp.nn.models import check_model_name
from minidbp.robust import PENALTIES
from minidbp.robust.objective import check_lambda
from minidbp.training import Protocol, workers

NO_PENALTY = "none"


def protocol_of(penalty: str, batch: int) -> Protocol:
    """The paper's protocol with this penalty and batch size.  Raises ValueError for an unknown penalty."""
    if penalty not in (*PENALTIES, NO_PENALTY):
        raise ValueError(f"the penalty must be one of {', '.join((*PENALTIES, NO_PENALTY))}; got {penalty!r}")
    return Protocol(batch_size=batch) if penalty == NO_PENALTY else Protocol(batch_size=batch, penalty=penalty)


def check(name: str, penalty: str, lam: float, batch: int = 128) -> None:
    """Raise ValueError for an unknown model or penalty, or a lambda that means nothing."""
    check_model_name(name)
    check_lambda(lam)
    protocol_of(penalty, batch)


def time_step(
    name: str,
    penalty: str,
    lam: float,
    batch: int,
    steps: int,
    warm: int,
    threads: int | None,
    mnist: Mnist,
    seed: int = 0,
    done: Done = nothing,
) -> dict[str, Any]:
    """Train model `name` for `warm` steps, then for `steps` that are timed; done() is called after each.

    `penalty` is one of PENALTIES, or "none", which is lambda 0.  GFLOP count every unit, also those that are off;
    `efficiency` is their rate over that of a large matrix product on as many threads.  `others_share` is what other
    processes took of the machine meanwhile; `peak_rss_mb` is the most memory that the process has had.  Raises
    ValueError for an unknown model or penalty, and for a batch that MNIST does not fill.
    """
    protocol = protocol_of(penalty, batch)
    if penalty == NO_PENALTY or lam == 0:
        penalty, lam = NO_PENALTY, 0.0
    rows = {NO_PENALTY: 0, "jacobian_l1": N_CLASSES}.get(penalty, 1)
    batches, model = batches_of(mnist, batch), build_model(name, seed)
    kernels.warm_up()
    with workers(threads) as team:
        trainer = Trainer(model, lam, protocol, batches, team)
        trainer.seconds(warm, done)
        contention = Contention()
        seconds = trainer.seconds(steps, done)
        others, memory = contention.share(), peak_rss_mb()
        threads = team.threads
    median = statistics.median(seconds)
    gflop, peak = step_gflop(model, mnist.x_train[0], batch, rows), gemm_gflops_per_s(threads)
    return {
        "model": name,
        "penalty": penalty,
        "lam": lam,
        "batch": batch,
        "threads": threads,
        "blas": blas_name(),
        "warm": warm,
        "steps": steps,
        "median_ms": 1e3 * median,
        "min_ms": 1e3 * min(seconds),
        "active_share": active_shares(model, mnist.x_test[:512]),
        "gflop": gflop,
        "gflops_per_s": gflop / median,
        "gemm_gflops_per_s": peak,
        "efficiency": gflop / median / peak,
        "peak_rss_mb": memory,
        "others_share": others,
    }


def peak_rss_mb() -> float | None:
    """The most memory that this process has had so far, in MB; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest / (1e6 if sys.platform == "darwin" else 1e3)  # macOS counts bytes, Linux kilobytes
