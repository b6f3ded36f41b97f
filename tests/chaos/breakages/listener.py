"""The listener, which subscribes to what producers announce."""

from .breakage import Breakage
from .edits import Edit, LuaEdit

LISTENER = {
    "release-is-not-announced": Breakage(
        "a message that is made visible is not announced",
        (LuaEdit("change_visibility", "announce(ARGV[1], KEYS[1])", ""),),
        ("chaos/test_wake_up.py::test_visibility_of_0",),
    ),
    "plain-publish": Breakage(
        "the announcement comes before the writes, and may fail",
        (
            LuaEdit("send", "announce(ARGV[4], KEYS[1])", ""),
            LuaEdit(
                "send",
                "for i = 1, last, 1000 do",
                """
                if ARGV[4] ~= '' then redis.call('PUBLISH', ARGV[4], 0) end
                for i = 1, last, 1000 do
                """,
            ),
        ),
        (
            "test_announcements.py::test_sends_without_the_right_to_announce",
            "permissions/test_permissions.py::test_channel[producer]",
        ),
    ),
    "listener-is-not-closed": Breakage(
        "closing leaves the listener to itself",
        (Edit("Engine.aclose", "await self.listener.aclose()", "pass"),),
        ("test_client.py::test_closing_takes_no_time",),
    ),
    "closed-on-subscribe-is-an-outage": Breakage(
        "a proxy that closes the connection on SUBSCRIBE gets a new one again and again",
        (
            Edit(
                "Listener._listen",
                "self._pause(error, opened=wire is not None)",
                "self._pause(error, opened=False)",
            ),
        ),
        ("test_announcements.py::TestUnknown::test_subscribe_behind_a_proxy",),
    ),
    "listens-once": Breakage(
        "a listener that has lost its connection makes no other",
        (Edit("Listener._listen", "self._pause(error, opened=wire is not None)", "return"),),
        (
            "test_announcements.py::test_killed",
            "chaos/test_wake_up.py::test_listener_killed_just_before",
        ),
    ),
    "unknown-subscribe-is-an-outage": Breakage(
        "a server that knows no SUBSCRIBE gets a new connection again and again",
        (
            Edit(
                "Listener._listen",
                "self._pause(error, opened=wire is not None)",
                "self._pause(error, opened=False)",
            ),
            Edit("Listener._refuse", "self._next_connect_at = self._now() + RETRY_REFUSED", "pass"),
        ),
        ("test_announcements.py::TestUnknown::test_subscribe_on_a_server",),
    ),
    "no-ping-no-listening": Breakage(
        "a proxy that knows no PING costs a connection for each",
        (
            Edit("Listener._refuse", "self._refusals[command] = math.inf", "self._fail(error)"),
            Edit("Listener._on_lost", "command not in self._supported_pings", "False"),
        ),
        ("test_announcements.py::TestUnknown::test_ping",),
    ),
    "one-refused-channel-stops-all": Breakage(
        "a channel that is refused keeps the client from listening to any",
        (
            Edit(
                "Listener._refuse",
                "self._refusals[command] = self._now() + RETRY_REFUSED",
                """
                self._next_connect_at = math.inf
                self._fail(error)
                """,
            ),
        ),
        ("test_announcements.py::test_one_channel_is_refused",),
    ),
    "refused-for-ever": Breakage(
        "a channel that was refused once is never tried again",
        (
            Edit(
                "Listener._refuse",
                "self._refusals[command] = self._now() + RETRY_REFUSED",
                "self._refusals[command] = math.inf",
            ),
        ),
        ("test_announcements.py::test_one_channel_is_refused",),
    ),
    "no-watchdog-of-the-listener": Breakage(
        "a listener's connection that is silent is kept",
        (Edit("Listener._check_silence", "raise TimeoutError(...)", "self._pinged_at = None"),),
        ("chaos/test_network.py::test_black_hole[forgotten]",),
    ),
    "no-resync": Breakage(
        "a subscription that is confirmed is no news",
        (
            Edit(
                "Listener._dispatch",
                "self._flags.get(channel, ())",
                'self._flags.get(channel, ()) if kind == b"message" else ()',
            ),
        ),
        (
            "chaos/test_wake_up.py::test_subscribing_while_it_is_sent",
            "test_announcements.py::test_killed",
        ),
    ),
    "healthy-without-a-server": Breakage(
        "nobody looks for the server when its connection is lost",
        (
            Edit("QueueCores.look_again", "core.look_again()", "pass"),
            Edit("Listener._pause", "flag.set()", "pass"),
        ),
        ("test_receive.py::TestHealth::test_a_worker_whose_server_is_killed",),
    ),
}
