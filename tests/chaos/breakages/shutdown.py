"""The end of streams, and the web server's shutdown that calls for it."""

from .breakage import Breakage
from .edits import Edit

SHUTDOWN = {
    "waiting-streams-go-on": Breakage(
        "`end_streams()` ends only streams that are made later",
        (Edit("QueueCore.end_streams", "line.audience.end_streams()", "pass"),),
        (
            "test_stream.py::TestEndStreams::test_those_that_wait",
            "test_stream.py::TestEndStreams::test_a_claim_in_flight",
        ),
    ),
    "later-streams-go-on": Breakage(
        "`end_streams()` ends only streams that are open",
        (Edit("Audience.open_stream", "self._node.home.has_ended_streams", "False"),),
        ("test_stream.py::TestEndStreams::test_later_ones",),
    ),
    "streams-end-from-anywhere": Breakage(
        "`end_streams()` does not look at the event loop that it is called in",
        (Edit("AsyncRSMQ.end_streams", "home.loop()", "pass"),),
        ("test_stream.py::TestEndStreams::test_in_another_thread",),
    ),
    "signals-are-kept": Breakage(
        "a signal begins the shutdown, and does not reach the server",
        (
            Edit(
                "Shutdown._on_signal",
                "self._previous_handlers[signal.Signals(number)](number, frame)",
                "None",
            ),
        ),
        ("integrations/test_shutdown.py::TestSignals::test_begins",),
    ),
    "a-newer-handler-is-lost": Breakage(
        "the end of a shutdown replaces a signal handler that was installed since",
        (Edit("Shutdown.__exit__", "signal.getsignal(number) == self._on_signal", "True"),),
        ("integrations/test_shutdown.py::TestSignals::test_leaves_a_newer_handler",),
    ),
    "a-signal-that-nobody-handles": Breakage(
        "a signal that would kill the program is taken as one that a server handles",
        (Edit("Shutdown.__enter__", "callable(handler)", "True"),),
        ("integrations/test_shutdown.py::TestSignals::test_nobody_handles_it",),
    ),
    "a-step-waits-on": Breakage(
        "a stream that waits for its next item does not end when the shutdown begins",
        (Edit("Shutdown.begin", "scope.cancel()", "pass"),),
        ("integrations/test_shutdown.py::TestStream::test_ends",),
    ),
    "nobody-does-the-jobs": Breakage(
        "a web app whose worker has died goes on",
        (Edit("Service._terminate", "signal.raise_signal(signal.SIGTERM)", "pass"),),
        ("integrations/test_service.py::TestDeath::test_ends_the_program",),
    ),
    "ready-while-it-stops": Breakage(
        "an app that is stopping says that it is ready",
        (Edit("Service._trouble", "self.shutdown.has_begun", "False"),),
        ("integrations/test_service.py::TestReadiness::test_a_shutdown",),
    ),
}
