"""
From any state, after anything that may happen, the promise comes true by itself, and then there is nothing to do.

The first half is hypothesis on all of it at once, the second half what it found.
"""

import os

import pytest
from hypothesis import given, note
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from loguru import logger

from lab.model import check
from lab.sequences import steps

SEQUENCES = int(os.environ.get("SEQUENCES", "300"))


@pytest.fixture(autouse=True, scope="module")
def quiet():
    logger.disable("byfahrer")
    yield
    logger.enable("byfahrer")


@hypothesis_settings(deadline=None, max_examples=SEQUENCES)
@given(steps(), st.integers(0, 1000), st.booleans())
def test_after_anything_the_promise_comes_true_and_stays(happens, seed, unruly):
    check(happens, seed, unruly=unruly, tell=note)
