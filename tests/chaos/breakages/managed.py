"""Breakages of what managed services need."""

from .breakage import Breakage
from .edits import Edit

MANAGED = {
    "a-forgotten-connection-is-believed": Breakage(
        "a call on a connection that a balancer forgot takes five seconds",
        (
            Edit("Lane.call", "self._waiting_since - self._wire.heard_at > QUIET", "False"),
            Edit(
                "Lane.call_if_alive", "self._waiting_since - self._wire.heard_at > QUIET", "False"
            ),
        ),
        ("managed/test_idle.py::test_forgotten",),
    ),
    "a-pop-is-sent-in-doubt": Breakage(
        "a pop is lost with a connection that was forgotten",
        (Edit("Lane.call_if_alive", "self._doubt is None", "True"),),
        ("managed/test_idle.py::test_forgotten",),
    ),
    "the-old-connection-ends-at-once": Breakage(
        "calls in flight are lost when a connection is old",
        (Edit("Connector._renew", "await old.drain()", "pass"),),
        ("managed/test_connection_age.py::test_calls_in_flight",),
    ),
    "credentials-do-not-arrive": Breakage(
        "a connection stays logged in with a token that has been renewed",
        (Edit("Engine._log_in", "server.log_in(credentials)", "pass"),),
        ("managed/test_credentials.py::TestStreaming::test_renewed",),
    ),
    "one-client-a-provider": Breakage(
        "of several clients with one provider, one hears of its tokens",
        (Edit("_Relay.__call__", "list(self.followers)", "list(self.followers)[:1]"),),
        ("managed/test_credentials.py::TestStreaming::test_several_clients",),
    ),
    "a-script-is-always-sent": Breakage(
        "a user without EVAL cannot use what was loaded",
        (
            Edit(
                "retrier:_command",
                "bool(errors) and isinstance(errors[-1], NoScriptError)",
                "True",
            ),
        ),
        ("managed/test_scripts.py::test_loaded",),
    ),
}
