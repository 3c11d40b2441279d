"""The options of the commands, each with its help, and a check of those that can be checked by themselves."""

from pathlib import Path
from typing import Annotated, Any

from typer import Argument, CallbackParam, Option

from minidbp.cli.app import fail
from minidbp.nn.models import N_PARAMETERS
from minidbp.robust.penalties import check_lambda

MOST_THREADS = 1024


def at_least(least: int, help: str, most: int | None = None) -> Any:
    """An option that is refused below `least` and above `most`, before anything is computed or written."""

    def check(option: CallbackParam, value: int | None) -> int | None:
        if value is not None and value < least:
            fail(f"{option.opts[0]} must be at least {least}; got {value}")
        if value is not None and most is not None and value > most:
            fail(f"{option.opts[0]} must be at most {most}; got {value}")
        return value

    return Option(help=help, callback=check)


def _model_name(option: CallbackParam, value: str | None) -> str | None:
    """The name of a model, which may be typed in small letters."""
    if value is not None and value.upper() not in N_PARAMETERS:
        fail(f"{option.opts[0]} must be one of {', '.join(N_PARAMETERS)}; got {value!r}")
    return value and value.upper()


def _lambda(value: float) -> float:
    try:
        check_lambda(value)
    except ValueError as error:
        fail(f"--{error}")
    return value


def path(option: str, help: str, must_exist: bool = False) -> Any:
    """An option that names a file or folder; an empty text is refused, which Path would take for the current folder."""

    def parse(text: str) -> Path:
        given = _not_empty(option, text)
        if must_exist and not given.exists():
            fail(f"{option} {text} does not exist")
        return given

    return Option(option, parser=parse, metavar="PATH", help=help)


def folder(help: str) -> Any:
    """An argument that names a folder."""
    return Argument(parser=lambda text: _not_empty("FOLDER", text), metavar="FOLDER", help=help, show_default=False)


def _not_empty(name: str, text: str) -> Path:
    if not text:
        fail(f"{name} must name a file or folder; got ''")
    return Path(text)


# What is trained
ModelName = Annotated[str, Option("--model", help="A, B or C, as in the paper's Table 1.", callback=_model_name)]
OwnModelName = Annotated[
    str | None,
    Option(
        "--model",
        help="A, B or C, as in Table 1; if not given, that of --weights, or C.",
        callback=_model_name,
    ),
]
Lambda = Annotated[float, Option("--lambda", help="The weight of the penalty; 0 is plain training.", callback=_lambda)]
Penalty = Annotated[
    str, Option(help="jacobian_l1 (eq. 3), summed_jacobian_l1 (Table 3), loss_gradient_l2 or loss_gradient_l1.")
]
PenaltyTarget = Annotated[str, Option(help="The f whose Jacobian is penalised: logits or softmax.")]
Reduction = Annotated[str, Option(help="The reduction of the penalty over classes and pixels: mean or sum.")]
Epochs = Annotated[int | None, at_least(1, "Train for exactly this many; if not given, the paper's stop rule decides.")]
TrainingImages = Annotated[
    int | None, at_least(1, "How many training images to use; if not given, all that are not for validation.")
]
Adversarial = Annotated[
    float | None, Option(help="Adversarial training with images of this eps (section 4.2). --attack alone implies 0.1.")
]
TrainingAttack = Annotated[
    str | None,
    Option(
        "--attack",
        help="What makes the images of --adversarial: fgsm (the default, as in the paper) or pgd (Madry et al. 2018).",
    ),
]
Seed = Annotated[int, at_least(0, "The seed; the same seed gives the same bits.")]
Threads = Annotated[int | None, at_least(1, "Threads to use; one for each core if not given.", MOST_THREADS)]

# A trained model and its attacks
Weights = Annotated[Path, Argument(help="A .safetensors file that train or a table wrote.", show_default=False)]
Eps = Annotated[float, Option(help="The attack's size, in pixel units (0 to 1).")]
Steps = Annotated[int, at_least(1, "PGD's steps.")]
Restarts = Annotated[int, at_least(1, "PGD's random starts.")]
AttackLabel = Annotated[str, Option(help="The label inside the attack: true, predicted or smoothed.")]
Image = Annotated[int, Option(help="The number of the test image, from 0 on (in MNIST, 0 is a 7 and 3 is a 0).")]

# Files and output
Out = Annotated[Path | None, path("--out", "The folder for all files that the command writes; made if missing.")]
MnistData = Annotated[
    Path | None,
    path("--data", "The folder with MNIST's four files; the project's data/ if not given.", must_exist=True),
]
Data = Annotated[
    Path | None,
    path(
        "--data",
        "A folder with four IDX files, or an .npz file with x, y and perhaps x_test, y_test; MNIST if not given.",
        must_exist=True,
    ),
]
AsJson = Annotated[bool, Option("--json", help="Print the figures as JSON on standard output.")]
