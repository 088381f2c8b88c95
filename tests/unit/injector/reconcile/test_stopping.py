"""A sidecar hears that its target stops, once its image says how, and only then."""

import anyio
import pytest

from byfahrer.engine.errors import RejectedError
from byfahrer.model import Status
from byfahrer.reconcile.stopping import Stopping, number
from lab.reconciling import ASKS, World

pytestmark = pytest.mark.anyio
TERM, HUP, QUIT = "15", "1", "3"


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Here(World):
    """A target with its sidecar, of an image that wants to be told."""

    def __init__(self, wanted="SIGUSR1", **policy):
        super().__init__(**policy)
        self.stopping = Stopping(self.engine, self.reconciler._policy)
        self.wanted = wanted

    async def served(self, **fields):
        self.key = self.engine.run("www", ASKS, **fields)
        await self.settle()
        (sidecar,) = self.engine.sidecars(self.key)
        if self.wanted:
            self.engine._set(sidecar.id, labels={**sidecar.labels, "sslterm.drain-signal": self.wanted})
        await self.see()
        return sidecar.id

    async def see(self):
        await self.settle()
        await self.look(self.key)
        self.stopping.seen(self.seen[-1])


async def test_the_targets_stop_signal_is_passed_on_as_its_image_says_with_no_other_call():
    here = Here()
    sidecar = await here.served()
    before = here.engine.calls.copy()
    await here.stopping.signalled(here.key, TERM)

    assert here.engine.killed == [(sidecar, "SIGUSR1")]
    assert here.engine.calls - before == {"kill": 1}


async def test_any_other_signal_is_no_stop():
    here = Here()
    await here.served()
    before = here.engine.calls.copy()
    for sent in (HUP, QUIT, "9", "", "x"):
        await here.stopping.signalled(here.key, sent)

    assert here.engine.killed == []
    assert here.engine.calls == before


async def test_a_target_may_have_another_stop_signal():
    here = Here("SIGUSR2")
    sidecar = await here.served(stop_signal="SIGQUIT")
    await here.stopping.signalled(here.key, TERM)
    assert here.engine.killed == []
    await here.stopping.signalled(here.key, QUIT)

    assert here.engine.killed == [(sidecar, "SIGUSR2")]


@pytest.mark.parametrize("wanted", ["", "SIGKILL", "SIGTERM", "10", "sigusr1", "SIGUSR1 "])
async def test_an_image_that_says_nothing_or_nonsense_is_told_nothing(wanted):
    here = Here(wanted)
    await here.served()
    await here.stopping.signalled(here.key, TERM)

    assert here.engine.killed == []


async def test_a_target_that_was_not_seen_yet_is_looked_up():
    here = Here()
    sidecar = await here.served()
    here.stopping = Stopping(here.engine, here.reconciler._policy)
    await here.stopping.signalled(here.key, TERM)

    assert here.engine.killed == [(sidecar, "SIGUSR1")]


async def test_a_sidecar_that_was_replaced_unseen_is_looked_up():
    here = Here()
    await here.served()
    before = here.stopping._known
    await here.engine.remove(here.engine.sidecars(here.key)[0].id)
    await here.settle()
    (now,) = here.engine.sidecars(here.key)
    here.engine._set(now.id, labels={**now.labels, "sslterm.drain-signal": "SIGUSR2"})
    here.stopping._known = before
    await here.stopping.signalled(here.key, TERM)

    assert here.engine.killed == [(now.id, "SIGUSR2")]


async def test_who_only_claims_to_be_a_sidecar_is_none():
    here = Here()
    await here.served()
    other = here.engine.run("x", {"byfahrer.target": here.key, "sslterm.drain-signal": "SIGUSR1"})
    here.stopping = Stopping(here.engine, here.reconciler._policy)
    await here.stopping.signalled(here.key, TERM)

    assert other not in dict(here.engine.killed)
    assert len(here.engine.killed) == 1


async def test_another_injectors_target_is_not_ours_to_tell():
    here = Here()
    await here.served()
    theirs = World(only_label=("mine",))
    stopping = Stopping(here.engine, theirs.reconciler._policy)
    await stopping.signalled(here.key, TERM)

    assert here.engine.killed == []


async def test_a_dead_target_is_forgotten_and_a_gone_one_costs_no_error():
    here = Here()
    await here.served()
    here.engine.down(here.key)
    await here.look(here.key)
    here.stopping.seen(here.seen[-1])
    assert here.stopping._known == {}
    here.engine.delete(here.key)
    await here.stopping.signalled(here.key, TERM)

    assert here.engine.killed == []


async def test_those_that_were_told_to_stop_can_be_waited_for_until_they_are_seen_dead():
    here = Here()
    await here.served()
    await here.stopping.ended()
    await here.stopping.signalled(here.key, HUP)
    await here.stopping.ended()
    await here.stopping.signalled(here.key, TERM)
    with anyio.move_on_after(0.01) as scope:
        await here.stopping.ended()
    assert scope.cancelled_caught

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(here.stopping.ended)
        here.engine.down(here.key)
        await here.look(here.key)
        here.stopping.seen(here.seen[-1])


async def test_a_sidecar_that_does_not_run_is_not_told():
    here = Here()
    sidecar = await here.served()
    here.engine._set(sidecar, status=Status.PAUSED)
    await here.stopping.signalled(here.key, TERM)

    assert here.engine.killed == []


async def test_an_engine_that_fails_is_no_trouble_of_others():
    here = Here()
    await here.served()
    here.engine.broken["kill"] = [RejectedError(500, "x")]
    await here.stopping.signalled(here.key, TERM)
    here.engine.away = True
    await here.stopping.signalled("f" * 64, TERM)

    assert here.engine.killed == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SIGTERM", 15), ("TERM", 15), ("sigquit", 3), ("15", 15), (" 9 ", 9), ("SIGRTMIN+3", 37), ("RTMIN", 34),
        ("SIGRTMAX-1", 63), ("SIGCLD", 17), ("", None), ("SIG_IGN", None), ("IG_DFL", None), ("nope", None),
        ("9" * 400, None), ("٣", None), ("-1", None),
    ],
)  # fmt: skip
def test_signals_are_read_as_people_write_them(name, value):
    assert number(name) == value
