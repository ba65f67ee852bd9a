"""All faults, by name, in the order of the table."""

from __future__ import annotations

from tests.harness import (
    harassment,
    ledger,
    lives,
    mutants,
    pools,
    powerloss,
    retractions,
    sweep,
    troubles,
)
from tests.harness.fault import Fault

PARTS = (sweep, powerloss, ledger, pools, lives, retractions, troubles, harassment, mutants)
FAULTS: dict[str, Fault] = {fault.name: fault for part in PARTS for fault in part.faults()}
