"""The same programs with dead letters: policies, deaths, what is said of them, and the way back."""

from aiorsmq import InvalidParameterValue, NoDeadLetterQueue, QueueDoesNotExist
from hypothesis import strategies as st
from hypothesis.stateful import rule

from chaos.draws import fence_of, handles, ms, ms_of, names, policies, seconds
from chaos.machine import Programs
from chaos.model import agrees


class DyingPrograms(Programs):
    """The client's verbs for messages that move from one queue to another."""

    @rule(at=names, policy=policies)
    def set_policy(self, at, policy):
        name, most = self.read(at, policy)
        model = self.models[at]
        result, now = self.run(
            self.queues[at].set_attributes(dead_letter_queue=name or "", max_receives=most)
        )
        if name and model.exists and model.closes_a_circle(name):
            assert isinstance(result, InvalidParameterValue)
        elif not self.is_refused(at, result):
            model.change(now)
            model.let_die(now, name, most)

    @rule(at=names, most=st.integers(0, 3))
    def set_max_receives(self, at, most):
        """0 takes it away."""
        result, now = self.run(self.queues[at].set_attributes(max_receives=most))
        if not self.is_refused(at, result):
            self.models[at].change(now, max_receives=most)
            if most == 0:
                del self.models[at].attributes["max_receives"]

    @rule(
        at=names,
        some=st.lists(handles, min_size=1, max_size=6, unique_by=lambda message: message.id),
    )
    def reject(self, at, some):
        """With receipts of either queue."""
        fences = {message.id.encode(): fence_of(message) for message in some}
        results, now = self.run(
            self.queues[at]._core.bury([message._record for message in some], "hopeless")
        )
        model = self.models[at]
        if not model.exists:
            assert results == [None] * len(some)
        elif not model.has_policy:
            assert isinstance(results, NoDeadLetterQueue)
        else:  # what a repetition finds there, or no longer anywhere, it takes for its own work
            perhaps = (
                set(model.dead.messages if model.dead else fences.keys() - model.messages)
                if self.unsure
                else ()
            )
            for (id, death), result in zip(
                model.bury(now, fences, "hopeless").items(), results, strict=True
            ):
                assert result == death or id in perhaps

    @rule(at=names, named=st.booleans(), limit=st.none() | st.integers(1, 5))
    def redrive(self, at, named, limit):
        to = self.read(at, (True, None))[0] if named else None

        async def all_of_them():
            return [moved async for moved in self.queues[at].redrive(to, limit=limit)]

        result, now = self.run(all_of_them())
        if not self.models[at].exists:
            assert isinstance(result, QueueDoesNotExist)
            return
        moved = self.models[at].redrive(now, to, limit)
        assert isinstance(result, QueueDoesNotExist) if moved is None else result[-1] == moved

    @rule(at=names)
    def reasons(self, at):
        letters, _ = self.run(self.queues[at].reasons(1000))
        if self.is_refused(at, letters):
            return
        model = self.models[at]
        known = [id for id in model.in_order() if model.messages[id].body is not None]
        assert [letter.id.encode() for letter in letters] == known
        for letter in letters:
            stored = model.messages[letter.id.encode()]
            died, *rest = stored.reason or (stored.score, 0, "", "")
            assert agrees(ms_of(letter.died_at), died)
            assert [letter.raw, letter.receive_count, letter.queue, letter.reason] == [
                stored.body,
                *rest,
            ]

    @rule(
        at=names,
        message=handles,
        how=st.sampled_from(["delete", "extend", "release"]),
        seconds=seconds,
    )
    def settle_elsewhere(self, at, message, how, seconds):
        """With a receipt that may be of the other queue."""
        settler = self.queues[at]._core.settler
        if how == "delete":
            result, now = self.run(settled(settler.delete, message._record))
        else:
            settle = settler.release if how == "release" else settler.change_visibility
            result, now = self.run(settled(settle, message._record, ms(seconds)))
        self.settled(
            at,
            result,
            now,
            message.id.encode(),
            fence_of(message),
            None if how == "delete" else seconds,
        )


async def settled(settle, *args):
    return await settle(*args)
