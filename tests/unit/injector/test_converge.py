"""One sidecar after the other without a gap: each state in between has a plan that leads on, none leads to three."""

from dataclasses import replace

import pytest

from byfahrer import labels, settings
from byfahrer.labels import sidecar_labels
from byfahrer.model import Container, Inject, Observed, Remove, Rename, Restart, Start, Status
from byfahrer.plan import plan

POLICY = settings.policy()
TARGET = Container(
    id="a" * 64, name="www", image="app", labels={"byfahrer.proxy-image": "sslterm"}, status=Status.RUNNING,
    pid=7, started_at=100,
)  # fmt: skip
(FIRST,) = plan(Observed(target_id=TARGET.id, target=TARGET), POLICY).actions
SPEC = FIRST.spec
BEFORE = replace(SPEC, memory=SPEC.memory + 1)


def sidecar(spec, ident, **fields):
    carried = sidecar_labels(TARGET, spec) | {labels.HAND_OVER: "SIGUSR2"}
    made = Container(
        id=ident * 64, name="www-proxy", image=spec.image, image_id="sha256:1", labels=carried, user=spec.user,
        mounts=spec.mounts, env=dict(spec.env), status=Status.RUNNING, pid=8, started_at=200,
    )  # fmt: skip
    return replace(made, **fields)


OLD = sidecar(BEFORE, "b")
NEW = sidecar(SPEC, "c", name="www-proxy-next")


def planned(*sidecars, proven=(OLD.id,), target=TARGET, policy=POLICY, **fields):
    return plan(
        Observed(target_id=TARGET.id, target=target, sidecars=sidecars, proven=frozenset(proven), **fields), policy
    )


def test_the_new_one_is_made_beside_the_old_one():
    todo = planned(OLD)

    assert todo.actions == (Inject("www-proxy-next", TARGET, SPEC, OLD),)
    assert (todo.spare, todo.serving, todo.awaited) == (OLD, None, None)


def test_an_old_one_that_was_never_renamed_leaves_the_name_to_the_new_one():
    old = replace(OLD, name="www-proxy-next")

    assert planned(old).actions == (Inject("www-proxy", TARGET, SPEC, old),)


@pytest.mark.parametrize(
    "old",
    [
        replace(OLD, env={}),
        replace(OLD, labels=sidecar_labels(TARGET, BEFORE)),
        replace(OLD, labels=OLD.labels | {labels.HAND_OVER: "SIGKILL"}),
        replace(OLD, user="0:0"),
        replace(OLD, freedoms=("capabilities",)),
        replace(OLD, image="other"),
        replace(OLD, labels=OLD.labels | {labels.SPEC: SPEC.digest}, user="1:1"),
        replace(OLD, status=Status.EXITED),
        replace(OLD, status=Status.PAUSED),
        replace(OLD, started_at=1),
    ],
    ids=[
        "not told to",
        "image cannot",
        "image wants to be killed",
        "other user",
        "too free",
        "not allowed",
        "a lie",
        "ended",
        "paused",
        "orphan",
    ],
)
def test_where_two_cannot_share_a_port_or_the_old_one_serves_nobody_it_goes_first(old):
    first, second = planned(old).actions

    assert (first.sidecar, second) == (old, Inject("www-proxy", TARGET, SPEC))


def test_beside_an_image_of_2017_there_is_no_other():
    asks = replace(TARGET, labels={"byfahrer.proxy-image": "gosslterm"})
    first, second = planned(OLD, target=asks, policy=settings.policy(allow_image=("gosslterm", "sslterm"))).actions

    assert isinstance(first, Remove)
    assert second.beside is None


@pytest.mark.parametrize("proven", [(OLD.id,), (OLD.id, NEW.id)])
def test_the_old_one_serves_until_it_leaves_by_itself_however_long_that_takes(proven):
    todo = planned(OLD, NEW, proven=proven)

    assert todo.actions == ()
    assert (todo.awaited, todo.spare, todo.serving) == (NEW, OLD, None)


def test_then_it_goes_and_the_new_one_gets_its_name():
    left = replace(OLD, status=Status.EXITED)
    todo = planned(left, NEW)

    assert todo.actions == (Remove(left, "what is asked for has changed", drain=False), Rename(NEW, "www-proxy"))
    assert todo.serving == NEW


def test_one_that_has_not_left_after_all_this_time_goes_all_the_same():
    todo = planned(OLD, NEW, awaited_long=frozenset({NEW.id}))

    assert todo.actions == (Remove(OLD, "what is asked for has changed", drain=True), Rename(NEW, "www-proxy"))


def test_where_the_port_is_another_only_time_shows_that_the_new_one_works():
    old = replace(OLD, env=OLD.env | {"SSLTERM_FRONTEND_ADDR": ":443"})

    assert planned(old, NEW).awaited == NEW
    assert planned(old, NEW, proven=(old.id, NEW.id)).actions == (
        Remove(old, "what is asked for has changed", drain=True),
        Rename(NEW, "www-proxy"),
    )


def test_a_name_that_was_left_is_given_later():
    assert planned(NEW).actions == (Rename(NEW, "www-proxy"),)
    assert planned(NEW, proven=()).actions == (Rename(NEW, "www-proxy"),)


@pytest.mark.parametrize("status", [Status.CREATED, Status.EXITED])
def test_a_new_one_that_does_not_run_is_started_again_and_the_old_one_stays(status):
    new = replace(NEW, status=status)

    assert planned(OLD, new).actions == (Start(new),)


def test_an_old_one_whose_target_restarted_is_brought_back_while_the_new_one_is_down():
    restarted, ended = replace(TARGET, started_at=300), replace(OLD, status=Status.EXITED)
    down = replace(NEW, status=Status.EXITED)

    assert planned(OLD, down, target=restarted).actions == (
        Restart(OLD, "its target has restarted", for_now=True),
        Start(down),
    )
    assert planned(ended, down).actions == (Start(ended, for_now=True), Start(down))


def test_where_neither_serves_the_new_one_alone_is_brought_back():
    assert planned(OLD, NEW, target=replace(TARGET, started_at=300)).actions == (
        Remove(OLD, "what is asked for has changed", drain=False),
        Restart(NEW, "its target has restarted"),
        Rename(NEW, "www-proxy"),
    )


def test_a_new_one_that_cannot_share_its_port_has_it_for_itself():
    new = replace(NEW, status=Status.EXITED, labels=sidecar_labels(TARGET, SPEC))
    first, *others = planned(OLD, new).actions

    assert first.sidecar == OLD
    assert others == [Start(new), Rename(new, "www-proxy")]


def test_of_three_one_goes_at_once_and_the_one_that_serves_stays():
    middle = sidecar(replace(SPEC, memory=SPEC.memory + 2), "1", name="www-proxy-next")
    todo = planned(OLD, middle)

    assert todo.actions == (
        Remove(middle, "what is asked for has changed", drain=True),
        Inject("www-proxy-next", TARGET, SPEC, OLD),
    )


class TestImage:
    def test_one_of_another_image_than_the_name_means_is_replaced(self):
        mine = sidecar(SPEC, "b")
        todo = planned(mine, image_id="sha256:2")

        assert todo.actions == (Inject("www-proxy-next", TARGET, SPEC, mine),)
        new = replace(NEW, image_id="sha256:2")
        left = replace(mine, status=Status.EXITED)
        (removal, _) = planned(left, new, image_id="sha256:2").actions
        assert removal == Remove(left, "its image has been updated", drain=False)

    def test_one_whose_image_is_gone_stays(self):
        assert planned(sidecar(SPEC, "b"), image_id=None).actions == ()

    def test_the_same_image_changes_nothing(self):
        assert planned(sidecar(SPEC, "b"), image_id="sha256:1").actions == ()

    def test_what_is_wanted_is_said(self):
        assert planned().image == "sslterm"
        assert planned(target=replace(TARGET, labels={})).image == ""


class TestUnwell:
    def test_an_unhealthy_one_is_restarted(self):
        mine = sidecar(SPEC, "b", health="unhealthy")

        assert planned(mine).actions == (Restart(mine, "it is unhealthy"),)

    def test_one_that_starts_or_has_no_probe_is_not(self):
        assert planned(sidecar(SPEC, "b", health="starting")).actions == ()

    def test_a_strict_one_says_what_its_target_does(self):
        asks = replace(TARGET, labels=TARGET.labels | {"byfahrer.strict": "on"})
        (made,) = planned(target=asks).actions

        assert planned(sidecar(made.spec, "b", health="unhealthy"), target=asks).actions == ()

    def test_one_that_is_not_heard_of_is_restarted(self):
        mine = sidecar(SPEC, "b")

        assert planned(mine, silent=frozenset({mine.id})).actions == (Restart(mine, "it is not heard of any more"),)

    def test_one_that_stays_although_its_targets_labels_are_wrong_now_is_restarted_too(self):
        wrong = replace(TARGET, labels=TARGET.labels | {"byfahrer.mode": "x"})
        mine = sidecar(SPEC, "b", health="unhealthy")

        assert planned(mine, target=wrong).actions == (Restart(mine, "it is unhealthy"),)
        assert planned(replace(mine, health=""), target=wrong).actions == ()

    def test_one_whose_target_restarted_is_restarted_for_that(self):
        mine = sidecar(SPEC, "b", health="unhealthy", started_at=1)

        assert planned(mine).actions == (Restart(mine, "its target has restarted"),)

    def test_a_new_one_that_is_unwell_does_not_take_over(self):
        new = replace(NEW, health="unhealthy")

        assert planned(OLD, new, proven=(OLD.id, new.id)).actions == (Restart(new, "it is unhealthy"),)


class TestClock:
    """What was seen counts, and the order of the times only where nothing was."""

    OLDER = sidecar(SPEC, "b", started_at=50)

    def test_one_that_was_seen_to_join_this_start_fits_whatever_the_times_say(self):
        assert planned(self.OLDER, joined={self.OLDER.id: (50, 100)}).actions == ()

    def test_one_that_joined_another_start_does_not(self):
        mine = sidecar(SPEC, "b")

        assert planned(mine, joined={mine.id: (200, 300)}).actions == (Restart(mine, "its target has restarted"),)

    def test_what_was_seen_of_an_earlier_start_of_it_does_not_count(self):
        assert planned(sidecar(SPEC, "b"), joined={OLD.id: (50, 300)}).actions == ()
        assert len(planned(self.OLDER, joined={self.OLDER.id: (49, 100)}).actions) == 1


def test_a_target_that_was_killed_for_want_of_memory_is_said_to_be():
    dead = replace(TARGET, status=Status.EXITED, pid=0, oom_killed=True)
    (removal,) = planned(OLD, target=dead).actions

    assert removal.why == "its target does not run; the kernel killed something in it for want of memory"
