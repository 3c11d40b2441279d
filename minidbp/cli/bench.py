"""`minidbp bench`: how fast minidbp is here, and where the time goes."""

import functools
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from minidbp.cli.app import app, at_least, command, compile_kernels, messages, progress, screen, told_where
from minidbp.cli.options import AsJson, Data, Lambda, ModelName, Seed, Threads

bench = typer.Typer(help="How fast minidbp is here, and where the time goes.", no_args_is_help=True)
app.add_typer(bench, name="bench")

BenchPenalty = Annotated[
    str,
    typer.Option("--penalty", help="jacobian_l1, summed_jacobian_l1, loss_gradient_l2, loss_gradient_l1 or none."),
]
BenchOut = Annotated[Path | None, typer.Option(help="A folder for the figures and a picture; none if not given.")]
Batch = Annotated[int, typer.Option(help="Images in a batch.")]
Warm = Annotated[int, typer.Option(help="Steps of training before those that count.")]


def tell_measurements(
    found: dict[str, Any], table: Any, as_json: bool, folder: Path | None, numbers: str, figure: str, picture: Any
) -> None:
    """Write the numbers and their picture to the folder, if there is one, and print the numbers or their table."""
    from minidbp.files.atomic import write_text
    from minidbp.files.plots import save

    text = json.dumps(found, indent=1)
    if folder:
        write_text(folder / numbers, text + "\n")
        save(picture, folder / figure)
    if as_json:
        typer.echo(text)
    else:
        screen.print(table)
    if folder:
        told_where(folder, numbers, figure)


bench_command = functools.partial(command, to=bench)


@bench_command
def bench_step(
    model: ModelName = "C",
    penalty: BenchPenalty = "jacobian_l1",
    lam: Lambda = 10.0,
    batch: Batch = 128,
    steps: Annotated[int, typer.Option(help="How many steps are timed.")] = 20,
    warm: Warm = 50,
    seed: Seed = 0,
    threads: Threads = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Time the step that `minidbp train` repeats, on real images: milliseconds, GFLOP/s, memory.

    It is timed in the middle of a training, as the share of ReLUs that are on matters for speed.
    """
    from minidbp.bench.contention import warning
    from minidbp.bench.setting import as_many_as_needed
    from minidbp.bench.step import check, time_step
    from minidbp.data import load_mnist

    at_least(0, warm=warm, seed=seed)
    at_least(1, batch=batch, steps=steps, threads=threads)
    check(model, penalty, lam, batch)
    compile_kernels()
    mnist = as_many_as_needed(load_mnist(data), batch, warm + steps)
    with progress(f"steps of model {model}", warm + steps) as done:
        found = time_step(model, penalty, lam, batch, steps, warm, threads, mnist, seed, done)
    if said := warning(found["others_share"]):
        messages.print(said, style="yellow", highlight=False, soft_wrap=True)
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    active = ", ".join(f"{share:.2f}" for share in found["active_share"])
    memory = f"{found['peak_rss_mb']:.0f} MB at most" if found["peak_rss_mb"] else "memory unknown"
    screen.print(
        f"model {model}, penalty {found['penalty']}, lambda {found['lam']:g}, batch {batch}, "
        f"{found['threads']} threads, {found['blas']}\n"
        f"median {found['median_ms']:.2f} ms, least {found['min_ms']:.2f} ms, of {steps} steps after {warm}; {memory}\n"
        f"{found['gflop']:.3g} GFLOP with every unit counted: {found['gflops_per_s']:.0f} GFLOP/s, "
        f"{100 * found['efficiency']:.0f}% of a large matrix product's {found['gemm_gflops_per_s']:.0f}\n"
        f"active share of the ReLU layers: {active}",
        highlight=False,
        soft_wrap=True,
    )


@bench_command
def bench_gemm(
    size: Annotated[int, typer.Option(help="Rows and columns of the matrices.")] = 2048,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """The rate of a large float32 matrix product on one thread and on all, and the BLAS kernel that computes it."""
    from minidbp.bench.gemm import rates
    from minidbp.training import available_cores

    at_least(1, size=size, threads=threads)
    found = rates(threads or available_cores(), size)
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    screen.print(found["blas"], highlight=False)
    for count, rate in found["gflops_per_s"].items():
        screen.print(f"{count} thread{'s' * (count != '1')}: {rate:.1f} GFLOP/s", highlight=False)


@bench_command
def bench_kernels(
    model: ModelName = "C",
    penalty: BenchPenalty = "jacobian_l1",
    lam: Lambda = 10.0,
    batch: Batch = 128,
    steps: Annotated[int, typer.Option(help="How many steps are watched.")] = 3,
    warm: Warm = 50,
    out: BenchOut = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Time each layer's products in each pass of a step, on one thread, against the machine's limits.

    With --out, writes kernels.json and roofline.png there.
    """
    from minidbp.bench import figures, report
    from minidbp.bench.kernel_times import time_kernels
    from minidbp.bench.step import check
    from minidbp.data import load_mnist
    from minidbp.sweeps import sweep

    at_least(0, warm=warm)
    at_least(1, batch=batch, steps=steps)
    check(model, penalty, lam, batch)
    compile_kernels()
    mnist = load_mnist(data)
    folder = out and sweep.prepare(out)
    with progress(f"steps of model {model}", max(1, warm) + steps) as done:
        found = time_kernels(model, penalty, lam, batch, steps, warm, mnist, done)
    picture = figures.roofline(found) if folder else None
    tell_measurements(found, report.kernels_on_screen(found), as_json, folder, "kernels.json", "roofline.png", picture)


@bench_command
def bench_scaling(
    model: ModelName = "C",
    lam: Lambda = 10.0,
    steps: Annotated[int, typer.Option(help="How many steps are timed at each point.")] = 5,
    out: BenchOut = None,
    threads: Threads = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Time the exact step against batch, classes and active units, and several runs against how many they are.

    With --out, writes scaling.json and scaling.png there.
    """
    from minidbp.bench import figures, report
    from minidbp.bench.scaling import points, time_scaling
    from minidbp.bench.step import check
    from minidbp.data import load_mnist
    from minidbp.sweeps import sweep

    at_least(1, steps=steps, threads=threads)
    check(model, "jacobian_l1", lam)
    compile_kernels()
    mnist = load_mnist(data)
    folder = out and sweep.prepare(out)
    with progress(f"sizes of model {model}", points()) as done:
        found = time_scaling(model, lam, steps, threads, mnist, done)
    picture = figures.scaling(found) if folder else None
    tell_measurements(found, report.scaling_on_screen(found), as_json, folder, "scaling.json", "scaling.png", picture)


@bench_command
def bench_startup(
    repeats: Annotated[int, typer.Option(help="How many processes for each measurement; compiling takes one.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Time what a user waits for: the import, --help, a first training step, and the kernels' one compilation."""
    from minidbp.bench.startup import MEASUREMENTS, time_startup

    at_least(1, repeats=repeats)
    with progress("starting processes", MEASUREMENTS) as done:
        found = time_startup(repeats, done)
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    for name, what in {
        "import_s": "import minidbp",
        "help_s": "minidbp --help",
        "first_step_s": "first step of training, kernels compiled before",
        "compile_s": "compiling the kernels, once",
    }.items():
        screen.print(f"{found[name]:7.2f} s  {what}", highlight=False)
