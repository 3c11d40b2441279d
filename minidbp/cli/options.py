"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

Out = Annotated[Path | None, typer.Option(help="The folder for everything that is written; made if need be.")]
Seed = Annotated[int, typer.Option(help="The seed (of the first run); the same seed gives the same bits.")]
Threads = Annotated[int | None, typer.Option(help="Threads to use; one for each core if not given.")]
Data = Annotated[Path | None, typer.Option(help="The folder with MNIST's four files, if not the project's data/.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the figures as JSON on standard output.")]
ModelName = Annotated[str, typer.Option("--model", help="A, B or C, as in the paper's Table 1.")]
Lambda = Annotated[float, typer.Option("--lambda", help="The weight of the penalty; 0 is plain training.")]
Eps = Annotated[float, typer.Option(help="The attack's size, in pixel units (0 to 1).")]
Steps = Annotated[int, typer.Option(help="PGD's steps.")]
Restarts = Annotated[int, typer.Option(help="PGD's random starts.")]
PenaltyTarget = Annotated[str, typer.Option(help="The f whose Jacobian is penalised: logits or softmax.")]
Reduction = Annotated[str, typer.Option(help="Of the penalty over classes and pixels: mean or sum.")]
AttackLabel = Annotated[str, typer.Option(help="The label inside the attack: true, predicted or smoothed.")]
