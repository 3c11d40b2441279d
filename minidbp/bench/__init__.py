"""How long a training step, its kernels and a start take on this machine, and what the machine could do at best."""
