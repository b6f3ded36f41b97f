"""What a worker does with a message: run its handler, hold its lease, settle it."""
