"""The commands.  Thin: each checks its arguments, calls the package, and prints.

Heavy imports wait until a command runs, so that --help answers at once.
"""

import functools
import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

app = typer.Typer(
    help="Double backpropagation from scratch: the experiments of Seck, Loosli and Canu (ESANN 2019) on MNIST.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
bench = typer.Typer(help="How fast minidbp is here, and where the time goes.", no_args_is_help=True)
app.add_typer(bench, name="bench")
screen = Console()
messages = Console(stderr=True)  # progress and errors, so that --json leaves stdout to the numbers

Out = Annotated[Path | None, typer.Option(help="The folder for everything that is written; made if need be.")]
Seed = Annotated[int, typer.Option(help="The seed (of the first run); the same seed gives the same bits.")]
Threads = Annotated[int | None, typer.Option(help="Threads to use; one for each core if not given.")]
Data = Annotated[Path | None, typer.Option(help="The folder with MNIST's four files, if not the project's data/.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the figures as JSON on standard output.")]
ModelName = Annotated[str, typer.Option("--model", help="A, B or C, as in the paper's Table 1.")]
Lambda = Annotated[float, typer.Option("--lambda", help="The weight of the penalty; 0 is plain training.")]
Eps = Annotated[float, typer.Option(help="The attack's size, in pixel units (0 to 1).")]
Penalised = Annotated[str, typer.Option(help="The f whose Jacobian is penalised: logits or softmax.")]
Reduction = Annotated[str, typer.Option(help="Of the penalty over classes and pixels: mean or sum.")]
AttackLabel = Annotated[str, typer.Option(help="The label inside the attack: true, predicted or smoothed.")]
BenchPenalty = Annotated[
    str,
    typer.Option("--penalty", help="jacobian_l1, summed_jacobian_l1, loss_gradient_l2, loss_gradient_l1 or none."),
]
BenchOut = Annotated[Path | None, typer.Option(help="A folder for the figures and a picture; none if not given.")]
Batch = Annotated[int, typer.Option(help="Images in a batch.")]
Warm = Annotated[int, typer.Option(help="Steps of training before those that count.")]


def fail(message: str, code: int = 2) -> NoReturn:
    """Say in one sentence what was wrong, and stop."""
    messages.print(f"minidbp: {message}", style="red", highlight=False, soft_wrap=True, markup=False)
    raise typer.Exit(code)


def at_least(least: int, **options: int | None) -> None:
    """Raise ValueError for an option below `least`: before anything is computed or made."""
    for name, value in options.items():
        if value is not None and value < least:
            raise ValueError(f"--{name.replace('_', '-')} must be at least {least}; got {value}")


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar on stderr, if that is a terminal; call what this yields after each of `total` pieces of work."""
    from rich.progress import Progress

    with Progress(console=messages, disable=not messages.is_terminal, transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda: bar.advance(task)


def compile_kernels() -> None:
    """Compile the kernels, or fetch them from the cache, and say so: the first time takes some 15 s."""
    from minidbp import kernels

    with messages.status("compiling kernels, once"):
        kernels.warm_up()


def command(function: Callable[..., None], to: typer.Typer = app) -> Callable[..., None]:
    """A command that answers bad input with one sentence and exit code 2, and a failed computation with 1."""

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
        except KeyboardInterrupt:
            fail("stopped", code=130)
        except ArithmeticError as error:  # a training that diverged
            fail(str(error), code=1)
        except (ValueError, TypeError) as error:
            fail(str(error))
        except OSError as error:
            fail(f"{error.filename or 'a file'} cannot be used: {error.strerror or error}")

    return to.command(function.__name__.removeprefix("bench_"))(guarded)


@command
def table2(
    preset: Annotated[
        str, typer.Option(help="smoke (under a minute), laptop (under 15 minutes) or paper (10 seeds: days).")
    ] = "laptop",
    out: Out = None,
    seed: Seed = 0,
    threads: Threads = None,
    data: Data = None,
    penalised: Penalised = "logits",
    reduction: Reduction = "mean",
    attack_label: AttackLabel = "true",
    as_json: AsJson = False,
) -> None:
    """Table 2: models A, B, C trained with several lambdas, clean and attacked, the paper's numbers beside ours.

    Writes table.csv, table.md, accuracy.png, images.png and runs/*.json (with weights) to --out, by default
    out/table2-PRESET.  Finished runs are kept: the same command goes on where it was stopped.
    """
    from minidbp.data import load_mnist
    from minidbp.experiments import sweep, table2

    at_least(0, seed=seed)
    at_least(1, threads=threads)
    runs = table2.plan_runs(preset, seed, penalised=penalised, reduction=reduction, attack_label=attack_label)
    mnist = load_mnist(data)
    folder = sweep.prepare(out or Path("out") / f"table2-{preset}")
    title = f"Table 2, preset {preset}"
    done = sweep.run_all(runs, folder, title, mnist, threads, messages)
    as_typed = (
        f"minidbp table2 --preset {preset} --seed {seed} --penalised {penalised} --reduction {reduction} "
        f"--attack-label {attack_label}"
    )
    rows = sweep.write_report(runs, folder, title, as_typed, mnist)
    if as_json:
        typer.echo(json.dumps(sweep.rows_as_json(rows), indent=1))
    elif rows:
        sweep.show(rows, title, screen)
    if rows:
        messages.print(
            f"written to {folder}: table.md, table.csv, accuracy.png, images.png, runs/",
            highlight=False,
            soft_wrap=True,
        )
    if done.stopped:
        fail(f"stopped: {done.finished} of {len(runs)} runs are finished; the same command goes on from there", 130)
    if done.failures:
        fail("; ".join(done.failures), code=1)


@command
def train(
    model: ModelName = "C",
    lam: Lambda = 0.0,
    seed: Seed = 0,
    epochs: Annotated[
        int | None, typer.Option(help="Exactly this many; without it, the paper's stop rule (about 20).")
    ] = None,
    images: Annotated[int, typer.Option(help="How many training images to use.")] = 55_000,
    penalty: Annotated[
        str,
        typer.Option(help="jacobian_l1 (eq. 3), summed_jacobian_l1 (Table 3), loss_gradient_l2 or loss_gradient_l1."),
    ] = "jacobian_l1",
    penalised: Penalised = "logits",
    reduction: Reduction = "mean",
    out: Out = None,
    threads: Threads = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Train one model by the paper's protocol and judge it: clean, FGSM and PGD.

    Writes NAME.json (protocol, every epoch, accuracies) and NAME.npz (weights, for `minidbp attack`) to --out, by
    default out/train.  A folder keeps one protocol: give another --out for other settings.
    """
    from minidbp.data import load_mnist
    from minidbp.experiments import sweep
    from minidbp.experiments.runs import Run
    from minidbp.training import Protocol

    at_least(0, seed=seed)
    at_least(1, epochs=epochs, images=images, threads=threads)
    changes: dict[str, Any] = {} if epochs is None else {"max_epochs": epochs, "stop_rule": "none"}
    protocol = Protocol(
        n_train=images, penalty=penalty, penalised=penalised, reduction=reduction, n_pgd=1000, **changes
    )
    run = Run(model, lam, seed, protocol)
    mnist = load_mnist(data)
    folder = sweep.prepare(out or Path("out") / "train", runs_folder=".")
    done = sweep.run_all([run], folder, f"training {model}", mnist, threads, messages, runs_folder=".")
    if done.stopped:
        fail("stopped before the end; nothing was kept", 130)
    if done.failures:
        fail("; ".join(done.failures), code=1)
    result = json.loads((folder / f"{run.name}.json").read_text(encoding="utf-8"))
    if as_json:
        typer.echo(json.dumps(result, indent=1))
    else:
        screen.print(sweep.summary(result), highlight=False, soft_wrap=True)
    messages.print(f"written to {folder}: {run.name}.json, {run.name}.npz", highlight=False, soft_wrap=True)


@command
def attack(
    weights: Annotated[Path, typer.Argument(help="A .npz file that train or table2 wrote.", show_default=False)],
    eps: Eps = 0.3,
    images: Annotated[int, typer.Option(help="How many test images are judged, clean and under FGSM.")] = 10_000,
    pgd_images: Annotated[int, typer.Option(help="How many of them PGD attacks.")] = 1000,
    steps: Annotated[int, typer.Option(help="PGD's steps.")] = 40,
    step: Annotated[float, typer.Option(help="PGD's step, in pixel units.")] = 0.01,
    restarts: Annotated[int, typer.Option(help="PGD's random starts.")] = 1,
    attack_label: AttackLabel = "true",
    seed: Seed = 0,
    out: Out = None,
    threads: Threads = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Attack a trained model: test accuracy clean, under FGSM and under PGD, and a picture of what it falls for.

    Writes attack.json and images.png to --out, by default out/attack-NAME.
    """
    from minidbp.data import load_mnist
    from minidbp.experiments import sweep
    from minidbp.nn import load_model
    from minidbp.training import Protocol

    at_least(0, seed=seed)
    at_least(1, images=images, pgd_images=pgd_images, steps=steps, restarts=restarts, threads=threads)
    protocol = Protocol(
        eps=eps, attack_label=attack_label, n_test=images, n_pgd=min(images, pgd_images), pgd_steps=steps,
        pgd_step=step, pgd_restarts=restarts,
    )  # fmt: skip
    load_model(weights)  # before anything is made, so that a bad file leaves no folder
    mnist = load_mnist(data)
    folder = sweep.prepare(out or Path("out") / f"attack-{weights.stem}", runs_folder=".")
    result = sweep.attack(weights, protocol, seed, folder, mnist, threads, messages)
    if as_json:
        typer.echo(json.dumps(result, indent=1))
    else:
        screen.print(
            f"model {result['model']}, eps {eps:g}: clean {result['clean']:.2f}%, FGSM {result['fgsm']:.2f}%, "
            f"PGD {result['pgd']:.2f}%",
            highlight=False,
        )
    messages.print(f"written to {folder}: attack.json, images.png", highlight=False, soft_wrap=True)


@command
def gradcheck(
    op: Annotated[str | None, typer.Option(help="One operation; all of them if not given.")] = None,
    seed: Seed = 0,
    page: Annotated[
        Path | None, typer.Option(help="Also write the matrix into this Markdown page, between its marks.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check every operation's derivatives of order 1, 2 and 3, in float64 and float32; exit code 1 if one is wrong.

    float64 is compared with differences that keep clear of kinks, float32 with float64.
    """
    from rich.progress import track

    from minidbp.autodiff import catalogue
    from minidbp.experiments import matrix

    at_least(0, seed=seed)
    operations = [op] if op else list(catalogue.samples(seed))
    todo = [(o, order, dtype) for o in operations for dtype in catalogue.DTYPES for order in catalogue.ORDERS]
    cells = [
        catalogue.verify(*cell, seed)
        for cell in track(todo, "checking derivatives", console=messages, disable=not messages.is_terminal)
    ]
    if page:
        matrix.write_page(page, cells)
    if as_json:
        typer.echo(json.dumps([cell._asdict() for cell in cells], indent=1))
    else:
        screen.print(matrix.on_screen(cells))
    failed = [f"{c.operation}, order {c.order}, {c.dtype}: {c.detail}" for c in cells if c.outcome == "failed"]
    if failed:
        fail("; ".join(failed), code=1)


@command
def doctor(data: Data = None, as_json: AsJson = False) -> None:
    """Versions, threads, the BLAS kernel that runs, kernel cache and data; exit code 1 if something is wrong."""
    from minidbp.experiments.doctor import examine

    compile_kernels()
    found = examine(data)
    if as_json:
        typer.echo(json.dumps({"facts": found.facts, "warnings": found.warnings, "problems": found.problems}, indent=1))
    else:
        for key, value in found.facts.items():
            screen.print(f"[bold]{key:>12}[/]  {value}", highlight=False, soft_wrap=True)
        for warning in found.warnings:
            screen.print(f"[yellow]     warning[/]  {warning}", highlight=False, soft_wrap=True)
        for problem in found.problems:
            screen.print(f"[red]     problem[/]  {problem}", highlight=False, soft_wrap=True)
        if not (found.warnings or found.problems):
            screen.print("[green]all is well[/]")
    if found.problems:
        raise typer.Exit(1)


def tell_measurements(
    found: dict[str, Any], table: Any, as_json: bool, folder: Path | None, numbers: str, figure: str, picture: Any
) -> None:
    """Write the numbers and their picture to the folder, if there is one, and print the numbers or their table."""
    from minidbp.atomic import write_text
    from minidbp.experiments.figures import save

    text = json.dumps(found, indent=1)
    if folder:
        write_text(folder / numbers, text + "\n")
        save(picture, folder / figure)
    if as_json:
        typer.echo(text)
    else:
        screen.print(table)
    if folder:
        messages.print(f"written to {folder}: {numbers}, {figure}", highlight=False, soft_wrap=True)


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
    from minidbp.data import load_mnist
    from minidbp.experiments.bench.contention import warning
    from minidbp.experiments.bench.setting import as_many_as_needed
    from minidbp.experiments.bench.step import check, time_step

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
    from minidbp.experiments.bench.gemm import rates
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
    from minidbp.data import load_mnist
    from minidbp.experiments import sweep
    from minidbp.experiments.bench import figures, report
    from minidbp.experiments.bench.kernel_times import time_kernels
    from minidbp.experiments.bench.step import check

    at_least(0, warm=warm)
    at_least(1, batch=batch, steps=steps)
    check(model, penalty, lam, batch)
    compile_kernels()
    mnist = load_mnist(data)
    folder = out and sweep.prepare(out, runs_folder=".")
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
    from minidbp.data import load_mnist
    from minidbp.experiments import sweep
    from minidbp.experiments.bench import figures, report
    from minidbp.experiments.bench.scaling import points, time_scaling
    from minidbp.experiments.bench.step import check

    at_least(1, steps=steps, threads=threads)
    check(model, "jacobian_l1", lam)
    compile_kernels()
    mnist = load_mnist(data)
    folder = out and sweep.prepare(out, runs_folder=".")
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
    from minidbp.experiments.bench.startup import MEASUREMENTS, time_startup

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


@command
def figure1(
    preset: Annotated[
        str, typer.Option(help="smoke (under a minute), laptop (under 15 minutes) or paper (100 epochs: hours).")
    ] = "laptop",
    model: ModelName = "C",
    image: Annotated[int, typer.Option(help="The number of the test image that is watched, 0 to 9999.")] = 0,
    penalty: Annotated[
        str, typer.Option(help="summed_jacobian_l1 (section 4.2) or jacobian_l1 (eq. 3, slower).")
    ] = "summed_jacobian_l1",
    lam: Lambda = 10.0,
    out: Out = None,
    seed: Seed = 0,
    threads: Threads = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Figure 1 from a real run: f at a test image and at its adversarial twin, while adversarial training goes on.

    Trains twice, with the penalty and without.  Writes figure1.png, figure1.gif, figure1.md and figure1.json to --out,
    by default out/figure1-PRESET.  It always begins anew; stopped with Ctrl-C, it draws what it has seen.
    """
    import time

    from minidbp.atomic import write_text
    from minidbp.data import load_mnist
    from minidbp.experiments import figure1, figure1_page, figure1_pictures, figures, sweep
    from minidbp.experiments.environment import environment
    from minidbp.training import workers

    at_least(0, seed=seed)
    at_least(1, threads=threads)
    figure1.check_image(image)
    runs = figure1.plan_runs(preset, model, lam, penalty, seed)
    mnist = load_mnist(data)
    folder = sweep.prepare(out or Path("out") / f"figure1-{preset}", runs_folder=".")
    compile_kernels()
    started = time.perf_counter()
    with (
        workers(threads) as team,
        progress(f"training model {model}", sum(figure1.steps_of(r)[0] for r in runs)) as done,
    ):
        study = figure1.watch_all(runs, mnist, image, team, done)
    if not study.watched:
        fail("stopped before anything was seen; nothing was written", 130)
    as_typed = (
        f"minidbp figure1 --preset {preset} --model {model} --image {image} --penalty {penalty} --lambda {lam:g} "
        f"--seed {seed}"
    )
    page = figure1_page.as_markdown(study, as_typed, time.perf_counter() - started, environment())
    write_text(folder / "figure1.json", json.dumps(figure1.as_json(study)) + "\n")
    write_text(folder / "figure1.md", page)
    try:
        figures.save(figure1_pictures.still(study), folder / "figure1.png")
        with progress("drawing", len(study.watched[0].observations)) as drawn:
            figure1_pictures.film(study, folder / "figure1.gif", drawn)
    except KeyboardInterrupt:
        fail(f"stopped while drawing; the numbers are in {folder / 'figure1.json'}", 130)
    if as_json:
        typer.echo(json.dumps(figure1_page.as_json(study), indent=1))
    else:
        screen.print("\n".join(figure1_page.lines(study)), highlight=False, soft_wrap=True)
    messages.print(
        f"written to {folder}: figure1.png, figure1.gif, figure1.md, figure1.json", highlight=False, soft_wrap=True
    )
    if study.stopped:
        w = study.watched[-1]
        fail(
            f"stopped in the run with lambda {w.run.lam:g}, last seen at step {w.observations[-1].step} of "
            f"{figure1.steps_of(w.run)[0]}; the figure shows what was seen",
            130,
        )


def main() -> None:
    """The entry point of the `minidbp` command."""
    for stream in sys.stdout, sys.stderr:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without λ shows ?, and loses nothing else
    app()


if __name__ == "__main__":
    main()
