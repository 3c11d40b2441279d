"""The options of the commands, each with its help."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

# What is trained
ModelName = Annotated[str, Option("--model", help="A, B or C, as in the paper's Table 1.")]
Lambda = Annotated[float, Option("--lambda", help="The weight of the penalty; 0 is plain training.")]
Penalty = Annotated[
    str, Option(help="jacobian_l1 (eq. 3), summed_jacobian_l1 (Table 3), loss_gradient_l2 or loss_gradient_l1.")
]
PenaltyTarget = Annotated[str, Option(help="The f whose Jacobian is penalised: logits or softmax.")]
Reduction = Annotated[str, Option(help="The reduction of the penalty over classes and pixels: mean or sum.")]
Epochs = Annotated[int | None, Option(help="Exactly this many; without it, the paper's stop rule (about 20).")]
TrainingImages = Annotated[int, Option(help="How many training images to use.")]
Adversarial = Annotated[float | None, Option(help="Adversarial training with FGSM of this eps (section 4.2).")]
Seed = Annotated[int, Option(help="The seed (of the first run); the same seed gives the same bits.")]
Threads = Annotated[int | None, Option(help="Threads to use; one for each core if not given.")]

# A trained model and its attacks
Weights = Annotated[Path, Argument(help="A .safetensors file that train or a table wrote.", show_default=False)]
Eps = Annotated[float, Option(help="The attack's size, in pixel units (0 to 1).")]
Steps = Annotated[int, Option(help="PGD's steps.")]
Restarts = Annotated[int, Option(help="PGD's random starts.")]
AttackLabel = Annotated[str, Option(help="The label inside the attack: true, predicted or smoothed.")]
Image = Annotated[int, Option(help="The number of the test image, 0 to 9999 (0 is a 7, 3 is a 0).")]

# Files and output
Out = Annotated[Path | None, Option(help="The folder for all files that the command writes; made if missing.")]
Data = Annotated[Path | None, Option(help="The folder with MNIST's four files; the project's data/ if not given.")]
AsJson = Annotated[bool, Option("--json", help="Print the figures as JSON on standard output.")]
