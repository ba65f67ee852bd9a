"""Values and decisions: settings, ledger, planning, errors. No await, no I/O, no clock."""
