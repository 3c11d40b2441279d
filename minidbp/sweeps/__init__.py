"""Runs, their files, and the executors that train many of them.  Knows no table of the paper."""
