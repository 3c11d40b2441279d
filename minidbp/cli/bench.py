"""`minidbp bench`: how fast minidbp is on this machine, and where the time goes."""

import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from minidbp.cli import inputs, output
from minidbp.cli import options as opt
from minidbp.cli.app import app, command
from minidbp.files.atomic import write_text
from minidbp.training import available_cores

if TYPE_CHECKING:
    from matplotlib.figure import Figure


bench = typer.Typer(help="How fast minidbp is on this machine, and where the time goes.", no_args_is_help=True)
app.add_typer(bench, name="bench")
bench_command = functools.partial(command, to=bench)

Penalty = Annotated[
    str, typer.Option(help="jacobian_l1, summed_jacobian_l1, loss_gradient_l2, loss_gradient_l1 or none.")
]
Out = Annotated[Path | None, opt.path("--out", "A folder for the figures and a picture; none if not given.")]
Batch = Annotated[int, opt.at_least(1, "Images in a batch.")]
Warm = Annotated[int, opt.at_least(0, "Steps of training before those that are timed.")]
Steps = Annotated[int, opt.at_least(1, "How many steps are timed.")]


@bench_command
def bench_step(
    model: opt.ModelName = "C",
    penalty: Penalty = "jacobian_l1",
    lam: opt.Lambda = 10.0,
    batch: Batch = 128,
    steps: Steps = 20,
    warm: Warm = 50,
    seed: opt.Seed = 0,
    threads: opt.Threads = None,
    data: opt.MnistData = None,
    as_json: opt.AsJson = False,
) -> None:
    """Time the step that `minidbp train` repeats, on real images: milliseconds, GFLOP/s, memory.

    The step is timed in the middle of a training, because its speed depends on the share of active ReLUs.
    """
    from minidbp.bench.machine import contention_warning
    from minidbp.bench.step import StepSettings, first_images, time_step

    settings = StepSettings(
        model=model, penalty=penalty, lam=lam, batch=batch, threads=threads, warm=warm, steps=steps, seed=seed
    )
    output.compile_kernels()
    mnist = first_images(inputs.load_mnist(data, "bench step"), batch * (warm + steps))
    with output.progress(f"steps of model {model}", warm + steps) as advance:
        t = time_step(settings, mnist, advance)
    if warning := contention_warning(t.others_share):
        output.say(warning, style="yellow")
    active = ", ".join(f"{share:.2f}" for share in t.active_share)
    memory = f"at most {t.peak_rss_mb:.0f} MB" if t.peak_rss_mb else "memory unknown"
    output.show(
        t,
        as_json,
        f"model {model}, penalty {t.penalty}, lambda {t.lam:g}, batch {batch}, {t.threads} threads, {t.blas}",
        f"median {t.median_ms:.2f} ms, least {t.min_ms:.2f} ms, of {steps} steps after {warm}; {memory}",
        f"{t.gflop:.3g} GFLOP with every unit counted: {t.gflops_per_s:.0f} GFLOP/s, {100 * t.efficiency:.0f}% of the "
        f"{t.gemm_gflops_per_s:.0f} of a large matrix product",
        f"active share of the ReLU layers: {active}",
    )


@bench_command
def bench_gemm(
    size: Annotated[int, opt.at_least(1, "Rows and columns of the matrices.")] = 2048,
    threads: opt.Threads = None,
    as_json: opt.AsJson = False,
) -> None:
    """Time a large float32 matrix product on one thread and on all, and name the BLAS kernel that computes it."""
    from minidbp.bench.machine import blas_name, check_gemm_size, gemm_gflops_per_s

    check_gemm_size(size)
    counts, rates = sorted({1, threads or available_cores()}), {}
    with output.progress("matrix products", len(counts)) as advance:
        for n in counts:
            rates[n] = gemm_gflops_per_s(n, size)
            advance()
    lines = [f"{n} thread{'s' * (n != 1)}: {rate:.1f} GFLOP/s" for n, rate in rates.items()]
    output.show({"blas": blas_name(), "n": size, "gflops_per_s": rates}, as_json, blas_name(), *lines)


@bench_command
def bench_kernels(
    model: opt.ModelName = "C",
    penalty: Penalty = "jacobian_l1",
    lam: opt.Lambda = 10.0,
    batch: Batch = 128,
    steps: Steps = 3,
    warm: Warm = 50,
    out: Out = None,
    data: opt.MnistData = None,
    as_json: opt.AsJson = False,
) -> None:
    """Time each layer's products in each pass of a step, on one thread, against the machine's limits.

    With --out, writes kernels.json and roofline.png there.
    """
    from minidbp.bench import kernel_times
    from minidbp.bench.step import StepSettings

    settings = StepSettings(model=model, penalty=penalty, lam=lam, batch=batch, warm=warm, steps=steps)
    mnist, folder = inputs.load_mnist(data, "bench kernels"), out and inputs.out_folder(out)
    output.compile_kernels()
    with output.progress(f"steps of model {model}", max(1, warm) + steps) as advance:
        times = kernel_times.time_kernels(settings, mnist, advance)
    output.show(times, as_json, output.table(kernel_times.table(times), kernel_times.title(times), left=2))
    if folder:
        _keep(times, kernel_times.roofline(times), folder, "kernels.json", "roofline.png")


@bench_command
def bench_scaling(
    model: opt.ModelName = "C",
    lam: opt.Lambda = 10.0,
    steps: Steps = 5,
    out: Out = None,
    threads: opt.Threads = None,
    data: opt.MnistData = None,
    as_json: opt.AsJson = False,
) -> None:
    """Time the exact step against batch, classes and active units, and a study against its number of lambdas.

    With --out, writes scaling.json and scaling.png there.  --steps are those of each point.
    """
    from minidbp.bench import scaling
    from minidbp.bench.step import StepSettings

    settings = StepSettings(model=model, lam=lam, threads=threads, steps=steps)
    mnist, folder = inputs.load_mnist(data, "bench scaling"), out and inputs.out_folder(out)
    output.compile_kernels()
    with output.progress(f"sizes of model {model}", scaling.n_points()) as advance:
        times = scaling.time_scaling(settings, mnist, advance)
    output.show(times, as_json, output.table(scaling.table(times), scaling.title(times), left=3))
    if folder:
        _keep(times, scaling.picture(times), folder, "scaling.json", "scaling.png")


def _keep(result: Any, picture: "Figure", folder: Path, *names: str) -> None:
    """Write a measurement as JSON and as a picture."""
    from minidbp.files.plots import save

    write_text(folder / names[0], output.json_text(result) + "\n")
    save(picture, folder / names[1])
    output.list_written(folder, *names)


@bench_command
def bench_startup(
    repeats: Annotated[int, opt.at_least(1, "How many processes for each time; compiling takes one.")] = 3,
    as_json: opt.AsJson = False,
) -> None:
    """Time what a user waits for: the import, --help, a first training step, and compiling the kernels once."""
    from minidbp.bench.startup import N_MEASUREMENTS, time_startup

    with output.progress("starting processes", N_MEASUREMENTS) as advance:
        times = time_startup(repeats, advance)
    labels = (
        "import minidbp",
        "minidbp --help",
        "first step of training, with kernels compiled before",
        "compiling the kernels, once",
    )
    seconds = dataclasses.astuple(times)
    output.show(times, as_json, *(f"{s:7.2f} s  {label}" for s, label in zip(seconds, labels, strict=True)))
