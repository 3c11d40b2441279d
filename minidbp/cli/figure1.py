"""`minidbp figure1`: the paper's Figure 1 from a real training."""

import json
from time import perf_counter
from typing import Annotated

import typer

from minidbp.cli import common
from minidbp.cli import options as opt

Preset = Annotated[str, typer.Option(help="smoke (under a minute), laptop (under 15 minutes) or paper (hours).")]
Penalty = Annotated[str, typer.Option(help="summed_jacobian_l1 (section 4.2) or jacobian_l1 (eq. 3, slower).")]


@common.command
def figure1(
    preset: Preset = "laptop",
    model: opt.ModelName = "C",
    image: opt.Image = 0,
    penalty: Penalty = "summed_jacobian_l1",
    lam: opt.Lambda = 10.0,
    out: opt.Out = None,
    seed: opt.Seed = 0,
    threads: opt.Threads = None,
    data: opt.Data = None,
    as_json: opt.AsJson = False,
) -> None:
    """Draw Figure 1 from a real run: f at a test image and at its adversarial twin, during adversarial training.

    Trains twice, with the penalty and without.  Writes figure1.png, figure1.gif, figure1.md and figure1.json to --out,
    by default out/figure1-PRESET.  The command always begins anew; after Ctrl-C it draws the steps observed so far.
    """
    from minidbp.files.atomic import write_text
    from minidbp.files.plots import save
    from minidbp.paper import figure1, figure1_pictures
    from minidbp.training import workers
    from minidbp.training.environment import environment

    figure1.check_image(image)
    runs = figure1.plan_runs(preset, model, lam, penalty, seed)
    mnist = common.load_data(data)
    folder = common.out_folder(out, f"figure1-{preset}")
    started = perf_counter()
    total = sum(figure1.steps_of(run)[0] for run in runs)
    with workers(threads) as pool, common.progress(f"training model {model}", total) as advance:
        study = figure1.make_study(runs, mnist, image, pool, advance)
    if not study.observed:
        common.fail("stopped before the first observation; nothing was written", 130)
    options = {"preset": preset, "model": model, "image": image, "penalty": penalty, "lambda": lam, "seed": seed}
    page = figure1.as_markdown(
        study, common.command_line("figure1", **options), perf_counter() - started, environment()
    )
    write_text(folder / "figure1.json", json.dumps(figure1.as_json(study)) + "\n")
    write_text(folder / "figure1.md", page)
    try:
        save(figure1_pictures.still(study), folder / "figure1.png")
        with common.progress("drawing", len(study.observed[0].observations)) as advance:
            figure1_pictures.film(study, folder / "figure1.gif", advance)
    except KeyboardInterrupt:
        common.fail(f"stopped while drawing; the numbers are in {folder / 'figure1.json'}", 130)
    common.show(figure1.summary_as_json(study), as_json, figure1.on_screen(study))
    common.list_written(folder, "figure1.png", "figure1.gif", "figure1.md", "figure1.json")
    if study.stopped:
        last = study.observed[-1]
        step, steps = last.observations[-1].step, figure1.steps_of(last.run)[0]
        common.fail(
            f"stopped in the run with lambda {last.run.lam:g} at step {step} of {steps}; the figure shows the steps "
            "observed so far",
            130,
        )
