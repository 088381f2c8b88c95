"""Many at once are served side by side, and none of their sidecars outlives them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from lab.waiting import wait_until

MANY = 20


def test_twenty_containers_started_at_once_all_answer_and_killed_at_once_leave_nothing(lab, injector):
    daemon = injector(level="info").is_ready()
    targets = [lab.run(f"www{number}", start=False) for number in range(MANY)]
    with ThreadPoolExecutor(MANY) as pool:
        list(pool.map(lab.api.start, targets))
    for each in targets:
        lab.becomes_served(each, 60)
    assert len(lab.sidecars()) == MANY

    with ThreadPoolExecutor(MANY) as pool:
        list(pool.map(lab.api.kill, targets))
    wait_until(lambda: not lab.sidecars(), 10)

    assert daemon.saying("ERROR") == []
