"""By two labels a target hears only whom it allows; and two containers prove to each other who they are."""

from __future__ import annotations

import io
import json
import re
import subprocess
import tarfile

import pytest

from lab.certificates import Pem
from lab.injector import byfahrer
from lab.private_ca import CLIENT, PrivateCa
from lab.programs import CALL
from lab.trust import DOMAIN, PORT, certificate, client, get, leaf, scene, token_of
from lab.waiting import wait_until

LAPTOP = f"spiffe://{DOMAIN}/client/laptop"


@pytest.fixture(scope="module")
def stage(engine):
    with scene(engine) as made:
        made.begin()
        yield made


@pytest.fixture(scope="module")
def required(stage):
    return stage.target("required", client_auth="required", allow=LAPTOP)


def issued(home, name):
    """A pair from `byfahrer ca issue`."""
    done = byfahrer("ca", "issue", "--name", name, env=home.env)
    assert done.code == 0, done.err
    key = re.search(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----\n", done.out, re.DOTALL)[0]
    return Pem(done.out.replace(key, "").encode(), key.encode())


def ask(stage, target, pair=None, **headers):
    context = client(stage.home.root(), pair)
    return get(stage.lab.address(target), context, headers={each.replace("_", "-"): headers[each] for each in headers})


def logged(stage, target, pattern):
    """Wait for a line in the sidecar's log."""
    wait_until(lambda: re.search(pattern, stage.lab.api.logs(stage.sidecar(target)).decode()), 20)


def test_the_right_one_is_heard_and_the_target_is_told_who_it_is(stage, required):
    status, body = ask(stage, required, issued(stage.home, "laptop"))

    assert status == 200
    assert f"URI={LAPTOP}" in body
    assert "Client-Cert" in body


def test_curl_with_an_issued_pair(stage, required, tmp_path):
    cert, key = issued(stage.home, "laptop").write(tmp_path)
    (tmp_path / "root.pem").write_text(stage.home.root())
    done = subprocess.run(
        ("curl", "--silent", "--show-error", "--cacert", tmp_path / "root.pem", "--cert", cert, "--key", key,
         "--connect-to", f"localhost:{PORT}:{stage.lab.address(required)}:{PORT}", f"https://localhost:{PORT}/headers"),
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")
    assert LAPTOP in done.stdout


def test_without_a_certificate(stage, required):
    status, reason = ask(stage, required)

    assert status is None
    assert "CERTIFICATE_REQUIRED" in reason.upper()


def test_from_a_foreign_authority(stage, required):
    stranger = PrivateCa.made().issue("laptop", LAPTOP, usage=CLIENT)

    assert ask(stage, required, stranger)[0] is None


def test_expired(stage, required):
    authority = stage.home.authority()
    good = authority.issue("laptop", LAPTOP, usage=CLIENT)
    expired = authority.issue("laptop", LAPTOP, usage=CLIENT, begins=-2, ends=-1)

    assert ask(stage, required, good)[0] == 200
    assert ask(stage, required, expired)[0] is None


def test_not_allowed_is_denied_with_its_name_in_the_log(stage, required):
    status, body = ask(stage, required, issued(stage.home, "phone"))

    assert status == 403
    assert "not allowed" in body
    logged(stage, required, f"spiffe://{DOMAIN}/client/phone")


def test_what_the_client_says_of_itself_never_reaches_the_target(stage):
    www = stage.target("optional", client_auth="optional", allow=LAPTOP)
    claims = {"Client_Cert": ":AAAA:", "Client_Cert_Chain": ":AAAA:", "X_Forwarded_Client_Cert": f"URI={LAPTOP}"}
    status, body = ask(stage, www, **claims)

    assert status == 200
    assert "Client-Cert" not in body
    assert LAPTOP not in body
    status, body = ask(stage, www, issued(stage.home, "laptop"), **claims)
    assert status == 200
    assert "AAAA:" not in body
    assert body.count(LAPTOP) == 1


def test_required_without_allow_is_refused_with_what_to_write(stage):
    www = stage.lab.run("open", labels={"byfahrer.client-auth": "required"})
    line = stage.injector.says("byfahrer.allow")

    assert f"{stage.lab.mark}-open" in line
    assert "all" in line
    assert stage.lab.sidecars(www) == []


def put(stage, target, name, content):
    """A file at the root of a target."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    stage.lab.api.put_archive(target, "/", packed.getvalue())


def call(stage, caller, callee, pair="/pair.pem"):
    """Status and body of a request from one container to another, by its name."""
    made = stage.lab.api.exec_create(
        caller,
        ["/usr/bin/python3", "-c", CALL, stage.lab.address(callee), callee_name(stage, callee), "/roots.pem", pair],
    )
    return json.loads(stage.lab.api.exec_start(made["Id"]))


def callee_name(stage, callee):
    return stage.lab.look(callee)["Name"].lstrip("/")


def test_two_containers_talk_to_each_other_and_each_knows_who_calls(stage):
    lab = stage.lab
    spiffe = {each: f"spiffe://{DOMAIN}/ns/default/svc/{lab.mark}-{each}" for each in ("one", "two")}
    one = stage.target("one", client_auth="required", allow=spiffe["two"])
    two = stage.target("two", client_auth="required", allow=f"spiffe://{DOMAIN}/ns/*/svc/{lab.mark}-one")
    third = stage.target("third", client_auth="required", allow="all")
    for each in (one, two, third):
        # A certificate of the target's own, by its token: what its sidecar would show to others.
        status, answer, pair = certificate(stage.home, token_of(lab, stage.sidecar(each)))
        assert status == 200
        put(stage, each, "pair.pem", pair.key + pair.cert)
        put(stage, each, "roots.pem", answer["authorities"].encode())

    for caller, callee, who in ((two, one, "two"), (one, two, "one"), (one, third, "one"), (two, third, "two")):
        status, body = call(stage, caller, callee)
        assert status == 200
        assert spiffe[who] in body
    assert call(stage, third, one)[0] == 403
    assert call(stage, third, two)[0] == 403
    assert call(stage, two, one, pair="")[0] is None
    assert leaf(lab.address(one), client(stage.home.root()), name=f"{lab.mark}-one")
