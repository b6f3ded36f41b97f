"""The same programs on sets of servers, whose servers change between two steps or during one."""

from hypothesis.stateful import precondition, rule

from chaos.disturbed import DisturbedPrograms
from chaos.draws import rarely


class SentinelPrograms(DisturbedPrograms):
    """Behind sentinels, which make another server the primary."""

    failovers = 0
    most = 3

    @classmethod
    def said(cls):
        return f", {cls.failovers} failovers"

    @precondition(lambda self: self.failovers < self.most)
    @rule(really=rarely)
    def another_becomes_the_primary(self, really):
        if really:
            self.site.fail_over()
            type(self).failovers += 1
            self.killed = True
