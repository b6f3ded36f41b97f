"""The commands of `python -m aiorsmq`."""
