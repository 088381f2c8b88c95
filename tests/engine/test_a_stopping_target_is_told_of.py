"""A sidecar whose image says how hears that its target is about to stop; and by no other signal to the target."""

from __future__ import annotations

import json

import pytest

from lab.waiting import wait_until

HEARS = """
import signal, time
def heard(number, frame): print("heard", number, flush=True)
for number in (signal.SIGUSR1, signal.SIGUSR2): signal.signal(number, heard)
print("ready", flush=True)
while True: time.sleep(60)
"""
IGNORES = "import signal\nwhile True: signal.pause()"
"""As the first process of a container it gets no signal that it did not ask for."""


def python(program):
    return ["/usr/bin/python3", "-I", "-S", "-c", program]


@pytest.fixture
def image(lab):
    """A sidecar that prints what it hears, and whose image says that it wants to hear SIGUSR2."""
    made = lab.api.create_container("sslterm", labels={"byfahrer-test": lab.mark})["Id"]
    changes = ["LABEL sslterm.drain-signal=SIGUSR2", f"ENTRYPOINT {json.dumps(python(HEARS))}"]
    lab.api.commit(made, repository="sslterm", tag=lab.mark, changes=changes)
    lab.images.append(f"sslterm:{lab.mark}")
    return lab.images[-1]


@pytest.mark.parametrize(("stop_signal", "sent"), [("", "TERM"), ("SIGQUIT", "QUIT")])
def test_it_hears_of_the_targets_stop_signal_and_of_no_other(lab, injector, image, stop_signal, sent):
    injector().is_ready()
    www = lab.run(
        image="sslterm", entrypoint=python(IGNORES), labels={"byfahrer.proxy-image": image},
        **({"stop_signal": stop_signal} if stop_signal else {}),
    )  # fmt: skip

    def says():
        found = lab.sidecars(www)
        return lab.api.logs(found[0]["Id"]).decode().split("\n")[:-1] if found else []

    wait_until(lambda: says() == ["ready"], 30)
    for other in {"HUP", "TERM", "QUIT", "USR1"} - {sent}:
        lab.api.kill(www, other)
    lab.api.kill(www, sent)
    wait_until(lambda: len(says()) > 1)
    lab.api.kill(www, sent)
    wait_until(lambda: len(says()) > 2)

    assert says() == ["ready", "heard 12", "heard 12"]
