"""One training step on one digit, taken apart: what `minidbp explain` computes and shows."""
