"""How things last: disk, journal, checkpoints, logs, recovery. No asyncio."""
