"""Which start of its target a sidecar has joined: by what was seen, whatever the engine's clock does in between."""

from byfahrer.model import Container, Status
from byfahrer.reconcile.memory import Joins, Memory


def target(started_at):
    return Container(id="a" * 64, name="www", image="app", status=Status.RUNNING, pid=1, started_at=started_at)


def sidecar(started_at, ident="b", status=Status.RUNNING):
    return Container(id=ident, name="www-proxy", image="sslterm", status=status, pid=2, started_at=started_at)


def test_a_later_start_joined_and_an_earlier_one_did_not():
    assert Joins().look(target(100), [sidecar(200)]) == {"b": (200, 100)}
    assert Joins().look(target(100), [sidecar(50)]) == {}


def test_a_start_of_ours_joined_what_we_saw_though_the_clock_was_set_back():
    joins = Joins()
    joins.look(target(100), [])
    joins.started("b", 100)

    assert joins.look(target(100), [sidecar(50)]) == {"b": (50, 100)}
    assert joins.look(target(100), [sidecar(50)]) == {"b": (50, 100)}


def test_a_start_of_ours_before_its_target_restarted_unseen_joined_nobody_knows_what():
    for restarted in (30, 150, 250):
        joins = Joins()
        joins.started("b", 100)

        assert joins.look(target(restarted), [sidecar(200)]) == {"b": (200, 0)}


def test_the_start_before_ours_is_not_taken_for_it():
    joins = Joins()
    joins.look(target(100), [sidecar(50)])
    joins.started("b", 100)

    assert joins.look(target(100), [sidecar(50)]) == {}
    assert joins.look(target(100), [sidecar(60)]) == {"b": (60, 100)}


def test_what_joined_an_earlier_start_is_known_though_the_clock_was_set_back():
    joins = Joins()
    joins.look(target(100), [sidecar(200)])

    assert joins.look(target(30), [sidecar(200)]) == {"b": (200, 100)}


def test_one_that_came_while_the_clock_was_set_back_joined_nobody_knows_what():
    joins = Joins()
    joins.look(target(100), [])

    assert joins.look(target(30), [sidecar(200)]) == {"b": (200, 0)}


def test_a_start_of_somebody_else_joined_what_ran_before_and_after_it_whatever_the_clock_says():
    joins = Joins()
    joins.look(target(100), [sidecar(20)])
    joins.look(target(100), [sidecar(20)])

    assert joins.look(target(100), [sidecar(30)]) == {"b": (30, 100)}
    assert joins.look(target(110), [sidecar(40)]) == {}


def test_of_two_looks_only_the_clock_tells_whether_it_was_the_target_that_started_last():
    joins = Joins()
    joins.look(target(100), [sidecar(20)])

    assert joins.look(target(100), [sidecar(30)]) == {}


def test_what_is_gone_is_forgotten():
    joins = Joins()
    joins.look(target(100), [sidecar(200)])
    joins.look(target(100), [sidecar(200, status=Status.EXITED)])

    assert joins == Joins(target_started_at=100, _before=100)


def test_how_long_a_sidecar_was_seen_to_run_begins_anew_with_each_start():
    memory = Memory("www")
    memory.saw([sidecar(1)], 10.0)
    assert memory.runs_for(sidecar(1), 13.0) == 3
    memory.saw([sidecar(2)], 13.0)
    assert memory.runs_for(sidecar(2), 13.0) == 0
    memory.saw([], 14.0)
    assert memory.running == {}
