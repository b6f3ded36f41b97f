"""What `python -m aiorsmq` does."""
