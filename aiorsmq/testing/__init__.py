"""A real server, time that can be advanced, and drained queues, for tests."""
