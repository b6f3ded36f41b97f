"""A cluster: slots that move, nodes that come and go, and their clocks."""

from .breakage import Breakage
from .edits import Edit

CLUSTER = {
    "ask-without-asking": Breakage(
        "a call that a node sends to another for this once comes without ASKING",
        (Edit("Retrier._evaluate", "hop is not None and hop.is_asking", "False"),),
        ("sets/test_cluster.py::test_slot_on_its_way",),
    ),
    "moved-is-not-kept": Breakage(
        "nobody notes that a slot has moved: each call is told so again",
        (
            Edit("ClusterRoute.redirect", "self.lead_to(target)", "pass"),
            Edit("ClusterRoute.redirect", "self.suspect()", "pass"),
        ),
        ("sets/test_cluster.py::test_moved_once",),
    ),
    "nobody-looks-at-the-map": Breakage(
        "a replica that has taken over is not looked for",
        (Edit("ClusterRoute.suspect", None, "pass"),),
        ("sets/test_cluster.py::test_fault_under_load[asyncio-killed]",),
    ),
    "one-clock-for-all-nodes": Breakage(
        "ids carry the time of a node that does not store them",
        (
            Edit(
                "ClusterRoutes._server_at",
                "return self._by_address[address]",
                """
                self._by_address[address].clock = self._nowhere.clock
                return self._by_address[address]
                """,
            ),
        ),
        ("sets/test_cluster.py::test_clocks_that_differ",),
    ),
    "deaf-at-a-node-that-has-left": Breakage(
        "the subscription stays at a node that has left the cluster",
        (Edit("ClusterRoutes._take", "self._on_departure()", "pass"),),
        ("sets/test_cluster.py::test_listening_node_leaves",),
    ),
}
