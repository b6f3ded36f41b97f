"""The same programs on sets of servers, to which something happens now and then."""

from aiorsmq import NotConfirmed
from hypothesis.stateful import invariant

from chaos.disturbed import DisturbedPrograms


class SetPrograms(DisturbedPrograms):
    """Every so many steps something happens to the set, as often as `site.events` says.

    Chance has no part in it: so it happens in each run.
    """

    events = 0
    every = 25

    @classmethod
    def summary(cls):
        return f", {cls.events} events"

    @invariant()
    def a_step_is_done(self):
        super().a_step_is_done()
        cls = type(self)
        if cls.events < self.site.events and cls.steps >= cls.every * (cls.events + 1):
            cls.events += 1
            self.something_happens()

    def something_happens(self):
        raise NotImplementedError


class ConfirmedPrograms(SetPrograms):
    """What is sent is confirmed by a replica. It hangs until a send was not confirmed.

    Such a send is stored all the same: it is asked about again, at times over another connection,
    and until it is confirmed.
    """

    unconfirmed = 0

    @classmethod
    def summary(cls):
        return f"{super().summary()}, {cls.unconfirmed} sends confirmed later"

    def something_happens(self):
        self.site.hang()

    def teardown(self):
        self.site.go_on()
        super().teardown()

    def run(self, work):
        result, now = super().run(work)
        several = isinstance(result, list)
        return [self.confirm(each) for each in result] if several else self.confirm(result), now

    def confirm(self, result):
        if isinstance(result, NotConfirmed) and self.site.hangs:
            type(self).unconfirmed += 1
            if self.unconfirmed % 2:
                self.site.kill_clients()
                self.killed = True  # the client's other connections, too
                result = self.ask_again(result)
                assert isinstance(result, NotConfirmed)
            self.site.go_on()
        for _ in range(100):
            if not isinstance(result, NotConfirmed):
                return result
            result = self.ask_again(result)
        raise result

    def ask_again(self, error):
        try:
            return self.runner.run(error.retry())
        except NotConfirmed as again:
            return again

    def stored(self, at, now, id, *message):
        assert self.site.has_copy_of(at, id)
        return super().stored(at, now, id, *message)


class SentinelPrograms(SetPrograms):
    """Behind sentinels, which make another server the primary."""

    def something_happens(self):
        self.site.fail_over()
        self.killed = True


class ClusterPrograms(SetPrograms):
    """In a cluster. Node rsmq can only send there."""

    def __init__(self):
        super().__init__()
        self.moves = False

    def something_happens(self):
        """The slot moves, or moves while the client makes its next calls, or a replica takes
        over.
        """
        match self.events % 3:
            case 0:
                self.site.fail_over()
            case 1:
                self.moves = True
            case 2:
                self.site.move()

    def run(self, work):
        if not self.moves:
            return super().run(work)
        self.moves = False
        with self.site.moving():
            return super().run(work)

    def node_receives(self):
        """Not a rule here: its scripts have keys of other slots."""

    def node_settles(self):
        """Likewise."""
