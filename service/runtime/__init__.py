"""How things run: channels between stages, the pool of worker processes, the arena that they share.

Rules: nothing is imported here. A worker imports this package, and must see neither asyncio nor
uvloop; so ask for the module that you need (`service.runtime.pool`, `.arena`, `.channel`).
"""
