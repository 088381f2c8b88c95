"""From addresses in the settings to sockets, and every refusal on the way."""

from __future__ import annotations

import errno
import socket

import anyio
import pytest

from lab.sidecar import free_port
from sslterm import endpoints, netns
from sslterm.endpoints import Unable
from sslterm.relay.policy import Backend
from sslterm.settings import AUTO, AUTO_PORTS, Address, Outbound, Settings


def silent(*_):
    raise AssertionError("nothing was to be said")


def front(address):
    return Settings(frontend_addr=address, backend_addr=Address("127.0.0.1", 9))


def back(address, frontend=AUTO):
    return Settings(frontend_addr=frontend, backend_addr=address)


def test_a_frontend_listens_where_it_was_asked_to():
    port = free_port()
    listener, address = endpoints.open_frontend(front(Address("127.0.0.1", port)))
    with listener:
        assert listener.getsockname() == ("127.0.0.1", port)
        assert address == Address("127.0.0.1", port)


def test_a_taken_port_is_a_state_of_the_machine():
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = Address("127.0.0.1", other.getsockname()[1])
        with pytest.raises(Unable) as error:
            endpoints.open_frontend(front(address))

    assert str(error.value) == f"frontend-addr={address}: already in use in this network namespace"
    assert error.value.code == 1


def test_an_address_of_another_machine_is_bad_configuration():
    with pytest.raises(Unable, match="this network namespace has no address 192\\.0\\.2\\.99") as error:
        endpoints.open_frontend(front(Address("192.0.2.99", 9)))

    assert error.value.code == 2


def test_a_host_that_does_not_exist_is_bad_configuration():
    with pytest.raises(Unable, match="no such host") as error:
        endpoints.open_frontend(front(Address("no.such.invalid", 9)))

    assert error.value.code == 2


def binder(outcomes):
    def bind(address, **_):
        outcome = outcomes[address.port]
        if isinstance(outcome, int):
            raise OSError(outcome, "said the kernel")
        return outcome

    return bind


@pytest.mark.parametrize("why", [errno.EADDRINUSE, errno.EACCES])
def test_auto_takes_the_second_port_where_the_first_is_taken_or_not_permitted(monkeypatch, why):
    bound = object()
    monkeypatch.setattr(endpoints, "bind", binder({443: why, 8443: bound}))

    assert endpoints.open_frontend(front(AUTO)) == (bound, Address("", 8443))


@pytest.mark.parametrize(
    ("outcomes", "code", "message"),
    [
        ((errno.EADDRINUSE, errno.EADDRINUSE), 1, ":443 already in use in this network namespace, :8443 already"),
        ((errno.EACCES, errno.EADDRINUSE), 1, ":443 not permitted: this user may bind ports from"),
        ((errno.EACCES, errno.EACCES), 2, ":8443 not permitted"),
        ((errno.ENOBUFS, errno.ENOBUFS), 1, ":443 said the kernel"),
    ],
)
def test_auto_names_both_ports_when_neither_can_be_had(monkeypatch, outcomes, code, message):
    monkeypatch.setattr(endpoints, "bind", binder(dict(zip(AUTO_PORTS, outcomes, strict=True))))
    with pytest.raises(Unable) as error:
        endpoints.open_frontend(front(AUTO))

    assert str(error.value).startswith("frontend-addr=auto: :443 ")
    assert message in str(error.value)
    assert error.value.code == code


def test_a_literal_backend_is_dialled_as_it_is():
    found = anyio.run(endpoints.find_backends, back(Address("127.0.0.1", 80)), silent)

    assert found == (Address("127.0.0.1", 80), (Backend(socket.AF_INET, ("127.0.0.1", 80)),))


def answers(monkeypatch, *hosts):
    async def getaddrinfo(host, port, **_):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in hosts]

    monkeypatch.setattr(anyio, "getaddrinfo", getaddrinfo)


def test_a_name_is_all_its_addresses_in_order_each_once(monkeypatch):
    answers(monkeypatch, "127.0.0.2", "127.0.0.1", "127.0.0.2")
    _, backends = anyio.run(endpoints.find_backends, back(Address("www", 80)), silent)

    assert [each.sockaddr for each in backends] == [("127.0.0.2", 80), ("127.0.0.1", 80)]


def test_plaintext_that_leaves_is_warned_of(monkeypatch):
    monkeypatch.setattr(netns, "read_addresses", lambda: frozenset({"10.0.0.1"}))
    said = []
    answers(monkeypatch, "10.0.0.1", "10.0.0.2")
    anyio.run(endpoints.find_backends, back(Address("www", 80)), lambda *line: said.append(line))

    assert said == [("WARNING", "backend-addr=www:80: plaintext leaves this network namespace, to 10.0.0.2")]


def test_plaintext_to_an_address_of_this_namespace_is_not(monkeypatch):
    monkeypatch.setattr(netns, "read_addresses", lambda: frozenset({"10.0.0.1"}))
    answers(monkeypatch, "10.0.0.1")
    anyio.run(endpoints.find_backends, back(Address("www", 80)), silent)


def test_a_backend_that_is_ourselves_under_another_name_is_refused(monkeypatch):
    answers(monkeypatch, "127.0.0.1")
    with pytest.raises(Unable, match="leads back to this sidecar's own port") as error:
        anyio.run(endpoints.find_backends, back(Address("www", 8081), Address("0.0.0.0", 8081)), silent)

    assert error.value.code == 2


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (socket.gaierror(socket.EAI_NONAME, "unknown"), 2),
        (socket.gaierror(socket.EAI_AGAIN, "later"), 1),
        (UnicodeError("label too long"), 2),
    ],
)
def test_a_backend_that_does_not_resolve_is_named(monkeypatch, failure, code):
    async def getaddrinfo(*_, **__):
        raise failure

    monkeypatch.setattr(anyio, "getaddrinfo", getaddrinfo)
    with pytest.raises(Unable, match="backend-addr=www:80: www does not resolve") as error:
        anyio.run(endpoints.find_backends, back(Address("www", 80)), silent)

    assert error.value.code == code


def found(monkeypatch, outcome):
    async def find_backend(own_ports, report):
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(netns, "find_backend", find_backend)


def test_auto_is_dialled_in_both_families(monkeypatch):
    found(monkeypatch, netns.Candidate(80, ("127.0.0.1", "::1")))
    address, backends = anyio.run(endpoints.find_backends, back(AUTO), silent)

    assert address == Address("127.0.0.1", 80)
    assert backends == (Backend(socket.AF_INET, ("127.0.0.1", 80)), Backend(socket.AF_INET6, ("::1", 80)))


def test_auto_that_is_ambiguous_lists_the_choice(monkeypatch):
    found(monkeypatch, netns.AmbiguousError([netns.Candidate(80, ("127.0.0.1",)), netns.Candidate(81, ("::1",))]))
    with pytest.raises(Unable) as error:
        anyio.run(endpoints.find_backends, back(AUTO), silent)

    assert str(error.value).endswith("set backend-addr to one of 127.0.0.1:80, [::1]:81")
    assert error.value.code == 2


def outbound(*ports):
    pairs = tuple(Outbound(Address("127.0.0.1", port), Address("db", 1)) for port in ports)
    return Settings(outbound=pairs, client_ca="/ca")


def test_calls_are_listened_for_in_their_order():
    ports = free_port(), free_port()
    listeners = endpoints.open_outbound(outbound(*ports))

    assert [each.getsockname() for each in listeners] == [("127.0.0.1", port) for port in ports]
    for each in listeners:
        each.close()


@pytest.mark.parametrize("attempt", [endpoints.open_outbound, endpoints.try_addresses])
def test_a_port_for_calls_that_is_taken_is_named(attempt):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(Unable) as error:
            attempt(outbound(free_port(), port))

    assert str(error.value) == f"outbound=127.0.0.1:{port}=db:1: already in use in this network namespace"
    assert error.value.code == 1
