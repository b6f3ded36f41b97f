"""The embedded server."""

from .breakage import Breakage
from .edits import Edit, StringEdit

EMBEDDED = {
    "start-leaves-its-server": Breakage(
        "a start of the embedded server that is cancelled does not stop it",
        (
            Edit(
                "EmbeddedServer.start", "self._guard is not None and not self._guard.is_up", "False"
            ),
        ),
        ("test_embedded.py::test_start_cancelled",),
    ),
    "data-for-all-to-read": Breakage(
        "everybody may read the embedded server's data",
        (StringEdit("_GUARD", "umask 077", ""),),
        ("test_embedded.py::test_files_are_private",),
    ),
    "guard-does-not-watch": Breakage(
        "the embedded server outlives its program",
        (
            StringEdit(
                "_GUARD", "read -r word <&3; while kill 0; kill -0 $$; do", "while false; do"
            ),
            StringEdit("_GUARD", "{ is_child && while", "{ while false && "),
        ),
        ("test_embedded.py::test_program_killed_while_it_starts",),
    ),
    "guard-trusts-the-pipe": Breakage(
        "the embedded server lives as long as a forked child of a killed program",
        (StringEdit("_GUARD", "do is_child || kill 0; done", "do :; done"),),
        ("test_embedded.py::test_gone_with_its_program",),
    ),
    "guard-ends-the-removal": Breakage(
        "a watcher of the embedded server ends the removal of its folder",
        (StringEdit("_GUARD", "trap '' TERM\nrm", "rm"),),
        ("test_embedded.py::test_gone_on_a_busy_machine",),
    ),
    "guard-is-not-told": Breakage(
        "the embedded server is stopped by the end of the pipe alone",
        (Edit("_Guard.terminate", "self._signal(signal.SIGTERM)", ""),),
        ("test_embedded.py::test_stopped_while_a_forked_child_lives",),
    ),
    "sibling-unnoticed": Breakage(
        "nothing is said when two processes of a program have an embedded server each",
        (Edit("EmbeddedTarget.open", "announce_server(self.server)", "pass"),),
        ("test_siblings.py::test_sibling", "test_siblings.py::test_private"),
    ),
    "dead-owner-is-a-sibling": Breakage(
        "a process is taken for a sibling although its embedded server is gone",
        (Edit("_list_other_owners", "_accepts(folder / path.name)", "True"),),
        ("test_siblings.py::test_dead",),
    ),
}
