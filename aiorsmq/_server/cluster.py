"""A cluster: which node takes a queue's calls, and where announcements are heard.

Each namespace has a hash tag, so all of its keys are in one slot, and its `Node` has a route to the
server of this slot. What tells of a change: MOVED and ASK, which the retrier follows at once; and
the nodes' replies to CLUSTER SLOTS, the map, asked for in the background after any other failure,
and now and then.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

from redis.exceptions import ConnectionError, ResponseError

from .._protocol import check_tag
from ..errors import ClientClosed, UnsupportedServer
from .call import Call
from .cluster_target import ClusterTarget
from .failures import CONNECT_ERRORS, is_not_yet, redirection, unsupported_reason
from .futures import retrieve_error
from .lane import Lane
from .reach import Reach
from .route import Hop, Route, Routes
from .server import Server
from .slots import Address, SlotMap, parse_slots, slot_of
from .tasks import Tasks
from .wire import Argument

MAP_PAUSE: Final = 0.2
"""Seconds between two looks at the map, however much goes wrong."""
MAP_AGE: Final = 30.0
"""Seconds after which the map is looked at though nothing has gone wrong: the node that is listened
to may have left the cluster and be well."""
HEDGE: Final = 0.5
"""Seconds that a node has to reply with the map, before another is asked as well."""
LANE_PATIENCE: Final = 1.0
"""Seconds to wait for the lane to a node before looking whether it still has the slot."""

_logger = logging.getLogger("aiorsmq.client")


class ClusterRoute(Route):
    """The way to the node that has a slot.

    Args:
        nowhere: stands for the node while none is known to have the slot.
    """

    def __init__(self, slot: int, nowhere: Server, routes: ClusterRoutes) -> None:
        super().__init__(nowhere)
        self.slot: int = slot
        self._nowhere = nowhere
        self._routes = routes

    def lead_to(self, server: Server | None) -> None:
        """Have a server take the calls; None: nobody does."""
        before = self.server
        self.server = self._nowhere if server is None else server
        if self._nowhere not in (before, self.server) and before is not self.server:
            text = "slot %d is at %s now, it was at %s"
            _logger.info(text, self.slot, self.server.address, before.address)

    async def open(self, call: Call) -> tuple[Server, Lane]:
        """See `Route.open`. A node that hangs is given up once the slot is another's."""
        while True:
            if self.server is self._nowhere:
                await asyncio.shield(self._routes.look())
            server = self.server
            if server is self._nowhere:
                server.calls.failure = ConnectionError(f"no node has the slot {self.slot}")
                raise server.calls.failure
            try:
                async with asyncio.timeout(LANE_PATIENCE):
                    return server, await server.connector(call).lane()
            except asyncio.TimeoutError:
                await asyncio.shield(self._routes.look())

    def redirect(self, error: Exception, server: Server) -> Hop | None:
        """See `Route.redirect`."""
        reply = redirection(error)
        if reply is None:
            return None
        target = self._routes.redirected(reply.host, reply.port, server)
        if not reply.is_ask:
            self.lead_to(target)
            self.suspect()  # other slots may have moved as well
        return Hop(target, is_asking=reply.is_ask)

    def suspect(self) -> None:
        """See `Route.suspect`."""
        self._routes.look()

    async def ask_others(self, *command: Argument) -> list[Any]:
        """See `Route.ask_others`."""
        return await self._routes.ask_others(self.server, command)


class ClusterRoutes(Routes):
    """The nodes of a cluster as servers, and the ways to them.

    Args:
        make_server: makes the server of a target, with `on_silence`.
        on_reached: called with the first connection of all.
        on_departure: called when the node that is listened to is in the cluster no more.
    """

    def __init__(
        self,
        target: ClusterTarget,
        tasks: Tasks,
        reach: Reach,
        *,
        make_server: Callable[..., Server],
        on_reached: Callable[[Lane], None],
        on_departure: Callable[[], None],
    ) -> None:
        self._target = target
        self._tasks = tasks
        self._reach = reach
        self._make_server = partial(make_server, on_silence=self.look)
        self._on_reached = on_reached
        self._on_departure = on_departure
        self._nowhere = self._make_server(target)
        self._by_slot: dict[int, ClusterRoute] = {}
        self._by_address: dict[Address, Server] = {}
        self._map: SlotMap | None = None
        self._looking: asyncio.Task[None] | None = None
        self._looked_at = -math.inf
        self._next_look: asyncio.TimerHandle | None = None
        self._closed = False

    def route(self, ns: str) -> Route:
        """See `Routes.route`. Raises InvalidParameterValue for a namespace without a hash tag."""
        slot = slot_of(check_tag(ns))
        if slot not in self._by_slot:
            route = self._by_slot[slot] = ClusterRoute(slot, self._nowhere, self)
            self._lead(route)
        return self._by_slot[slot]

    def servers(self) -> Iterable[Server]:
        return (self._nowhere, *self._by_address.values())

    def redirected(self, host: str, port: int, server: Server) -> Server:
        """The server that another one has named. Without a host that is known, it has the same
        one."""
        if host in ("", "?"):
            nodes = self._by_address.items()
            host = next((address[0] for address, node in nodes if node is server), "")
        return self._server_at(self._target.remap(host, port))

    def look(self) -> asyncio.Task[None]:
        """Look at the map, in the background, unless that is being done. Awaiting the task, which
        must be shielded, raises redis-py's errors if no node replies."""
        if self._looking is None or self._looking.done():
            self._looking = self._tasks.start(self._look())
            self._looking.add_done_callback(retrieve_error)
        return self._looking

    async def ask_others(self, server: Server, command: Sequence[Argument]) -> list[Any]:
        """The replies of all nodes but one, as far as they come within LANE_PATIENCE."""
        nodes = {self._server_at(address) for address in self._target.nodes} - {server}
        asking = [self._tasks.start(_ask_server(node, command)) for node in nodes]
        if not asking:
            return []
        for task in asking:
            task.add_done_callback(retrieve_error)
        replied, late = await asyncio.wait(asking, timeout=LANE_PATIENCE)
        for task in late:
            task.cancel()
        return [task.result() for task in replied if task.exception() is None]

    async def aclose(self) -> None:
        self._closed = True
        if self._next_look is not None:
            self._next_look.cancel()
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
        await super().aclose()

    async def _look(self) -> None:
        if self._closed:
            raise ClientClosed
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0, self._looked_at + MAP_PAUSE - loop.time()))
        try:
            self._take(await self._ask_around())
            self._nowhere.calls.failure = None
        except Exception as error:
            self._nowhere.calls.failure = error
            raise
        finally:
            self._looked_at = loop.time()
            if self._next_look is not None:
                self._next_look.cancel()
            if not self._closed:
                # A node that hangs, loses its slots and wakes up again still takes calls.
                pause = MAP_PAUSE if self._hears_nothing() else MAP_AGE
                self._next_look = loop.call_later(pause, self.look)

    def _take(self, slots: SlotMap) -> None:
        self._map = slots
        self._target.nodes = slots.nodes
        for route in self._by_slot.values():
            self._lead(route)
        owners = {route.server for route in self._by_slot.values()}
        for server in self._by_address.values():
            if server not in owners:
                self._tasks.start(server.retire())
        if self._target.listening_at not in (None, *slots.nodes):
            self._on_departure()

    def _hears_nothing(self) -> bool:
        """Whether a node that has slots may hang."""
        lanes = [route.server.calls.current() for route in self._by_slot.values()]
        return any(lane is not None and lane.is_silent() for lane in lanes)

    def _lead(self, route: ClusterRoute) -> None:
        if self._map is not None:
            owner = self._map.owner(route.slot)
            route.lead_to(None if owner is None else self._server_at(owner))

    def _server_at(self, address: Address) -> Server:
        if address not in self._by_address:
            if self._closed:
                raise ClientClosed
            self._by_address[address] = self._make_server(self._target.node(address))
        return self._by_address[address]

    async def _ask_around(self) -> SlotMap:
        """The first map that a node replies with. A node that hangs holds this up for HEDGE."""
        nodes = _shuffled(self._target.nodes)
        nodes.sort(key=self._is_heard)
        waiting = [*_shuffled(set(self._target.startup).difference(nodes)), *nodes]
        asking: set[asyncio.Task[SlotMap]] = set()
        errors: list[BaseException] = []
        try:
            while waiting or asking:
                if waiting:
                    asking.add(task := self._tasks.start(self._ask_node(waiting.pop())))
                    task.add_done_callback(retrieve_error)
                replied, asking = await asyncio.wait(
                    asking,
                    timeout=HEDGE if waiting else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in replied:
                    if (error := task.exception()) is None:
                        return task.result()
                    errors.append(error)
        finally:
            for task in asking:
                task.cancel()
        refusals = (error for error in errors if not isinstance(error, CONNECT_ERRORS))
        raise next(refusals, errors[-1])

    def _is_heard(self, address: Address) -> bool:
        """Whether there is a connection already, to a node that replies."""
        server = self._by_address.get(address)
        lane = None if server is None else server.calls.current()
        return lane is not None and not lane.is_silent()

    async def _ask_node(self, address: Address) -> SlotMap:
        """The map as one node knows it. Raises redis-py's errors, and UnsupportedServer."""
        server = self._by_address.get(address)
        lane = None if server is None else server.calls.current()
        if lane is not None:
            return await self._ask_for_slots(lane, address)
        lane = Lane(await self._target.node(address).open(self._tasks))
        try:
            if not self._reach.ever:
                self._reach.note()
                self._on_reached(lane)
            return await self._ask_for_slots(lane, address)
        finally:
            await lane.aclose()

    async def _ask_for_slots(self, lane: Lane, address: Address) -> SlotMap:
        try:
            reply = await lane.ask("CLUSTER", "SLOTS")
        except ResponseError as error:
            if reason := unsupported_reason(error):
                raise UnsupportedServer(reason) from None
            if is_not_yet(error):  # a script that goes on for too long
                raise ConnectionError(str(error)) from None
            raise
        if not reply:
            raise ConnectionError(f"{address[0]}:{address[1]} knows no slots")
        return parse_slots(reply, address[0], self._target.remap)


async def _ask_server(server: Server, command: Sequence[Argument]) -> Any:
    lane = await server.calls.lane()
    return await lane.ask(*command)


def _shuffled(addresses: Iterable[Address]) -> list[Address]:
    """So that not all clients ask the same node."""
    shuffled = list(addresses)
    random.shuffle(shuffled)
    return shuffled
