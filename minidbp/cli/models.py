"""Commands about models: train one, attack one, tell robust ones from those that hide their gradients."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from minidbp.cli.app import at_least, command, compile_kernels, fail, messages, progress, screen, told_where
from minidbp.cli.options import (
    AsJson,
    AttackLabel,
    Data,
    Eps,
    Lambda,
    ModelName,
    Out,
    PenaltyTarget,
    Reduction,
    Restarts,
    Seed,
    Steps,
    Threads,
)


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
    penalty_target: PenaltyTarget = "logits",
    reduction: Reduction = "mean",
    eps: Annotated[
        float | None, typer.Option("--adversarial", help="Adversarial training with FGSM of this eps (section 4.2).")
    ] = None,
    out: Out = None,
    threads: Threads = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Train one model by the paper's protocol and judge it: clean, FGSM and PGD.

    Writes NAME.json (protocol, every epoch, accuracies) and NAME.safetensors (weights, for `minidbp attack`) to --out,
    by default out/train; NAME ends in a hash of all settings.  Stopped, the same command goes on from the last epoch.
    """
    from minidbp.diagnosis.judge import JUDGE
    from minidbp.sweeps import executors, sweep
    from minidbp.sweeps.execute import mnist_in
    from minidbp.sweeps.runs import Run, find, labels
    from minidbp.training import Protocol

    at_least(0, seed=seed)
    at_least(1, epochs=epochs, images=images, threads=threads)
    changes: dict[str, Any] = {} if epochs is None else {"max_epochs": epochs, "stop_rule": "none"}
    if eps is not None:
        changes |= {"eps": eps, "adversarial_training": True}
    protocol = Protocol(
        n_train=images, penalty=penalty, penalty_target=penalty_target, reduction=reduction, n_pgd=1000, **changes
    )
    run = Run(model, lam, seed, protocol)
    mnist_in(data)  # before anything is made
    folder = sweep.prepare(out or Path("out") / "train").resolve()
    ending = sweep.train_all(
        [run], folder, executors.in_process, JUDGE,
        title=f"training {model}", data=data, threads=threads, console=messages,
    )  # fmt: skip
    if ending.stopped:
        fail("stopped: the same command goes on from the last whole epoch, if there was one", 130)
    if ending.diverged:
        fail("; ".join(ending.diverged), code=1)
    result = find(run, folder)
    if as_json and result:
        typer.echo(json.dumps(result.as_dict(), indent=1))
    elif result:
        screen.print(result.in_words(labels([run])[run]), highlight=False, soft_wrap=True)
    told_where(out or Path("out") / "train", f"{run.name}.json", f"{run.name}.safetensors")


@command
def attack(
    weights: Annotated[
        Path, typer.Argument(help="A .safetensors file that train or a table wrote.", show_default=False)
    ],
    eps: Eps = 0.3,
    images: Annotated[int, typer.Option(help="How many test images are judged, clean and under FGSM.")] = 10_000,
    pgd_images: Annotated[int, typer.Option(help="How many of them PGD attacks.")] = 1000,
    steps: Steps = 40,
    step: Annotated[float, typer.Option(help="PGD's step, in pixel units.")] = 0.01,
    restarts: Restarts = 1,
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
    from minidbp.diagnosis import attack as attacking
    from minidbp.nn import load_model
    from minidbp.sweeps import sweep
    from minidbp.training import Protocol

    at_least(0, seed=seed)
    at_least(1, images=images, pgd_images=pgd_images, steps=steps, restarts=restarts, threads=threads)
    protocol = Protocol(
        eps=eps, attack_label=attack_label, n_test=images, n_pgd=min(images, pgd_images), pgd_steps=steps,
        pgd_step=step, pgd_restarts=restarts,
    )  # fmt: skip
    load_model(weights)  # before anything is made, so that a bad file leaves no folder
    mnist = load_mnist(data)
    compile_kernels()
    folder = sweep.prepare(out or Path("out") / f"attack-{weights.stem}")
    result = attacking.attack(weights, protocol, seed, folder, mnist, threads=threads, console=messages)
    if as_json:
        typer.echo(json.dumps(asdict(result), indent=1))
    else:
        screen.print(
            f"model {result.model}, eps {eps:g}: clean {result.clean:.2f}%, FGSM {result.fgsm:.2f}%, "
            f"PGD {result.pgd:.2f}%",
            highlight=False,
        )
    told_where(folder, "attack.json", "images.png")


@command
def diagnose(
    weights: Annotated[
        list[Path], typer.Argument(help="One or more .safetensors files of train or of a table.", show_default=False)
    ],
    eps: Eps = 0.3,
    images: Annotated[int, typer.Option(help="How many test images every attack gets.")] = 500,
    steps: Steps = 40,
    restarts: Restarts = 3,
    seed: Seed = 0,
    out: Out = None,
    threads: Threads = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Robust, or gradients masked?  Many attacks on the same images, the worst case of each, a verdict by stated rules.

    With several files also the transfer of adversarial images between the models.  Writes diagnosis.json,
    diagnosis.md and pictures to --out, by default out/diagnose-NAME, or out/diagnose for several.
    """
    from minidbp.data import load_mnist
    from minidbp.diagnosis import diagnose as diagnosing
    from minidbp.diagnosis import report
    from minidbp.nn import load_model
    from minidbp.sweeps import sweep
    from minidbp.training import Protocol, workers
    from minidbp.training.environment import environment

    at_least(0, seed=seed)
    at_least(1, steps=steps, restarts=restarts, threads=threads)
    at_least(100, images=images)  # with fewer, sampling noise hides everything
    if not 0 < eps <= 1:
        raise ValueError(f"--eps must lie above 0 and be at most 1, the range of pixels; got {eps:g}")
    protocol = Protocol(eps=eps, n_pgd=images, pgd_steps=steps, pgd_restarts=restarts)
    models = {label: load_model(path)[0] for label, path in zip(diagnosing.labels_of(weights), weights, strict=True)}
    mnist = load_mnist(data)
    name = f"diagnose-{weights[0].stem}" if len(weights) == 1 else "diagnose"
    folder = sweep.prepare(out or Path("out") / name)
    compile_kernels()
    with workers(threads) as pool, progress("attacks", diagnosing.work(len(models), protocol)) as done:
        test_images = diagnosing.LabelledImages(mnist.x_test[:images], mnist.y_test[:images], pool, seed, done)
        diagnosis = diagnosing.diagnose(models, test_images, protocol)
    diagnosis = replace(diagnosis, environment=environment())
    as_typed = f"minidbp diagnose {' '.join(path.name for path in weights)} --eps {eps:g} --images {images} " + (
        f"--steps {steps} --restarts {restarts} --seed {seed}"
    )
    written = report.write(diagnosis, folder, as_typed)
    if as_json:
        typer.echo(json.dumps(asdict(diagnosis), indent=1))
    else:
        screen.print(report.on_screen(diagnosis))
        for sentence in report.verdicts(diagnosis):
            screen.print(sentence, highlight=False, markup=False)
    told_where(folder, *written)


@command
def vacuity(
    weights: Annotated[
        Path, typer.Argument(help="A .safetensors file that train or a table wrote.", show_default=False)
    ],
    images: Annotated[int, typer.Option(help="How many test images are looked at.")] = 1000,
    threads: Threads = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Centre a model's last layer: the same predictions and loss, and Table 3's surrogate penalty is 0."""
    from minidbp.data import load_mnist
    from minidbp.nn import load_model
    from minidbp.paper.vacuity import centre, compare, on_screen
    from minidbp.training import workers

    at_least(1, images=images, threads=threads)
    original, centred = (load_model(weights)[0] for _ in range(2))
    centre(centred)
    mnist = load_mnist(data)
    compile_kernels()
    x, y = mnist.x_test[:images], mnist.y_test[:images]
    with workers(threads) as team, progress("images", len(x)) as done:
        found = compare(original, centred, x, y, team, done)
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=1))
    else:
        screen.print(on_screen(found))
