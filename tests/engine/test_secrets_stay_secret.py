"""Keys and tokens are where they are needed, and in no log, `docker inspect`, answer, error or metric."""

from __future__ import annotations

import http.client
import json
import re

import pytest

from lab.injector import byfahrer
from lab.trust import certificate, client, file_of, get, post, scene, token_of
from lab.waiting import wait_until

PRIVATE = re.compile("PRIVATE KEY")


@pytest.fixture(scope="module")
def stage(engine):
    """A target that has been through most of what can happen to one, with everything said aloud."""
    with scene(engine) as made:
        made.begin()
        made.target(log_level="debug", client_auth="optional", allow="all")
        yield made


@pytest.fixture(scope="module")
def www(stage):
    return next(each["Id"] for each in stage.lab.api.containers(filters={"name": [f"^/{stage.lab.mark}-www$"]}))


@pytest.fixture(scope="module")
def secrets(stage, www):
    """By what each is; all of them are told where one is found."""
    state = stage.home.path / "state"
    token = token_of(stage.lab, stage.sidecar(www))
    root_key = json.loads((state / "ca.json").read_text())["key"]
    return {
        "the token": token,
        "the token's code": token.rpartition(".")[2],
        "the token's key": (state / "token.key").read_text().strip(),
        "the root's key": "".join(root_key.splitlines()[1:-1])[:48],
    }


def found(text, secrets):
    """Which secrets are in a text, however its lines are broken."""
    flat = text.replace("\\n", "").replace("\n", "")
    return [name for name, secret in secrets.items() if secret in flat] + PRIVATE.findall(text)


def test_the_search_finds_what_there_is(stage, secrets):
    state = stage.home.path / "state"

    assert found((state / "token.key").read_text(), secrets) == ["the token's key"]
    assert found((state / "ca.json").read_text(), secrets) == ["the root's key", "PRIVATE KEY", "PRIVATE KEY"]
    assert found(f"Bearer {secrets['the token']}\n", secrets) == ["the token", "the token's code"]


def test_inspect_of_target_and_sidecar(stage, www, secrets):
    for each in (www, stage.sidecar(www)):
        assert found(json.dumps(stage.lab.look(each)), secrets) == []


def test_logs_of_target_sidecar_and_injector(stage, www, secrets):
    """After successes and failures of every kind, at the level debug."""
    token = secrets["the token"]
    context = client(stage.home.root())
    assert get(stage.lab.address(www), context)[0] == 200
    assert certificate(stage.home, token)[0] == 200
    assert certificate(stage.home, token, "www.example.org")[0] == 403
    assert certificate(stage.home, token[:-1] + "x")[0] == 401
    assert post(stage.home.socket, "/v1/certificate", token, b"no request")[0] == 400
    before = stage.injector
    before.stop()
    stage.begin()
    assert byfahrer("ca", "rotate", env=stage.home.env).code == 0
    stage.lab.api.restart(www, timeout=1)
    root = stage.home.root()
    wait_until(lambda: get_quietly(stage.lab.address(www), client(root)), 20)
    logs = [stage.lab.api.logs(each).decode() for each in (www, stage.sidecar(www))]

    assert logs[1].count("\n") > 5
    assert len(before.lines) > 5
    for text in (*logs, "\n".join(before.lines), "\n".join(stage.injector.lines)):
        assert found(text, secrets) == []


def get_quietly(address, context):
    try:
        return get(address, context)[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def test_answers_and_errors_of_the_authority(stage, secrets):
    token = secrets["the token"]
    _, csr = b"", b"no request"
    answers = [
        certificate(stage.home, token)[1],
        certificate(stage.home, token, "www.example.org")[1],
        certificate(stage.home, f"{token}0")[1],
        post(stage.home.socket, "/v1/certificate", token, csr)[1],
        post(stage.home.socket, "/v1/status", token, b"{")[1],
        post(stage.home.socket, f"/v1/{token}", token, b"{}")[1],
    ]

    assert found(json.dumps(answers), secrets) == []


def test_the_sidecars_environment_and_command_line(stage, www, secrets):
    top = stage.lab.api.top(stage.sidecar(www), ps_args="-eo pid,args")
    assert found(json.dumps(top), secrets) == []
    for pid in [row[0] for row in top["Processes"]]:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123
            assert found(file.read().decode(), secrets) == []


def test_what_byfahrer_prints(stage, secrets):
    for command in (
        ("ps", "--only-label", stage.lab.scope),
        ("ps", "--json", "--only-label", stage.lab.scope),
        ("ca", "ls"),
        ("ca", "root"),
    ):
        done = byfahrer(*command, env=stage.home.env)
        assert (command, done.code, done.err.count("Traceback")) == (command, 0, 0)
        assert found(done.out + done.err, secrets) == []


def test_the_state_folder_is_for_its_owner_alone(stage, secrets):
    files = [each for each in (stage.home.path / "state").rglob("*") if each.is_file()]

    assert {"ca.json", "token.key"} <= {each.name for each in files}
    for each in files:
        if found(each.read_text(errors="replace"), secrets):
            assert oct(each.stat().st_mode & 0o777) == "0o600"


def test_with_the_injector_in_a_container_of_its_own(lab):
    own = lab.run(
        "byfahrer", "byfahrer", asks=False, command=["--log-level", "debug", "run"],
        environment={"BYFAHRER_ONLY_LABEL": lab.scope},
        host={"binds": ["/var/run/docker.sock:/var/run/docker.sock"]},
    )  # fmt: skip
    wait_until(lambda: b"Connected to" in lab.api.logs(own), 20)
    www = lab.run()
    made = lab.api.exec_create(own, ["/usr/bin/byfahrer", "ca", "root"], stderr=False)
    context = client(lab.api.exec_start(made["Id"]).decode())
    wait_until(lambda: get_quietly(lab.address(www), context), 20)
    sidecar = lab.sidecars(www)[0]["Id"]
    state = {name: file_of(lab, own, f"/var/lib/byfahrer/{name}") for name in ("ca.json", "token.key")}
    secrets = {
        "the token": file_of(lab, sidecar, "/run/sslterm/token").strip(),
        "the token's key": state["token.key"].strip(),
        "the root's key": "".join(json.loads(state["ca.json"])["key"].splitlines()[1:-1])[:48],
    }
    for each in (own, www, sidecar):
        assert found(json.dumps(lab.look(each)), secrets) == []
        assert found(lab.api.logs(each).decode(), secrets) == []
    assert len(found("".join(secrets.values()), secrets)) == len(secrets)
