"""What goes into the pool: pure functions of their arguments, so that each may run again.

A sub-task reads regions of the arena that nobody writes, writes regions that are its own, and
returns a small value. It holds nothing between calls but caches. Nothing here imports asyncio.

    blocks     a chunk of a sample file  → a block in the arena
    learn      rows and a state          → a state, and what is recorded of the rows
    report     what is recorded of rows  → metrics, and the text of the logs
    predict    a chunk and a model file  → the text of predictions
"""

WARM = "service.subtasks.warming:warm"
"""What the process runs first that the workers are forks of: the compiled kernels come from the cache, or go there."""
