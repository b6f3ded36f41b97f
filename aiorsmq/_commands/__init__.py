"""The Python half of each command, by stage of a message's life: born, handed out, settled, dead;
and the queues.
"""
