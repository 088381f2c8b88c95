"""
The plan: for any state there is one, it is always the same, carrying it out gives what was asked for, and then it is
empty. The first half are named cases, the second half is hypothesis on all of them at once.

Long, because both halves share the containers that they are made of, and every rule of the plan has its case.
"""

import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from byfahrer import labels, settings
from byfahrer.labels import sidecar_labels, wish_by_hand
from byfahrer.model import (
    Container,
    Inject,
    Mount,
    Observed,
    Plan,
    Remove,
    Rename,
    Restart,
    Service,
    SidecarSpec,
    Start,
    Status,
)
from byfahrer.plan import plan

POLICY = settings.policy()
ASKS = {"byfahrer.proxy-image": "sslterm"}
TARGET_ID, ANY_ID = "a" * 64, "b" * 64


def target(labels=ASKS, status=Status.RUNNING, started_at=100, **fields):
    pid = 7 if status in (Status.RUNNING, Status.PAUSED) else 0
    return Container(
        id=TARGET_ID, name="www", image="app", labels=labels, status=status, pid=pid, started_at=started_at, **fields
    )


def wanted(observed_target, **fields):
    """The spec that the plan would inject."""
    (action,) = plan(Observed(target_id=TARGET_ID, target=observed_target, **fields), POLICY).actions
    assert isinstance(action, Inject)
    return action.spec


def sidecar(spec, status=Status.RUNNING, started_at=200, ident=ANY_ID, labels=None):
    carried = sidecar_labels(target(), spec) | (labels or {})
    return Container(
        env=dict(spec.env),
        user=spec.user,
        capabilities=spec.capabilities,
        mounts=spec.mounts,
        id=ident,
        name="www-proxy",
        image=spec.image,
        labels=carried,
        status=status,
        pid=8,
        started_at=started_at,
    )


def actions(observed_target, *sidecars, policy=POLICY, **fields):
    observed = Observed(target_id=TARGET_ID, target=observed_target, sidecars=sidecars, **fields)
    return plan(observed, policy).actions


def problems(observed_target, **fields):
    found = plan(Observed(target_id=TARGET_ID, target=observed_target, **fields), POLICY)
    assert found.actions == ()
    return [str(problem) for problem in found.problems]


SPEC = wanted(target())


def test_a_target_that_asks_gets_a_sidecar_in_its_namespace():
    (action,) = actions(target())

    assert action == Inject("www-proxy", target(), SPEC)
    assert SPEC.user == "64443:64443"
    assert SPEC.memory == 256 * 1024**2


@pytest.mark.parametrize(
    "labels",
    [{}, {"byfahrer.frontend": ":443"}, ASKS | {"byfahrer.enable": "false"}],
    ids=["none", "no trigger", "opted out"],
)
def test_who_does_not_ask_gets_nothing(labels):
    assert actions(target(labels)) == ()
    assert actions(target(labels), sidecar(SPEC)) == (
        Remove(sidecar(SPEC), "it is not asked for any more", drain=True),
    )


def test_a_sidecar_is_no_target_but_who_only_says_it_is_one_may_be():
    claims = ASKS | {"byfahrer.target": ANY_ID}

    assert actions(target(claims, network_mode=f"container:{ANY_ID}")) == ()
    assert [type(each) for each in actions(target(claims))] == [Inject]
    assert [type(each) for each in actions(target(ASKS | {"byfahrer.target": "www"}))] == [Inject]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"image": "evil"}, "it is not what it says it is"),
        ({"user": "0"}, "it is not what it says it is"),
        ({"user": ""}, "it is not what it says it is"),
        ({"freedoms": ("privileged",)}, "it is not what it says it is: it has privileged"),
        ({"mounts": (Mount(kind="bind", source="/", destination="/x"),)}, "it is not what it says it is"),
    ],
)
def test_a_copy_of_the_labels_makes_no_sidecar(fields, why):
    forged = replace(sidecar(SPEC), **fields)

    assert actions(target(), forged) == (
        Remove(forged, why, drain=True, brief=True),
        Inject("www-proxy", target(), SPEC),
    )


RAW = ASKS | {"byfahrer.cap-add": "NET_RAW"}
ALLOWING = settings.policy(allow_capability=("NET_RAW", "NET_ADMIN"))


def test_a_label_gets_a_capability_only_where_the_operator_allows_it():
    (action,) = actions(target(RAW), policy=ALLOWING)

    assert (action.spec.capabilities, action.spec.user) == (("NET_RAW",), "0:64443")
    assert problems(target(RAW)) == [
        "'www': byfahrer.cap-add='NET_RAW': expected allowed capabilities (--allow-capability): none"
    ]
    assert actions(target(ASKS), policy=ALLOWING)[0].spec.user == "64443:64443"


def test_an_images_own_label_gets_no_further():
    by_image = frozenset(["byfahrer.cap-add"])

    assert len(problems(target(RAW, inherited=by_image))) == 1


@pytest.mark.parametrize("capabilities", [(), ("NET_ADMIN",), ("NET_ADMIN", "NET_RAW"), ("ALL",)])
def test_a_copy_with_other_capabilities_is_no_sidecar_even_where_each_is_allowed(capabilities):
    (action,) = actions(target(RAW), policy=ALLOWING)
    genuine = replace(sidecar(action.spec), capabilities=("NET_RAW",))
    assert actions(target(RAW), genuine, policy=ALLOWING) == ()
    forged = replace(genuine, capabilities=capabilities)
    first, *_ = actions(target(RAW), forged, policy=ALLOWING)

    assert isinstance(first, Remove)
    assert first.why.startswith("it is not what it says it is")
    assert ("it has" in first.why) == (capabilities != ())


def test_a_capability_that_is_allowed_no_more_takes_its_sidecar_with_it_and_a_limit_does_not():
    (action,) = actions(target(RAW), policy=ALLOWING)
    (gone,) = actions(target(RAW), replace(sidecar(action.spec), capabilities=("NET_RAW",)))
    wide = settings.policy(sidecar_memory="256m:1g")
    greedy = target(ASKS | {"byfahrer.memory": "1g"})
    (action,) = actions(greedy, policy=wide)

    assert isinstance(gone, Remove)
    assert actions(greedy, sidecar(action.spec)) == ()
    assert (
        len(plan(Observed(target_id=TARGET_ID, target=greedy, sidecars=(sidecar(action.spec),)), POLICY).problems) == 1
    )


@pytest.mark.parametrize(("name", "value"), [("memory", "1g"), ("pids", "1000"), ("cpus", "0")])
def test_what_an_operator_gives_by_hand_has_no_bounds_but_is_not_started_again(name, value):
    bounded = settings.policy(sidecar_cpus="1")
    wish = wish_by_hand("sslterm", {name: value})
    observed = Observed(target_id=TARGET_ID, target=target({}), by_hand=wish)
    (action,) = plan(observed, bounded).actions
    made = sidecar(action.spec, labels=dict(action.spec.labels))

    assert actions(target({}), made, policy=bounded) == ()
    (removal,) = actions(target({}), replace(made, status=Status.EXITED), policy=bounded)
    assert removal.why == "what it may do is not allowed to be started again"


BESIDE = "expected byfahrer.proxy-image beside it, such as sslterm: without it there is no sidecar"


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"byfahrer.frontend": ":443"}, [f"'www': byfahrer.frontend=':443': {BESIDE}"]),
        ({"org.qnib.byfahrer.frontend": ":443"}, [f"'www': org.qnib.byfahrer.frontend=':443': {BESIDE}"]),
        ({"byfahrer.enable": "true"}, [f"'www': byfahrer.enable='true': {BESIDE}"]),
        ({"byfahrer.enable": "true", "byfahrer.mode": "tcp"}, [f"'www': byfahrer.enable='true': {BESIDE}"]),
        ({"byfahrer.enable": "false"}, []),
        ({"byfahrer.enable": "false", "byfahrer.frontend": ":443"}, []),
        ({"org.qnib.gosslterm.ssl.volume.from": "true"}, []),
        ({"byfahrer.target": ANY_ID, "com.example": "x"}, []),
    ],
)
def test_labels_without_the_one_that_asks_are_told(labels, said):
    assert problems(target(labels)) == said


def test_an_images_labels_without_the_one_that_asks_are_its_makers_offer():
    by_image = frozenset(["byfahrer.frontend"])

    assert problems(target({"byfahrer.frontend": ":443"}, inherited=by_image)) == []
    assert len(problems(target({"byfahrer.frontend": ":443", "byfahrer.mode": "tcp"}, inherited=by_image))) == 1


SHARED = Mount(kind="volume", source="byfahrer-run", destination="/run/byfahrer")
TRUSTING = settings.policy(authority=SHARED)
PRIVATE = Mount(kind="volume", source="c" * 64, destination="/run/sslterm", writable=True)


@pytest.mark.parametrize(
    "mounts",
    [
        (SHARED,),
        (PRIVATE,),
        (SHARED, replace(PRIVATE, writable=False)),
        (replace(SHARED, writable=True), PRIVATE),
        (replace(SHARED, source="other"), PRIVATE),
        (replace(SHARED, kind="bind", source="/run/byfahrer"), PRIVATE),
        (SHARED, PRIVATE, Mount(kind="bind", source="/", destination="/run/sslterm/x")),
    ],
)
def test_a_sidecar_has_exactly_the_mounts_that_lead_to_the_authority(mounts):
    (action,) = actions(target(), policy=TRUSTING)
    genuine = replace(sidecar(action.spec), mounts=(SHARED, PRIVATE))

    assert actions(target(), genuine, policy=TRUSTING) == ()
    assert actions(target(), replace(genuine, mounts=mounts), policy=TRUSTING)[0] == Remove(
        replace(genuine, mounts=mounts), "it is not what it says it is", drain=True, brief=True
    )


def test_a_sidecar_that_signs_for_itself_is_renewed_once_there_is_an_authority():
    (removal, action) = actions(target(), sidecar(SPEC), policy=TRUSTING)

    assert removal == Remove(sidecar(SPEC), "what is asked for has changed", drain=True)
    assert dict(action.spec.env)["SSLTERM_AUTHORITY"] == "/run/byfahrer/authority.sock"


def test_a_volume_that_only_the_sidecars_image_declares_is_no_difference():
    own = Mount(kind="volume", source="c" * 64, destination="/opt/qnib/ssl")

    assert actions(target(), replace(sidecar(SPEC), mounts=(own,), user=SPEC.user)) == ()


def test_byfahrer_never_makes_itself_a_target():
    assert actions(target(), policy=replace(POLICY, own_id=TARGET_ID)) == ()


@pytest.mark.parametrize("status", [s for s in Status if s not in (Status.RUNNING, Status.PAUSED)])
def test_a_target_that_does_not_run_has_no_sidecar(status):
    assert actions(target(status=status)) == ()
    assert actions(target(status=status), sidecar(SPEC)) == (
        Remove(sidecar(SPEC), "its target does not run", drain=False),
    )


def test_a_crash_looping_target_counts_as_not_running_whatever_its_status_says():
    assert actions(replace(target(), pid=0)) == ()


def test_a_paused_target_keeps_its_sidecar():
    assert actions(target(status=Status.PAUSED), sidecar(SPEC)) == ()


def test_an_orphan_is_reaped():
    assert actions(None, sidecar(SPEC)) == (Remove(sidecar(SPEC), "its target is gone", drain=False),)


def test_a_sidecar_that_is_older_than_its_targets_start_is_moved_to_the_new_namespace():
    old = sidecar(SPEC, started_at=99)

    assert actions(target(), old) == (Restart(old, "its target has restarted"),)
    assert actions(target(), sidecar(SPEC, started_at=100)) == ()


@pytest.mark.parametrize("status", [Status.CREATED, Status.EXITED])
def test_a_sidecar_that_is_there_but_does_not_run_is_started(status):
    assert actions(target(), sidecar(SPEC, status)) == (Start(sidecar(SPEC, status)),)


def test_a_paused_sidecar_is_restarted():
    assert actions(target(), sidecar(SPEC, Status.PAUSED)) == (Restart(sidecar(SPEC, Status.PAUSED), "it is paused"),)


@pytest.mark.parametrize("status", [Status.DEAD, Status.RESTARTING, Status.UNKNOWN])
def test_a_sidecar_in_a_state_that_leads_nowhere_is_replaced(status):
    first, second = actions(target(), sidecar(SPEC, status))

    assert isinstance(first, Remove)
    assert isinstance(second, Inject)


@pytest.mark.parametrize("carried", [{}, {"byfahrer.mode": "tcp"}, ASKS | {"byfahrer.mode": "tcp"}])
def test_whose_service_is_not_known_keeps_the_sidecar_that_serves(carried):
    """A node that has lost what it knew, or knows nothing yet, takes nobody's TLS away."""
    task = target(carried)

    assert actions(task, sidecar(SPEC), service_unknown=True) == ()


def test_whose_service_is_not_known_gets_what_its_own_labels_ask_for():
    assert actions(target({}), service_unknown=True) == ()
    (made,) = actions(target(), service_unknown=True)
    assert isinstance(made, Inject)
    (first, *_) = actions(target(), sidecar(SPEC, Status.EXITED), service_unknown=True)
    assert isinstance(first, Start | Restart)


def test_a_sidecar_that_is_being_removed_counts_as_gone():
    (action,) = actions(target(), sidecar(SPEC, Status.REMOVING))

    assert isinstance(action, Inject)
    assert actions(None, sidecar(SPEC, Status.REMOVING)) == ()


def test_a_sidecar_that_may_use_more_than_the_operator_allows_by_now_serves_no_longer():
    asks = target(ASKS | {"byfahrer.memory": "1g"})
    serves = replace(sidecar(SPEC), memory=1 << 30)
    policies = (settings.policy(sidecar_memory="256m:1g"), settings.policy(sidecar_memory="256m:2g"))
    lowered = settings.policy(sidecar_memory="256m:512m")

    assert [type(each) for each in actions(asks, serves, policy=lowered)] == [Remove]
    for policy in policies:
        assert Remove(serves, "its target is refused", drain=True) not in actions(asks, serves, policy=policy)
    within = replace(serves, memory=512 << 20)
    assert actions(asks, within, policy=lowered) == ()


def test_another_spec_means_another_sidecar_after_a_drain_of_the_old():
    old = sidecar(replace(SPEC, image="sslterm:old"))
    first, second = actions(target(), old)

    assert first == Remove(old, "what is asked for has changed", drain=True)
    assert second == Inject("www-proxy", target(), SPEC)


def test_labels_of_the_spec_alone_make_no_other_sidecar():
    assert actions(target(), sidecar(replace(SPEC, labels=(("team", "x"),)))) == ()


def test_of_several_sidecars_the_best_one_stays():
    stale = sidecar(SPEC, started_at=1, ident="1" * 64)
    good = sidecar(SPEC, ident="2" * 64)
    spare = sidecar(SPEC, ident="3" * 64)

    assert [a.sidecar.id[0] for a in actions(target(), stale, spare, good)] == ["1", "3"]


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        ("host", "'www': --network host: expected a bridge"),
        ("none", "'www': --network none: expected a bridge"),
        ("container:" + "c" * 64, "'www': --network container:cccccccccccc: expected a bridge"),
    ],
)
def test_networks_that_cannot_be_shared_are_refused_with_what_would_be_right(mode, says):
    (text,) = problems(target(network_mode=mode))

    assert text.startswith(says)
    assert "\n" not in text


def test_a_million_labels_are_refused_without_a_look_at_each():
    many = ASKS | {f"byfahrer.x{number}": "" for number in range(1_000_000)}
    began = time.process_time()

    assert problems(target(many)) == ["'www': it has 1000001 labels: expected at most 10000"]
    assert time.process_time() - began < 1


def test_an_image_that_is_not_allowed_is_refused_and_the_list_is_named():
    (text,) = problems(target({"byfahrer.proxy-image": "evil.com/sslterm"}))

    assert text.startswith(
        "'www': byfahrer.proxy-image='evil.com/sslterm': expected an allowed image (--allow-image): "
    )
    assert text.endswith(": sslterm*, gosslterm*, qnib/gosslterm*")


def test_a_typo_in_a_services_labels_does_not_take_a_sidecar_down_that_serves():
    bad = target(ASKS | {"byfahrer.mode": "x"})
    serving = sidecar(SPEC)
    found = plan(Observed(target_id=TARGET_ID, target=bad, sidecars=(serving,)), POLICY)

    assert found.actions == ()
    assert [str(p) for p in found.problems] == ["'www': byfahrer.mode='x': expected http or tcp"]
    for useless in (
        replace(serving, started_at=1),
        replace(serving, freedoms=("privileged",)),
        replace(serving, image="evil"),
    ):
        found = plan(Observed(target_id=TARGET_ID, target=bad, sidecars=(useless,)), POLICY)
        assert [type(action) for action in found.actions] == [Remove]


def test_a_target_whose_image_is_not_allowed_any_more_loses_the_sidecar_it_had():
    bad = target({"byfahrer.proxy-image": "evil"})
    found = plan(Observed(target_id=TARGET_ID, target=bad, sidecars=(sidecar(SPEC),)), POLICY)

    assert [type(action) for action in found.actions] == [Remove]


def test_labels_of_the_service_ask_too():
    assert wanted(target({}), service=Service(labels=ASKS | {"byfahrer.mode": "tcp"})).env[1:] == (
        ("SSLTERM_MODE", "tcp"),
    )


class TestByHand:
    def test_the_operators_wish_stands_in_for_labels_and_needs_no_allowed_image(self):
        made = wanted(target({}), by_hand=wish_by_hand("evil.com/x", {"frontend": ":443"}))

        assert made.image == "evil.com/x"
        assert dict(made.labels) == {
            "byfahrer.manual": "true",
            "byfahrer.proxy-image": "evil.com/x",
            "byfahrer.frontend": ":443",
        }

    def test_the_sidecar_carries_the_wish_on(self):
        made = wanted(target({}), by_hand=wish_by_hand("sslterm", {"frontend": ":443"}))
        kept = sidecar(made, labels=dict(made.labels))

        assert actions(target({}), kept) == ()
        old = replace(kept, started_at=1)
        assert actions(target({}), old) == (Restart(old, "its target has restarted"),)
        assert actions(target({}, Status.EXITED), kept) == (Remove(kept, "its target does not run", drain=False),)

    def test_a_sidecar_of_an_image_that_is_not_allowed_stays_while_it_fits_and_is_never_made_again(self):
        made = wanted(target({}), by_hand=wish_by_hand("evil.com/x", {}))
        kept = replace(sidecar(made, labels=dict(made.labels)), image="evil.com/x")
        created = replace(kept, status=Status.CREATED, started_at=0)
        why = "image 'evil.com/x' is not allowed (--allow-image) to be started again"

        for stays in (kept, created, replace(kept, status=Status.PAUSED)):
            assert plan(Observed(target_id=TARGET_ID, target=target({}), sidecars=(stays,)), POLICY) == Plan()
        for goes in (replace(kept, started_at=1), replace(kept, status=Status.EXITED)):
            assert actions(target({}), goes) == (Remove(goes, why, drain=True, brief=True),)
        allowing = settings.policy(allow_image=("evil.com/x",))
        old = replace(kept, started_at=1)
        assert actions(target({}), old, policy=allowing) == (Restart(old, "its target has restarted"),)

    def test_the_targets_own_labels_win(self):
        made = wanted(target({}), by_hand=wish_by_hand("sslterm", {"frontend": ":443"}))
        first, second = actions(target(), sidecar(made, labels=dict(made.labels)))

        assert isinstance(first, Remove)
        assert second == Inject("www-proxy", target(), SPEC)


class TestScope:
    POLICY = settings.policy(only_label=("team=a", "stage"))
    MINE = ASKS | {"team": "a", "stage": "test"}

    def test_only_targets_with_all_labels_are_served_and_their_sidecars_are_marked(self):
        (action,) = actions(target(self.MINE), policy=self.POLICY)

        assert action.spec.labels == (("stage", "test"), ("team", "a"))
        assert actions(target(ASKS | {"team": "a"}), policy=self.POLICY) == ()
        assert actions(target(ASKS | {"team": "b", "stage": "x"}), policy=self.POLICY) == ()

    def test_the_sidecars_of_others_are_left_alone_alive_or_orphaned(self):
        other = sidecar(SPEC, labels={"team": "b", "stage": "x"})
        mine = sidecar(SPEC, labels={"team": "a", "stage": "x"})

        assert actions(target({"team": "b"}), other, policy=self.POLICY) == ()
        assert actions(None, other, policy=self.POLICY) == ()
        assert len(actions(None, mine, policy=self.POLICY)) == 1

    def test_a_dead_task_whose_services_labels_are_not_known_loses_its_sidecar_all_the_same(self):
        mine = sidecar(SPEC, labels={"team": "a", "stage": "x"})

        assert len(actions(target({}, Status.EXITED), mine, policy=self.POLICY)) == 1


# Everything at once.

LABELS = st.dictionaries(
    st.sampled_from(
        ["byfahrer.proxy-image", "org.qnib.byfahrer.proxy-image", "byfahrer.enable", "byfahrer.mode", "byfahrer.target",
         "byfahrer.frontend", "byfahrer.oops", "org.qnib.gosslterm.ssl.volume.from", "team"]
    ),
    st.sampled_from(["sslterm", "evil/x", "true", "false", "http", "tcp", ":443", ""]),
    max_size=4,
)  # fmt: skip
SPECS = st.sampled_from([SPEC, replace(SPEC, image="sslterm:old"), wanted(target(ASKS | {"byfahrer.mode": "tcp"}))])
STATUSES = st.sampled_from(list(Status))
IMAGE_IDS = st.sampled_from(["sha256:1", "sha256:2"])


@st.composite
def states(draw):
    who = draw(st.none() | st.just("target"))
    network = draw(st.sampled_from(["default", "default", "default", "host", "none", "container:x"]))
    sidecars = []
    for number in range(draw(st.integers(0, 3))):
        made = sidecar(
            draw(SPECS), draw(STATUSES), draw(st.integers(0, 3)), f"{number:064x}",
            draw(st.sampled_from([{}, {"team": "x"}, {"byfahrer.manual": "true", "byfahrer.proxy-image": "sslterm"}]))
            | draw(st.sampled_from([{}, {labels.HAND_OVER: "SIGUSR2"}])),
        )  # fmt: skip
        name = draw(st.sampled_from(["www-proxy", "www-proxy-next"]))
        sidecars.append(
            replace(made, name=name, image_id=draw(IMAGE_IDS), health=draw(st.sampled_from(["", "unhealthy"])))
        )
    return Observed(
        target_id=TARGET_ID,
        target=target(draw(LABELS), draw(STATUSES), draw(st.integers(0, 3)), network_mode=network) if who else None,
        service=Service(labels=draw(LABELS)),
        sidecars=tuple(draw(st.permutations(sidecars))),
        image_id=draw(st.none() | IMAGE_IDS),
        proven=frozenset(draw(st.sets(st.sampled_from([s.id for s in sidecars])) if sidecars else st.just(()))),
    )


POLICIES = st.sampled_from(
    [
        POLICY,
        settings.policy(allow_image=("*/*",)),
        settings.policy(only_label=("team",)),
        replace(POLICY, own_id=TARGET_ID),
    ]
)  # fmt: skip


def carried_out(observed, todo: Plan):
    """The state after the actions, as the engine would have it."""
    sidecars = {s.id: s for s in observed.sidecars}
    now = 10
    for action in todo.actions:
        if isinstance(action, Remove):
            del sidecars[action.sidecar.id]
        elif isinstance(action, Inject):
            made = sidecar_labels(action.target, action.spec) | {labels.HAND_OVER: "SIGUSR2"}
            sidecars["new"] = Container(
                id="new", name=action.name, image=action.spec.image, labels=made, user=action.spec.user,
                status=Status.RUNNING, pid=9, started_at=now, image_id=observed.image_id or "",
                env=dict(action.spec.env),
            )  # fmt: skip
        elif isinstance(action, Rename):
            sidecars[action.sidecar.id] = replace(sidecars[action.sidecar.id], name=action.name)
        else:
            sidecars[action.sidecar.id] = replace(action.sidecar, status=Status.RUNNING, started_at=now, health="")
    return replace(observed, sidecars=tuple(sidecars.values()))


def time_passed(observed):
    """Whatever runs has proved itself."""
    return replace(observed, proven=frozenset(s.id for s in observed.sidecars if s.status is Status.RUNNING))


def settled(observed, policy):
    """What the plan leads to when all that is started works, and who is to leave for it does."""
    after = time_passed(carried_out(observed, plan(observed, policy)))
    spare = plan(after, policy).spare
    left = [replace(each, status=Status.EXITED) if each == spare else each for each in after.sidecars]
    after = replace(after, sidecars=tuple(left))
    return carried_out(after, plan(after, policy))


@hypothesis_settings(deadline=None)
@given(states(), POLICIES)
def test_for_any_state_carrying_out_the_plan_leaves_nothing_to_do(observed, policy):
    todo = plan(observed, policy)
    after = carried_out(observed, todo)
    again = plan(after, policy)

    # Nothing but to wait until a new one has proved itself; and of any two of ours one is the other's spare.
    assert again.actions == ()
    assert (again.awaited is None) == (again.spare is None)
    assert plan(time_passed(settled(observed, policy)), policy) == plan(settled(observed, policy), policy)
    assert plan(settled(observed, policy), policy).actions == ()
    # A wish by hand goes with the sidecar that carried it.
    if not any(labels.wish_of(each) for each in observed.sidecars):
        assert plan(after, policy).problems == todo.problems


@hypothesis_settings(deadline=None)
@given(states(), POLICIES)
def test_never_are_there_more_than_two(observed, policy):
    covered = observed.target and policy.covers({**observed.service.labels, **observed.target.labels})
    after = carried_out(observed, plan(observed, policy)).sidecars

    assert not covered or len([s for s in after if s.status is not Status.REMOVING]) <= 2


@hypothesis_settings(deadline=None)
@given(states(), POLICIES, st.randoms())
def test_the_plan_depends_on_nothing_but_the_state(observed, policy, random):
    shuffled = list(observed.sidecars)
    random.shuffle(shuffled)

    assert plan(replace(observed, sidecars=tuple(shuffled)), policy) == plan(observed, policy)


@hypothesis_settings(deadline=None)
@given(states(), POLICIES)
def test_afterwards_there_is_one_sidecar_or_none_and_none_without_a_running_target(observed, policy):
    covered = observed.target and policy.covers({**observed.service.labels, **observed.target.labels})
    if observed.target and observed.target.alive and not covered:
        assert plan(observed, policy) == Plan()
        return
    after = settled(observed, policy).sidecars
    mine = [s for s in after if s.status is not Status.REMOVING and (covered or policy.covers(s.labels))]

    assert len(mine) <= 1
    if mine:
        assert observed.target is not None
        assert observed.target.alive
        assert mine[0].started_at >= observed.target.started_at or mine[0].status is Status.CREATED


def test_the_digest_is_the_same_in_every_process():
    spec = SidecarSpec(image="sslterm", user="1:1", memory=1)

    assert spec.digest == "cdf77b7cba50fc59"
