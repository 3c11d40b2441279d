"""Commands about models: explain a training step, train, attack, tell robust models from masked gradients."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from minidbp.cli import inputs, output
from minidbp.cli import options as opt
from minidbp.cli.app import command, fail, stop
from minidbp.cli.invocation import current
from minidbp.files.reading import printable
from minidbp.nn.models import check_model_input
from minidbp.nn.weights import SavedModel, read_model
from minidbp.sweeps.runs import Run, find, labels
from minidbp.training import Protocol, accuracy, quickly_trained, workers
from minidbp.training.protocol import check_training_images, sizes_for

HELD_OUT = 1000  # training images for the accuracy of a model that `explain` trains; a twelfth of small data sets
LEAST = 100  # test images of a diagnosis: with fewer, sampling noise would hide every difference


def _load(weights: Path) -> SavedModel:
    """The model of a weights file, in float32, the dtype of the images."""
    saved = read_model(weights)
    dtype = saved.model.parameters()[0].dtype
    if dtype != np.float32:
        output.say(f"{weights} holds {dtype} numbers, which are rounded to float32")
    return saved._replace(model=saved.model.astype(np.float32))


@command
def explain(
    image: opt.Image = 0,
    model: opt.OwnModelName = None,
    lam: opt.Lambda = 10.0,
    weights: Annotated[
        Path | None,
        opt.path("--weights", "A .safetensors file; without it, a model is trained for some seconds.", must_exist=True),
    ] = None,
    seed: opt.Seed = 0,
    out: opt.Out = None,
    threads: opt.Threads = None,
    data: opt.Data = None,
    as_json: opt.AsJson = False,
) -> None:
    """Take one training step on one test image apart: logits, loss, FGSM, J, sign(J), penalty, both passes, each dW.

    Every number stands beside its finite difference.  Without --weights, a model is first trained for some seconds
    without penalty.  Writes explain.html (a page that needs no other file), explain.md, explain.json and pictures to
    --out, by default out/explain-MODEL-IMAGE.
    """
    from minidbp.explain import explanation as explaining
    from minidbp.explain import report, terminal
    from minidbp.explain.step import PROTOCOL, TrainingStep
    from minidbp.training.environment import environment

    saved = read_model(weights) if weights else None
    if saved and weights:
        name = saved.name
        if model not in (None, name):
            raise ValueError(f"--model {model} does not fit {weights}, which holds a model {name}: leave --model out")
        origin = f"The weights are those of {printable(weights.name)}."
    else:
        name = model or "C"
    dataset = inputs.load_data(data)
    inputs.check_image(image, len(dataset.x_test))
    if saved:
        inputs.check_weights(saved, dataset)
    else:
        check_model_input(name, PROTOCOL.padding, dataset.image_shape, dataset.n_classes)
        check_training_images(len(dataset.x_train))
    folder = inputs.out_folder(out, f"explain-{name}-{image}")
    if saved:
        network = saved.model
    else:
        x, y = dataset.x_train, dataset.y_train
        steps, held_out = explaining.TRAINING_STEPS[name], min(HELD_OUT, max(1, len(x) // 12))
        with output.progress(f"training model {name}", steps) as advance:
            network = quickly_trained(
                name, x[:-held_out], y[:-held_out], steps, protocol=PROTOCOL, seed=seed, threads=threads,
                n_classes=dataset.n_classes, on_step=advance,
            )  # fmt: skip
        with workers(threads) as pool:
            percent = accuracy(network, x[-held_out:], y[-held_out:], pool)
        others = "digits" if dataset.verified else "images"
        origin = (
            f"The weights are from {steps} plain Adam steps of {PROTOCOL.batch_size} images without penalty "
            f"(seed {seed}). The model then classifies {percent:.1f}% of {held_out} other {others} correctly."
        )
    with workers(threads), output.progress("taking the step apart", explaining.PROGRESS_STEPS) as advance:
        step = TrainingStep(
            network.astype(np.float64), dataset.x_test[[image]].astype(np.float64), dataset.y_test[[image]], lam
        )
        explanation = explaining.explain(
            step, name, image, np.random.default_rng([seed, image]), advance, dataset.identity
        )
    options = {"image": image, "model": name, "lambda": lam, "seed": seed, "weights": weights and weights.name}
    options["data"] = None if dataset.verified else dataset.name
    page = report.as_markdown(explanation, output.command_line("explain", **options), origin, environment())
    with output.progress("drawing", len(report.FILES)) as advance:
        report.write(explanation, folder, page, advance)
    pieces = terminal.on_screen(explanation, origin, terminal.has_colours(output.screen))
    output.show(report.as_dict(explanation), as_json, *pieces)
    output.list_written(folder, *report.FILES)


@command(config=True)
def train(
    model: opt.ModelName = "C",
    lam: opt.Lambda = 0.0,
    seed: opt.Seed = 0,
    epochs: opt.Epochs = None,
    images: opt.TrainingImages = None,
    penalty: opt.Penalty = "jacobian_l1",
    penalty_target: opt.PenaltyTarget = "logits",
    reduction: opt.Reduction = "mean",
    adversarial: opt.Adversarial = None,
    training_attack: opt.TrainingAttack = None,
    out: opt.Out = None,
    threads: opt.Threads = None,
    data: opt.Data = None,
    as_json: opt.AsJson = False,
) -> None:
    """Train one model by the paper's protocol and evaluate it on 1,000 random test images, clean and under attack.

    With --data, on images of your own: fewer than 1,000 test images are all taken, and a twelfth of the training
    images, at most 5,000, are for validation.

    Prints accuracy under FGSM and in the worst case of the strongest attacks, at the protocol's eps and at 0.1.
    Writes NAME.json (protocol, every epoch, accuracies) and NAME.safetensors (weights, for `minidbp attack`) to --out,
    by default out/train; NAME ends in a hash of all settings.  After an interruption, run the same command again to
    resume from the last epoch.
    """
    from minidbp.cli.training import train_runs
    from minidbp.sweeps import executors

    changes: dict[str, Any] = {} if epochs is None else {"max_epochs": epochs, "stop_rule": "none"}
    if adversarial is not None or training_attack is not None:
        eps, attack_name = 0.1 if adversarial is None else adversarial, training_attack or "fgsm"
        changes |= {"adversarial_training": True, "eps": eps, "training_attack": attack_name}
    choices = {"penalty": penalty, "penalty_target": penalty_target, "reduction": reduction, **changes}
    Run(model, lam, seed, Protocol(**choices))  # bad options are refused before the data are read
    dataset = inputs.load_data(data)  # and bad data before there is a folder
    sizes = sizes_for(len(dataset.x_train), len(dataset.x_test))
    protocol = Protocol(**(choices | sizes | ({"n_train": images} if images else {})))
    run = Run(model, lam, seed, protocol, dataset.identity)
    run.check(dataset)
    folder = inputs.out_folder(out, "train")
    run_dir = folder.resolve()
    words = current().words
    ending = train_runs(
        [run], run_dir, executors.in_process, lambda _: f"stopped; to go on after the last whole epoch: {words}",
        title=f"training {model}", data=data, threads=threads, announce=False,
    )  # fmt: skip
    if ending.stopped:
        stop()
    if bad := ending.diverged + ending.failed:
        fail("; ".join(bad), code=1)
    result = find(run, run_dir)
    if result is None:
        fail(f"{run.file(run_dir, 'json')} was removed; to train again: {current().words}", code=1)
    output.show(result.as_dict(), as_json, result.in_words(labels([run])[run]))
    output.list_written(folder, f"{run.name}.json", f"{run.name}.safetensors")


@command(config=True)
def attack(
    weights: opt.Weights,
    eps: opt.Eps = 0.3,
    images: Annotated[
        int | None,
        opt.at_least(1, "How many random test images are evaluated; 1000 if not given, or all if there are fewer."),
    ] = None,
    steps: opt.Steps = 40,
    step: Annotated[float, typer.Option(help="PGD's step, in pixel units.")] = 0.01,
    restarts: opt.Restarts = 1,
    attack_label: opt.AttackLabel = "true",
    seed: opt.Seed = 0,
    out: opt.Out = None,
    threads: opt.Threads = None,
    data: opt.Data = None,
    as_json: opt.AsJson = False,
) -> None:
    """Attack a trained model: test accuracy clean, under FGSM and PGD, and in the worst case of the strongest attacks.

    The strongest attacks are APGD on the cross-entropy and on the ratio of logits, and Square, at --eps and at 0.1.  A
    sentence says on how many images the softmax is saturated, and what PGD on the margin leaves there.  Writes
    attack.json and images.png to --out, by default out/attack-NAME.
    """
    from minidbp.diagnosis import attack as attacking

    protocol = Protocol(eps=eps, attack_label=attack_label, pgd_steps=steps, pgd_step=step, pgd_restarts=restarts)
    saved = _load(weights)  # first, so that a bad file leaves no folder
    dataset = inputs.load_data(data)
    inputs.check_weights(saved, dataset)
    protocol = inputs.on_test_images(protocol, images, 1000, dataset)
    folder = inputs.out_folder(out, f"attack-{weights.stem}")
    with output.progress("attacks", attacking.attack_passes(replace(protocol, judged_eps=()))) as advance:
        result = attacking.attack(saved, protocol, seed, folder, dataset, threads=threads, advance=advance)
    output.show(result, as_json, *result.in_words())
    output.list_written(folder, "attack.json", "images.png")


@command(config=True)
def diagnose(
    weights: Annotated[
        list[Path], typer.Argument(help="One or more .safetensors files of models.", show_default=False)
    ],
    eps: opt.Eps = 0.3,
    images: Annotated[
        int | None,
        opt.at_least(
            LEAST, "How many random test images each attack gets; 500 if not given, or all if there are fewer."
        ),
    ] = None,
    steps: opt.Steps = 40,
    restarts: opt.Restarts = 3,
    seed: opt.Seed = 0,
    out: opt.Out = None,
    threads: opt.Threads = None,
    data: opt.Data = None,
    as_json: opt.AsJson = False,
) -> None:
    """Tell robust models from masked gradients: many attacks, the worst case of each image, a verdict by stated rules.

    It also tries adversarial images that were made on other models: on a plainly trained one, on one trained to answer
    as this model does, and, with several files, on the models of the other files.  Writes diagnosis.json, diagnosis.md
    and pictures to --out, by default out/diagnose-NAME, or out/diagnose for several files.
    """
    from minidbp.diagnosis import diagnose as diagnosing
    from minidbp.diagnosis import report
    from minidbp.diagnosis.judge import judged_images
    from minidbp.diagnosis.trials import LabelledImages

    if not 0 < eps <= 1:
        raise ValueError(f"--eps must lie above 0 and be at most 1, the range of pixels; got {eps:g}")
    protocol = Protocol(eps=eps, pgd_steps=steps, pgd_restarts=restarts)
    saved = {label: _load(path) for label, path in zip(diagnosing.labels_of(weights), weights, strict=True)}
    models = {label: of_file.model for label, of_file in saved.items()}
    dataset = inputs.load_data(data)
    for of_file in saved.values():
        inputs.check_weights(of_file, dataset)
    protocol = inputs.on_test_images(protocol, images, 500, dataset)
    if protocol.n_test < LEAST:
        raise ValueError(f"a diagnosis needs {LEAST} test images at least; {dataset.name} has {protocol.n_test}")
    work = diagnosing.work(len(models), protocol, dataset.n_classes)
    folder = inputs.out_folder(out, f"diagnose-{weights[0].stem}" if len(weights) == 1 else "diagnose")
    with workers(threads) as pool, output.progress("attacks", work) as advance:
        test_images = LabelledImages(*judged_images(dataset, protocol, seed), pool, seed, advance)
        diagnosis = diagnosing.diagnose(models, test_images, protocol, dataset)
    repeat = output.command_line(
        "diagnose", *(path.name for path in weights), eps=eps, images=protocol.n_test, steps=steps, restarts=restarts,
        seed=seed, data=None if dataset.verified else dataset.name,
    )  # fmt: skip
    written = report.write(diagnosis, folder, repeat)
    output.show(diagnosis, as_json, report.on_screen(diagnosis, output.screen.width), *report.verdicts(diagnosis))
    output.list_written(folder, *written)


@command
def vacuity(
    weights: opt.Weights,
    images: Annotated[
        int | None, opt.at_least(1, "How many test images are used; 1000 if not given, or all if there are fewer.")
    ] = None,
    threads: opt.Threads = None,
    data: opt.Data = None,
    as_json: opt.AsJson = False,
) -> None:
    """Centre a model's last layer: predictions and loss stay the same, and Table 3's surrogate penalty becomes 0."""
    from minidbp.paper.vacuity import centre, compare, on_screen

    saved = _load(weights)
    original = saved.model
    centred = original.astype(np.float32)  # a copy
    centre(centred)
    dataset = inputs.load_data(data)
    inputs.check_weights(saved, dataset)
    n = inputs.on_test_images(Protocol(), images, 1000, dataset).n_test
    x, y = dataset.x_test[:n], dataset.y_test[:n]
    with workers(threads) as pool, output.progress("images", len(x)) as advance:
        comparison = compare(original, centred, x, y, pool, advance)
    output.show(comparison, as_json, on_screen(comparison))
