"""Consumers of one queue: who waits for a message, and when to ask the server."""
