"""
From any state, after anything that may happen, the promise comes true by itself, and then there is nothing to do.

All of it at once is drawn by hypothesis: the same 400 sequences each time, so that a failure is the change's, and with
`SEQUENCES=20000` others at each run (an hour). One fault at each call that an injector makes is gone through, and what
must never break again has a name. A sample runs on a real engine (tests/engine).
"""

import os

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from loguru import logger

from lab.model import BrokenPromiseError, check, shrunk
from lab.promise import Step
from lab.sequences import sample, sequences

CHOSEN = int(os.environ.get("SEQUENCES", "0"))
SEQUENCES = CHOSEN or 400


@pytest.fixture(autouse=True, scope="module")
def quiet():
    logger.disable("byfahrer")
    yield
    logger.enable("byfahrer")


@pytest.mark.timeout(120 + SEQUENCES)
@hypothesis_settings(
    deadline=None,
    max_examples=SEQUENCES,
    derandomize=not CHOSEN,
    phases=[Phase.reuse, Phase.generate],  # numbers cannot be shrunk, but what they stand for
    suppress_health_check=[HealthCheck.too_slow],
)
@given(sequences(), st.integers(0, 2**32), st.booleans())
def test_after_anything_the_promise_comes_true_and_stays(happens, seed, unruly):
    try:
        check(happens, seed, unruly=unruly)
    except BrokenPromiseError:
        happens = shrunk(happens, seed, unruly=unruly)
        print(f"check({happens}, {seed}, unruly={unruly})")
        check(happens, seed, unruly=unruly, tell=print)


# One fault at any of the calls that an injector makes on these occasions.

OCCASIONS = {
    "start": [Step("run", wait=4.0)],
    "restart": [Step("restart", what="0.1", wait=4.0)],
    "end": [Step("remove", wait=4.0)],
    "crash of the sidecar": [Step("sidecar", what="kill", wait=4.0)],
    "update of its image": [
        Step("image", what="updated"), Step("injector", what="kill"), Step("injector", what="start", wait=9.0),
    ],
    "change of what is asked for": [Step("service", what="tcp", wait=9.0)],
    "exchange of names": [
        Step("rename"), Step("rename", who=1, what="www0"), Step("rename", what="www1", wait=4.0)
    ],
}  # fmt: skip
FAULTS = {
    "injector killed": [Step("injector", what="kill"), Step("injector", what="start", wait=4.0)],
    "target restarted": [Step("restart", what="0")],
    "target gone": [Step("remove")],
    "sidecar gone": [Step("sidecar", what="remove")],
    "everything away": [Step("engine", what="away"), Step("engine", what="back", wait=4.0)],
}
BEFORE = [Step("service", what="asks"), Step("run", what="task", wait=1.0), Step("run", who=1, wait=4.0)]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("occasion", OCCASIONS)
def test_one_fault_at_any_call(occasion, fault):
    before = [] if occasion == "start" else BEFORE
    first, *then = FAULTS[fault]
    acts = check([*before, *OCCASIONS[occasion]]).acts - check(before).acts
    assert acts > 0
    # The first calls look, and then some act.
    for moment in [*(f"{n} call" for n in range(1, 7)), *(f"{n} change" for n in range(1, acts + 1))]:
        trap = Step(first.do, who=first.who, what=first.what, at=moment)
        happens = [*before, trap, *OCCASIONS[occasion], *then]
        try:
            check(happens)
        except BrokenPromiseError as error:
            raise AssertionError(f"{happens}: {error}") from error


@pytest.mark.parametrize("seed", range(4))
def test_what_a_real_engine_is_put_through(seed):
    check(sample(seed))


# What was found, and what must never be.

NAMED = {
    "the answer to a create is lost": [Step("fail", what="create lost"), Step("run", wait=1.0)],
    "a target that asks anew is said not to be there": [
        Step("run", who=1, what="task", wait=1.0), Step("service", what="tcp", wait=0.01),
        Step("fail", what="inspect 404", wait=35.0),
    ],
    "two targets exchange their names": [
        Step("run", wait=1.0), Step("run", who=1, wait=1.0),
        Step("rename"), Step("rename", who=1, what="www0"), Step("rename", what="www1", wait=1.0),
    ],
    "a renamed target's sidecar follows, and a newcomer gets the name": [
        Step("run", wait=1.0), Step("rename"), Step("run", wait=1.0),
    ],
    "a sidecar that somebody renamed": [Step("run", wait=1.0), Step("sidecar", what="rename", wait=1.0)],
    "the clock is set back, and the target restarts": [
        Step("run", wait=1.0), Step("clock", what="-86400"), Step("restart", what="0.1", wait=1.0),
    ],
    "the clock is set back, and two injectors do not know of each other's starts": [
        Step("run", wait=1.0), Step("clock", what="-86400"), Step("sidecar", what="remove", wait=4.0),
        Step("injector", what="second", wait=35.0),
    ],
    "a restart of which no event tells": [
        Step("run", wait=1.0), Step("engine", what="deaf"), Step("restart", what="0"), Step("engine", what="hears"),
    ],
    "an image updated, of which no event tells, and two injectors": [
        Step("injector", what="second"), Step("run", wait=5.0), Step("engine", what="deaf"),
        Step("image", what="updated"),
    ],
    "an image that cannot work comes by update, and is mended": [
        Step("run", wait=5.0), Step("image", what="broken"), Step("image", what="updated", wait=35.0),
        Step("image", what="mended"), Step("image", what="updated", wait=1.0),
    ],
    "a stranger has the name, and leaves": [
        Step("stranger", wait=1.0), Step("run", wait=11.0), Step("farewell", wait=1.0),
    ],
    "another user, as an upgrade may want": [Step("run", wait=4.0), Step("injector", what="upgrade", wait=1.0)],
    "a crash loop of the target": [Step("run", wait=1.0), Step("crash", what="6", wait=35.0)],
    "what is asked for makes no sense any more": [
        Step("run", what="task"), Step("service", what="asks", wait=4.0), Step("service", what="wrong", wait=4.0),
        Step("restart", what="0.1", wait=1.0), Step("service", what="tcp"),
    ],
    "an engine that hangs": [
        Step("run", wait=1.0), Step("engine", what="hangs", wait=11.0), Step("restart", what="3", wait=35.0),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("unruly", [False, True], ids=["", "unruly"])
def test_named(name, unruly):
    for seed in range(3):
        check(NAMED[name], seed, unruly=unruly)
