"""The event thread never waits for the loop, nothing is lost unnoticed, and every end is an end."""

import io
import queue

import anyio
import pytest
import requests
from docker import APIClient

from byfahrer.engine.errors import RejectedError, UnreachableError
from byfahrer.engine.events import ThreadedEvents
from byfahrer.engine.interface import Event, Gap
from lab.waiting import until

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Source:
    """What `APIClient.events` returns, fed by the test."""

    def __init__(self, status=200):
        self.queue = queue.Queue()
        self.taken = 0
        self._response = requests.Response()
        self._response.status_code = status
        self._response.raw = io.BytesIO(b'{"message": "not here"}')

    def __iter__(self):
        return self

    def __next__(self):
        item = self.queue.get(timeout=10)
        if item is None:
            raise StopIteration
        if isinstance(item, Exception):
            raise item
        self.taken += 1
        return {"Type": "container", "Action": "start", "Actor": {"ID": item}}

    def close(self):
        self.queue.put(None)


class Client(APIClient):
    def __init__(self, source):
        self.source = source

    def events(self, **options):
        if isinstance(self.source, Exception):
            raise self.source
        return self.source


async def test_events_arrive_in_order_and_the_end_is_an_end():
    source, got = Source(), []
    async with ThreadedEvents(Client(source), "0", "here") as stream:
        for name in "abc":
            source.queue.put(name)
        source.queue.put(None)
        async for event in stream:
            got.append(event.id)

    assert got == ["a", "b", "c"]


async def test_a_refusal_is_no_stream_that_ends():
    with pytest.raises(RejectedError, match="the engine answered 403: not here"):
        async with ThreadedEvents(Client(Source(403)), "0", "here"):
            raise AssertionError("it was entered")


async def test_a_break_is_an_end_too():
    source = Source()
    async with ThreadedEvents(Client(source), "0", "here") as stream:
        source.queue.put(ValueError("half a JSON object"))

        assert [event async for event in stream] == []


async def test_a_reader_that_does_not_take_them_does_not_hold_the_thread_and_learns_of_the_gap():
    source = Source()
    async with ThreadedEvents(Client(source), "0", "here", backlog=5) as stream:
        for number in range(100):
            source.queue.put(str(number))
        await until(lambda: source.taken == 100)
        source.queue.put(None)
        got = [event async for event in stream]

    assert [each.id for each in got if isinstance(each, Event)] == ["0", "1", "2", "3", "4"]
    assert [each for each in got if isinstance(each, Gap)] == [Gap.GAP]


async def test_closing_it_from_elsewhere_ends_the_wait():
    source = Source()
    async with anyio.create_task_group() as tasks, ThreadedEvents(Client(source), "0", "here") as stream:

        async def close():
            await anyio.lowlevel.checkpoint()
            stream.close()

        tasks.start_soon(close)

        assert [event async for event in stream] == []


async def test_a_refused_subscription_is_an_unreachable_engine():
    with pytest.raises(UnreachableError):
        async with ThreadedEvents(Client(ConnectionRefusedError(111, "x")), "0", "here"):
            pass


async def test_one_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr("byfahrer.engine.events.SUBSCRIBE_TIMEOUT", 0.05)
    gate = queue.Queue()

    class Hanging(Client):
        def events(self, **options):
            gate.get(timeout=10)

    with pytest.raises(UnreachableError, match="no answer in time"):
        async with ThreadedEvents(Hanging(None), "0", "here"):
            pass
    gate.put(None)
