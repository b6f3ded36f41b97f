"""RSMQ for synchronous code: scripts, threads, Flask, Django under WSGI."""
