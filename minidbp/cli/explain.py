"""`minidbp explain`: one training step on one digit."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from minidbp.cli import common
from minidbp.cli import options as opt

HELD_OUT = 1000  # training digits for the accuracy of a model that is trained here

Model = Annotated[str | None, typer.Option(help="A, B or C, as in the paper's Table 1; that of --weights, or C.")]
Weights = Annotated[
    Path | None, typer.Option(help="A .safetensors file; without it, a model is trained for some seconds.")
]


@common.command
def explain(
    image: opt.Image = 0,
    model: Model = None,
    lam: opt.Lambda = 10.0,
    weights: Weights = None,
    seed: opt.Seed = 0,
    out: opt.Out = None,
    threads: opt.Threads = None,
    data: opt.Data = None,
    as_json: opt.AsJson = False,
) -> None:
    """Take one training step on one digit apart: logits, loss, FGSM, J, sign(J), penalty, both passes, each dW.

    Every number stands beside its finite difference.  Without --weights, a model is first trained for some seconds
    without penalty.  Writes explain.html (a page that needs no other file), explain.md, explain.json and pictures to
    --out, by default out/explain-MODEL-IMAGE.
    """
    from minidbp.explain import explanation as explaining
    from minidbp.explain import report, terminal
    from minidbp.explain.step import PROTOCOL, TrainingStep
    from minidbp.nn import load_model
    from minidbp.nn.models import check_model_name
    from minidbp.paper.figure1 import check_image
    from minidbp.robust.penalties import check_lambda
    from minidbp.training import accuracy, quickly_trained, workers
    from minidbp.training.environment import environment

    check_image(image)
    check_lambda(lam)
    network = None
    if weights:
        network, name = load_model(weights)
        if model not in (None, name):
            raise ValueError(f"--model {model} does not fit {weights}, which holds a model {name}: leave --model out")
        origin = f"The weights are those of {weights.name}."
    else:
        name = model or "C"
        check_model_name(name)
    mnist = common.load_data(data)
    folder = common.out_folder(out, f"explain-{name}-{image}")
    if network is None:
        steps = explaining.TRAINING_STEPS[name]
        x, y = mnist.x_train, mnist.y_train
        with common.progress(f"training model {name}", steps) as advance:
            network = quickly_trained(
                name, x[:-HELD_OUT], y[:-HELD_OUT], steps, protocol=PROTOCOL, seed=seed, threads=threads,
                on_step=advance,
            )  # fmt: skip
        with workers(threads) as pool:
            percent = accuracy(network, x[-HELD_OUT:], y[-HELD_OUT:], pool)
        origin = (
            f"The weights are from {steps} plain Adam steps of {PROTOCOL.batch_size} images without penalty "
            f"(seed {seed}). The model then classifies {percent:.1f}% of {HELD_OUT} other digits correctly."
        )
    with workers(threads), common.progress("taking the step apart", explaining.PROGRESS_STEPS) as advance:
        step = TrainingStep(
            network.astype(np.float64), mnist.x_test[[image]].astype(np.float64), mnist.y_test[[image]], lam
        )
        explanation = explaining.explain(step, name, image, np.random.default_rng([seed, image]), advance)
    options = {"image": image, "model": name, "lambda": lam, "seed": seed, "weights": weights and weights.name}
    page = report.as_markdown(explanation, common.command_line("explain", **options), origin, environment())
    with common.progress("drawing", len(report.FILES)) as advance:
        report.write(explanation, folder, page, advance)
    pieces = terminal.on_screen(explanation, origin, terminal.has_colours(common.screen))
    common.show(report.as_dict(explanation), as_json, *pieces)
    common.list_written(folder, *report.FILES)
