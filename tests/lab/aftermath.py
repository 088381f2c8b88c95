"""For tests that run commands as a reader would, under names and ports of the reader's choosing."""

from __future__ import annotations

import contextlib
import time
from contextlib import contextmanager

from docker.errors import APIError, NotFound

from lab.engine import remove_unnamed_volumes


@contextmanager
def nothing_left(api, *names, volumes=()):
    """
    Fails if one of `names` is taken; afterwards removes, by id, every container that came in between.

    Volumes of these names are removed too, unless they were there before.
    """
    taken = [each["Names"][0] for each in api.containers(all=True) if each["Names"][0].removeprefix("/") in names]
    assert not taken, f"these containers are in the way (make demo-down?): {taken}"
    before = {each["Id"] for each in api.containers(all=True)}
    kept = {each["Name"] for each in api.volumes()["Volumes"] or []}
    try:
        yield
    finally:
        for _ in range(100):  # an injector among them may be at work while we remove
            left = [each for each in api.containers(all=True) if each["Id"] not in before]
            left.sort(key=lambda each: "byfahrer.target" in each["Labels"])
            if not left:
                break
            for each in left:
                with contextlib.suppress(APIError):
                    api.remove_container(each["Id"], force=True, v=True)
            time.sleep(0.05)
        for name in set(volumes) - kept:
            with contextlib.suppress(NotFound):
                api.remove_volume(name)
        remove_unnamed_volumes(api, kept)  # `compose down` leaves them
