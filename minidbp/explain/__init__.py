"""One training step on one image, taken apart: what `minidbp explain` computes and shows."""
