"""As many connections as there are memory and file descriptors for, and a word where that is fewer than asked for."""

from __future__ import annotations

import resource

import pytest

from sslterm import capacity
from sslterm.settings import Address, Outbound, Settings


def silent(*_):
    raise AssertionError("nothing was to be said")


@pytest.fixture
def limits(monkeypatch):
    """Pretend file descriptor limits; what was set is in the list."""
    state = [1024, 4096]
    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(state))

    def setrlimit(_, pair):
        state[:] = pair

    monkeypatch.setattr(resource, "setrlimit", setrlimit)
    return state


def test_the_soft_limit_is_raised_as_far_as_needed(limits):
    settings = Settings(max_connections=1000)

    assert capacity.fit_connections(settings, silent) is settings
    assert limits == [2064, 4096]


def test_connections_are_lowered_to_what_the_hard_limit_allows(limits):
    said = []
    fitted = capacity.fit_connections(Settings(max_connections=9000), lambda *line: said.append(line))

    assert fitted.max_connections == 2016
    assert limits == [4096, 4096]
    assert said == [("WARNING", "max-connections=9000: lowered to 2016, as many as 4096 file descriptors allow")]


@pytest.mark.parametrize(("workers", "possible"), [(1, 450), (2, 204), (16, 1)])
def test_workers_take_of_the_memory_that_connections_would_have(limits, monkeypatch, tmp_path, workers, possible):
    limit = tmp_path / "memory.max"
    limit.write_text(f"{128 * 1024**2}\n")
    monkeypatch.setattr(capacity, "_LIMIT_FILES", (limit,))
    said = []
    fitted = capacity.fit_connections(Settings(workers=workers), lambda *line: said.append(line))

    assert fitted.max_connections == possible
    assert len(said) == 1
    assert "memory limit of 128 MiB" in said[0][1]


def test_a_redirect_has_descriptors_of_its_own(limits):
    capacity.fit_connections(Settings(max_connections=1000, redirect_addr=Address("", 80)), silent)

    assert limits == [2064 + 66, 4096]


def test_so_have_calls_to_others(limits):
    calls = tuple(Outbound(Address("127.0.0.1", port), Address("db", 1)) for port in (1, 2, 3))
    capacity.fit_connections(Settings(max_connections=1000, outbound=calls, client_ca="/ca"), silent)

    assert limits == [2064 + 6, 4096]


def test_an_unlimited_process_is_left_alone(limits):
    limits[:] = [resource.RLIM_INFINITY, resource.RLIM_INFINITY]

    assert capacity.fit_connections(Settings(), silent) == Settings()
