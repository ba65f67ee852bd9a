"""The crash harness: it disturbs Headrace in every way that docs/reliability.md promises to bear, and compares.

    python -m tests.harness --seconds 3600 --seed 7

A *fault* is one way of disturbing (fault.py). A *round* of it is decided by one seed, and ends in what the oracle found
(oracle.py). The rest is one module a part: sweep (system calls), powerloss (disk states), ledger (random programs of
events), pools (workers), and for whole daemons (ordeal.py) lives, troubles, harassment and mutants. shim.c stands between a
process and its disk.
"""
