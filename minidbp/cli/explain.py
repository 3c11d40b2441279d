"""`minidbp explain`."""

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from minidbp.cli.app import at_least, command, compile_kernels, progress, screen, told_where
from minidbp.cli.options import AsJson, Data, Lambda, Out, Seed, Threads


@command
def explain(
    image: Annotated[int, typer.Option(help="The number of the test image, 0 to 9999 (0 is a 7, 3 is a 0).")] = 0,
    model: Annotated[
        str | None, typer.Option("--model", help="A, B or C, as in the paper's Table 1; C if nothing says otherwise.")
    ] = None,
    lam: Lambda = 10.0,
    weights: Annotated[
        Path | None,
        typer.Option(help="A .safetensors file of train or of a table; without it, a short plain training."),
    ] = None,
    seed: Seed = 0,
    out: Out = None,
    threads: Threads = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """One training step on one digit, taken apart: logits, loss, FGSM, J, sign(J), penalty, both passes, each dW.

    Every number stands beside its finite difference.  Without --weights a model is first trained for some seconds,
    without penalty.  Writes explain.html (a page that needs no other file), explain.md, explain.json and pictures to
    --out, by default out/explain-MODEL-IMAGE.
    """
    from minidbp.data import load_mnist
    from minidbp.explain import explanation as explaining
    from minidbp.explain import report, terminal
    from minidbp.explain.step import PROTOCOL, TrainingStep
    from minidbp.nn import load_model
    from minidbp.nn.models import check_model_name
    from minidbp.paper.figure1 import check_image
    from minidbp.robust.objective import check_lambda
    from minidbp.sweeps import sweep
    from minidbp.training import accuracy, quickly_trained, workers
    from minidbp.training.environment import environment

    at_least(0, seed=seed)
    at_least(1, threads=threads)
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
    mnist = load_mnist(data)
    folder = sweep.prepare(out or Path("out") / f"explain-{name}-{image}")
    compile_kernels()
    if network is None:
        steps, others = explaining.TRAINING_STEPS[name], 1000  # digits that it is not trained on, to be read
        x, y = mnist.x_train, mnist.y_train
        with progress(f"training model {name}", steps) as done:
            network = quickly_trained(
                name, x[:-others], y[:-others], steps, protocol=PROTOCOL, seed=seed, threads=threads, on_step=done
            )
        with workers(threads) as team:
            read = accuracy(network, x[-others:], y[-others:], team)
        origin = (
            f"The weights are from {steps} plain Adam steps of {PROTOCOL.batch_size} images without penalty "
            f"(seed {seed}), after which the model reads {read:.1f}% of other digits."
        )
    with workers(threads), progress("taking the step apart", explaining.PROGRESS_STEPS) as done:
        step = TrainingStep(
            network.astype(np.float64), mnist.x_test[[image]].astype(np.float64), mnist.y_test[[image]], lam
        )
        explanation = explaining.explain(step, name, image, np.random.default_rng([seed, image]), done)
    as_typed = f"minidbp explain --image {image} --model {name} --lambda {lam:g} --seed {seed}" + (
        f" --weights {weights.name}" if weights else ""
    )
    with progress("drawing", len(report.FILES)) as done:
        report.write(explanation, folder, report.as_markdown(explanation, as_typed, origin, environment()), done)
    if as_json:
        typer.echo(json.dumps(report.as_dict(explanation), indent=1))
    else:
        for piece in terminal.on_screen(explanation, origin, terminal.has_colours(screen)):
            screen.print(piece, highlight=False, markup=False)
    told_where(folder, *report.FILES)
