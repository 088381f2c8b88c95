"""A sidecar gets its own target's names while both live, and hears when it is time for another certificate."""

import datetime as dt
from contextlib import suppress

import pytest

from byfahrer.authority.report import Report
from byfahrer.authority.service import AGAIN, WORDS, Refused
from byfahrer.engine.errors import UnreachableError
from byfahrer.model import Network, Status
from lab.authority import ASKS, World, certificates, key_pem, spoilt

pytestmark = pytest.mark.anyio
FOREIGN = "this token is none of ours (if the state folder was lost, a new token follows)"


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def names(answer):
    """DNS names and URIs in a chain's leaf."""
    from cryptography import x509

    leaf = certificates(answer["chain"])[0]
    general = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return general.get_values_for_type(x509.DNSName), general.get_values_for_type(x509.UniformResourceIdentifier)


def addresses(answer):
    """IP addresses in it."""
    from cryptography import x509

    leaf = certificates(answer["chain"])[0]
    general = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(each) for each in general.get_values_for_type(x509.IPAddress)}


def serial(answer):
    return f"{certificates(answer['chain'])[0].serial_number:x}"


async def refused(call):
    with pytest.raises(Refused) as error:
        await call
    return error.value.status, str(error.value)


async def test_a_sidecar_gets_a_chain_the_roots_and_when_to_come_again(world):
    _, _, token = world.target()
    answer = await world.obtain(token)

    assert set(answer) == {"chain", "authorities", "lifetime", "renew_in"}
    assert (answer["lifetime"], answer["renew_in"]) == (86400, 43200)
    assert answer["authorities"] == world.root.issuer().authorities
    assert names(answer) == (["localhost", "www"], ["spiffe://byfahrer.internal/ns/default/svc/www"])


async def test_names_in_the_request_are_needless_and_must_be_its_own(world):
    _, _, token = world.target()
    uri = "spiffe://byfahrer.internal/ns/default/svc/www"
    assert names(await world.obtain(token, "www", "::1", uris=[uri])) == (["localhost", "www"], [uri])

    for asked, more in (
        (["db"], {}),
        (["10.9.9.9"], {}),
        ([], {"uris": [uri[:-3] + "db"]}),
        ([], {"common_name": "db"}),
    ):
        status, text = await refused(world.obtain(token, *asked, **more))
        assert status == 403
        assert text.startswith("'www' may not have the names ")


async def test_a_token_of_one_target_does_not_get_anothers_names(world):
    _, _, token = world.target("www")
    other, sidecar, _ = world.target("db")
    assert names(await world.obtain(token))[0] == ["localhost", "www"]
    target = token.split(".")[1]
    mixed = world.authority.token(target, sidecar)

    assert await refused(world.obtain(mixed)) == (401, "this token is revoked: its sidecar is gone")
    assert (await refused(world.obtain(token.replace(target, other))))[0] == 401


async def test_a_token_that_is_none_is_refused_without_a_call_of_the_engine(world):
    world.target()
    for call in (world.obtain("x"), world.authority.authorities("x"), world.word("")):
        assert await refused(call) == (401, FOREIGN)

    assert world.engine.calls["inspect"] == 0


async def test_a_token_dies_with_its_target(world):
    target, _, token = world.target()
    world.engine.down(target)
    assert await refused(world.obtain(token)) == (403, "this token's target is gone")
    world.engine.delete(target)
    assert (await refused(world.obtain(token)))[0] == 403


@pytest.mark.parametrize("end", ["down", "delete"])
async def test_a_token_dies_with_its_sidecar(world, end):
    _, sidecar, token = world.target()
    getattr(world.engine, end)(sidecar)

    assert await refused(world.obtain(token)) == (401, "this token is revoked: its sidecar is gone")
    assert (await refused(world.authority.authorities(token)))[0] == 401


async def test_a_container_that_only_says_so_is_no_sidecar(world):
    target = world.engine.run("www", ASKS)
    liar = world.engine.run("liar", {"byfahrer.target": target}, network_mode="bridge")

    assert (await refused(world.obtain(world.authority.token(target, liar))))[0] == 401


async def test_a_container_with_the_id_of_another_for_a_name_is_not_taken_for_it(world):
    target, sidecar, token = world.target()
    world.engine.delete(sidecar)
    world.engine.run(sidecar, {"byfahrer.target": target}, network_mode=f"container:{target}")

    assert (await refused(world.obtain(token)))[0] == 401


async def test_tokens_survive_a_restart_of_the_injector(world):
    _, _, token = world.target()
    world.restart()

    assert await world.obtain(token)
    assert (await world.word(token))["renew"]


async def test_an_engine_that_is_away_is_said_to_be_and_comes_back(world):
    _, _, token = world.target()
    world.engine.broken["inspect"] = [UnreachableError("no engine")]
    with pytest.raises(Refused) as error:
        await world.obtain(token)

    assert (error.value.status, error.value.retry_after) == (503, 5)
    assert await world.obtain(token)


async def test_a_root_that_is_over_is_said_to_be(world):
    _, _, token = world.target()
    world.clock.pass_(days=4000)

    assert await refused(world.obtain(token)) == (503, "the certificate authority is over since 2036-11-21 12:00 UTC")


async def test_a_bad_request_is_named(world):
    _, _, token = world.target()

    assert (await refused(world.authority.certificate(token, b"x")))[0] == 400


async def test_swarm_labels_count_as_the_targets_own(world):
    labels = {**ASKS, "com.docker.swarm.service.id": "svc", "com.docker.swarm.service.name": "web"}
    world.engine.annotations["svc"] = {"byfahrer.names": "shop.example", "byfahrer.leaf-lifetime": "1m"}
    _, _, token = world.target("web.1.x", labels)
    answer = await world.obtain(token)

    assert names(answer)[0][:4] == ["localhost", "shop.example", "web.1.x", "web"]
    assert (answer["lifetime"], answer["renew_in"]) == (60, 30)


async def test_a_task_may_be_reached_by_its_services_virtual_addresses(world):
    labels = {**ASKS, "com.docker.swarm.service.id": "svc"}
    world.engine.annotations["svc"], world.engine.virtual["svc"] = {}, ("10.0.1.2",)
    target, _, token = world.target("web.1.x", labels)
    first = await world.obtain(token)
    world.engine.virtual["svc"] = ("10.0.1.2", "10.0.2.2")
    await world.look(target)

    assert "10.0.1.2" in addresses(first)
    assert (await world.word(token, serial=serial(first)))["renew"]
    assert {"10.0.1.2", "10.0.2.2"} <= addresses(await world.obtain(token))


async def test_whose_task_it_is_by_its_image_gives_no_address(world):
    world.engine.annotations["svc"], world.engine.virtual["svc"] = {}, ("10.0.1.2",)
    target, _, token = world.target("web", ASKS)
    world.engine._set(
        target,
        labels={**ASKS, "com.docker.swarm.service.id": "svc"},
        inherited=frozenset({"com.docker.swarm.service.id"}),
    )

    assert "10.0.1.2" not in addresses(await world.obtain(token))


async def test_a_sidecar_is_told_to_renew_when_its_target_joined_a_network_and_not_before(world):
    target, _, token = world.target()
    first = await world.obtain(token)
    await world.look(target)
    assert await world.word(token, serial=serial(first)) == {"renew": False, "again_in": AGAIN}
    world.engine._set(target, networks=(Network(name="net", aliases=("api",), addresses=("10.1.0.2",)),))
    await world.look(target)
    assert (await world.word(token, serial=serial(first)))["renew"]
    second = await world.obtain(token)

    assert "api" in names(second)[0]
    assert not (await world.word(token, serial=serial(second)))["renew"]


async def test_a_sidecar_is_told_to_renew_when_a_root_was_rotated_and_when_the_overlap_ends(world):
    target, _, token = world.target()
    answer = await world.obtain(token)
    await world.look(target)
    for change in (lambda: world.root.rotate(dt.timedelta(hours=1)), lambda: world.clock.pass_(hours=2)):
        change()
        assert (await world.word(token, serial=serial(answer)))["renew"]
        answer = await world.obtain(token)
        assert not (await world.word(token, serial=serial(answer)))["renew"]

    assert answer["authorities"].count("BEGIN") == 1


async def test_a_sidecar_is_told_to_renew_when_another_lifetime_is_asked_for(world):
    labels = {**ASKS, "com.docker.swarm.service.id": "svc"}
    world.engine.annotations["svc"] = {}
    target, _, token = world.target(labels=labels)
    answer = await world.obtain(token)
    world.engine.annotations["svc"] = {"byfahrer.leaf-lifetime": "1h"}
    await world.look(target)

    assert (await world.word(token, serial=serial(answer)))["renew"]
    assert (await world.obtain(token))["lifetime"] == 3600


async def test_a_sidecar_with_a_certificate_of_its_own_is_never_told_to_renew(world):
    target, _, token = world.target()
    await world.look(target)

    assert not (await world.word(token, source="files", serial="ab", names=("x",)))["renew"]
    (holder,) = world.authority.ledger
    assert (holder.source, holder.names) == ("files", ["x"])


async def test_a_word_costs_the_engine_nothing_once_its_target_was_seen(world):
    target, _, token = world.target()
    await world.look(target)
    before = world.engine.calls.total()
    for _ in range(5):
        await world.word(token)
        await world.authority.authorities(token)

    assert world.engine.calls.total() == before


async def test_a_word_of_a_sidecar_that_was_not_seen_yet_is_looked_up(world):
    _, _, token = world.target()

    assert (await world.word(token))["renew"]
    assert world.engine.calls["inspect"] == 2


async def test_a_dead_target_is_forgotten(world):
    target, sidecar, token = world.target()
    await world.obtain(token)
    await world.look(target)
    world.engine.down(target)
    await world.look(target)

    assert world.authority._known == {}
    assert world.authority.ledger.of(sidecar).gone
    assert (await refused(world.word(token)))[0] == 403


async def test_too_many_requests_are_told_when_to_come_again(world):
    target, _, token = world.target()
    await world.look(target)
    for _ in range(10):
        await world.obtain(token)
    with pytest.raises(Refused) as error:
        await world.obtain(token)
    assert (error.value.status, error.value.retry_after, error.value.who) == (429, 5, "www")
    assert await world.word(token)
    world.clock.pass_(seconds=5)
    assert await world.obtain(token)


async def test_too_many_words_are_told_when_to_come_again_and_leave_others_alone(world):
    target, _, token = world.target()
    await world.look(target)
    for _ in range(20):
        await world.authority.authorities(token)
    for call in (world.word(token), world.authority.authorities(token)):
        assert await refused(call) == (429, "too many requests")
    assert await world.obtain(token)
    _, _, other = world.target("db")

    assert await world.word(other)


async def test_many_sidecars_are_asked_to_speak_less_often(world):
    for number in range(300):
        target, _, token = world.target(f"t{number}")
        await world.look(target)

    assert (await world.word(token))["again_in"] == 75


async def test_the_ledger_tells_who_holds_what(world):
    target, sidecar, token = world.target()
    answer = await world.obtain(token)
    world.clock.pass_(hours=12)
    await world.obtain(token)
    await world.word(token, serial="1", failing="no route to the authority", denied={"expired": 2})
    (holder,) = world.authority.ledger

    assert (holder.target, holder.target_id, holder.sidecar_id) == ("www", target, sidecar)
    assert holder.names == ["localhost", "www", "127.0.0.1", "::1"]
    assert holder.spiffe == "spiffe://byfahrer.internal/ns/default/svc/www"
    assert holder.serial != serial(answer)
    assert (holder.not_before, holder.issued) == ("2026-11-24T23:55:00Z", "2026-11-25T00:00:00Z")
    assert (holder.not_after, holder.renews) == ("2026-11-26T00:00:00Z", "2026-11-25T12:00:00Z")
    assert (holder.renewals, holder.denied) == (1, {"expired": 2})
    assert holder.state(world.clock()) == "failing: no route to the authority"


async def test_a_renewal_that_fails_is_told_when_it_begins_and_when_it_ends(world, said):
    _, _, token = world.target()
    answer = await world.obtain(token)
    said.clear()
    for failing in ("", "no socket", "no socket", ""):
        await world.word(token, serial=serial(answer), failing=failing)

    assert said == [
        "'www': its certificate is not renewed: no socket; it ends at 2026-11-25T12:00:00Z",
        "'www': its certificate is renewed again",
    ]


async def test_a_sidecar_that_always_says_another_reason_does_not_fill_the_log(world, said):
    _, _, token = world.target()
    answer = await world.obtain(token)
    said.clear()
    for number in range(600):
        world.clock.pass_(seconds=1)
        await world.word(token, serial=serial(answer), failing=f"reason {number}")

    assert 10 <= len(said) <= 20


async def test_the_end_of_the_root_is_told_once_a_day(world, said):
    world.clock.pass_(days=3630)
    said.clear()
    for _ in range(25):
        world.authority.look_after()
        world.clock.pass_(hours=1)

    assert len(said) == 2
    assert "byfahrer ca rotate" in said[0]


async def test_a_paused_target_keeps_its_certificate(world):
    target, _, token = world.target()
    world.engine._set(target, status=Status.PAUSED)

    assert await world.obtain(token)


async def test_neither_tokens_nor_keys_are_in_any_log_line_error_or_file_of_the_ledger(world, said):
    target, sidecar, token = world.target()
    mark = token.rpartition(".")[2]
    answers, errors = [await world.obtain(token)], []
    await world.look(target)
    answers += [await world.word(token, failing="x"), await world.authority.authorities(token)]
    for call in (world.obtain(spoilt(token)), world.obtain(token, "db"), world.authority.certificate(token, b"x")):
        errors.append(str(await refused(call)))
    world.engine.down(sidecar)
    errors.append(str(await refused(world.obtain(token))))
    world.root.rotate()
    world.authority.look_after()
    shown = "\n".join(
        [*said, *errors, str(answers), repr(world.authority.ledger.of(sidecar)), repr(world.root.issuer())]
    )

    assert len(said) > 0
    assert mark not in shown
    assert "PRIVATE KEY" not in shown
    for secret in (key_pem(world.root.issuer().key).decode().splitlines()[1], world.authority._tokens._key.hex()):
        assert secret not in shown


async def test_what_a_sidecar_said_last_is_kept_while_it_is_there(world):
    target, sidecar, token = world.target()
    await world.look(target)
    assert world.authority.word_of(sidecar) is None
    await world.authority.status(token, Report(source="authority", ready=False, fault="why"))

    assert world.authority.word_of(sidecar).fault == "why"
    await world.engine.remove(sidecar)
    await world.look(target)
    assert world.authority.word_of(sidecar) is None


async def test_a_sidecar_that_fails_to_speak_is_silent_and_a_refused_word_is_one_too(world):
    target, sidecar, token = world.target()
    await world.look(target)
    await world.word(token)
    for _ in range(10):
        world.clock.pass_(seconds=5)
        world.authority.heartbeat.look()
    assert world.authority.heartbeat.silent(await world.engine.inspect(sidecar))

    for _ in range(WORDS[0] + 1):
        with suppress(Refused):
            await world.word(token)
    assert not world.authority.heartbeat.silent(await world.engine.inspect(sidecar))
    with pytest.raises(Refused, match="too many"):
        await world.word(token)
