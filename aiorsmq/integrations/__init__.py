"""Clients, streams and workers inside web frameworks."""
