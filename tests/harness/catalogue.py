"""All faults, by name, in the order of the table."""

from __future__ import annotations

from tests.harness import ledger, lives, pools, powerloss, sweep
from tests.harness.fault import Fault

FAULTS: dict[str, Fault] = {
    fault.name: fault
    for part in (sweep, powerloss, ledger, pools, lives)
    for fault in part.faults()
}
