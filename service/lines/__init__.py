"""A job's lines: opened from what the journal says, run from end to end, one after the other."""
