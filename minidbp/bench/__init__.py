"""How fast minidbp is, and where the time goes: what `minidbp bench` and benchmarks/peers.py measure."""
