"""`minidbp figure1`."""

import json
from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer

from minidbp.cli.app import at_least, command, compile_kernels, fail, progress, screen, told_where
from minidbp.cli.options import AsJson, Data, Lambda, ModelName, Out, Seed, Threads


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
    from minidbp.data import load_mnist
    from minidbp.files.atomic import write_text
    from minidbp.files.plots import save
    from minidbp.paper import figure1, figure1_pictures
    from minidbp.sweeps import sweep
    from minidbp.training import workers
    from minidbp.training.environment import environment

    at_least(0, seed=seed)
    at_least(1, threads=threads)
    figure1.check_image(image)
    runs = figure1.plan_runs(preset, model, lam, penalty, seed)
    mnist = load_mnist(data)
    folder = sweep.prepare(out or Path("out") / f"figure1-{preset}")
    compile_kernels()
    started = perf_counter()
    with (
        workers(threads) as team,
        progress(f"training model {model}", sum(figure1.steps_of(r)[0] for r in runs)) as done,
    ):
        study = figure1.make_study(runs, mnist, image, team, done)
    if not study.observed:
        fail("stopped before anything was seen; nothing was written", 130)
    as_typed = (
        f"minidbp figure1 --preset {preset} --model {model} --image {image} --penalty {penalty} --lambda {lam:g} "
        f"--seed {seed}"
    )
    page = figure1.as_markdown(study, as_typed, perf_counter() - started, environment())
    write_text(folder / "figure1.json", json.dumps(figure1.as_json(study)) + "\n")
    write_text(folder / "figure1.md", page)
    try:
        save(figure1_pictures.still(study), folder / "figure1.png")
        with progress("drawing", len(study.observed[0].observations)) as drawn:
            figure1_pictures.film(study, folder / "figure1.gif", drawn)
    except KeyboardInterrupt:
        fail(f"stopped while drawing; the numbers are in {folder / 'figure1.json'}", 130)
    if as_json:
        typer.echo(json.dumps(figure1.summary_as_json(study), indent=1))
    else:
        screen.print(figure1.on_screen(study), highlight=False, soft_wrap=True)
    told_where(folder, "figure1.png", "figure1.gif", "figure1.md", "figure1.json")
    if study.stopped:
        w = study.observed[-1]
        fail(
            f"stopped in the run with lambda {w.run.lam:g}, last seen at step {w.observations[-1].step} of "
            f"{figure1.steps_of(w.run)[0]}; the figure shows what was seen",
            130,
        )
