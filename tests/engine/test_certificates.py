"""A certificate is right without asking: for every name that the engine gives a target, and for no other."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from lab.injector import byfahrer
from lab.waiting import wait_until

TOKEN = re.compile(r"v1\.[0-9a-f]{64}\.[0-9a-f]{64}\.[0-9a-f]{64}")
CALL = """
import socket, ssl, sys
host, name = sys.argv[1:]
context = ssl.create_default_context(cafile="/root.pem")
with context.wrap_socket(socket.create_connection((host, 8081), 5), server_hostname=name) as tls:
    tls.sendall(b"GET /pi/20 HTTP/1.0\\r\\n\\r\\n")
    print(tls.recv(65536).split(b"\\r\\n")[0].decode())
"""


class Socket(http.client.HTTPConnection):
    """The authority's socket, as a sidecar sees it."""

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(str(Path(os.environ["BYFAHRER_RUN_DIR"], "authority.sock")))


def ask(token, *names):
    """Status and answer to a request for a certificate for these names."""
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if names:
        request = request.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), False)
    body = request.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).public_bytes(Encoding.PEM)
    connection = Socket("localhost")
    try:
        connection.request("POST", "/v1/certificate", body, {"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def root():
    done = byfahrer("ca", "root")
    assert done.code == 0, done.err
    return done.out.encode()


def served(lab, target):
    """Which certificate a target's sidecar shows, in PEM."""
    return ssl.get_server_certificate((lab.address(target), 8081), timeout=5)


def names_in(pem):
    found = x509.load_pem_x509_certificate(pem.encode()).extensions
    held = found.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(each) for kind in (x509.DNSName, x509.IPAddress) for each in held.get_values_for_type(kind)}


def token_of(lab, target):
    (sidecar,) = lab.sidecars(target)
    return lab.read(sidecar["Id"], "/run/sslterm/token").decode()


@pytest.fixture
def www(lab, injector):
    """A target on a network of its own, with an alias there."""
    injector().is_ready()
    net = lab.network()
    www = lab.run(labels={"byfahrer.names": "www.example.org,203.0.113.7"}, start=False, host={"network_mode": net})
    lab.api.disconnect_container_from_network(www, net)
    lab.api.connect_container_to_network(www, net, aliases=["shop"])
    lab.api.start(www)
    lab.becomes_served(www)
    return www


@pytest.fixture
def client(lab, www):
    """Another container on that network, which knows the root and nothing else."""
    made = lab.run("client", asks=False, host={"network_mode": lab.networks[0]})
    lab.write(made, "/root.pem", root())
    return made


def test_other_containers_call_it_by_every_name_that_it_has(lab, www, client):
    name = f"{lab.mark}-www"
    for called in (name, "shop", lab.address(www)):
        assert "200" in lab.execute(client, "python3", "-c", CALL, called, called)
    for said in ("www.example.org", "203.0.113.7", "localhost", "127.0.0.1"):
        assert "200" in lab.execute(client, "python3", "-c", CALL, name, said)


def test_it_has_no_name_that_it_was_not_given(lab, www, client):
    code, printed = lab.attempt(client, "python3", "-c", CALL, "shop", "bank")

    assert code == 1
    assert "CERTIFICATE_VERIFY_FAILED" in printed


def test_the_host_calls_it_by_address_and_by_localhost(lab, injector, tmp_path):
    injector().is_ready()
    www = lab.run(ports=[8081], host={"port_bindings": {8081: ("127.0.0.1", None)}})
    lab.becomes_served(www)
    port = lab.look(www)["NetworkSettings"]["Ports"]["8081/tcp"][0]["HostPort"]
    (tmp_path / "root.pem").write_bytes(root())
    for host in ("127.0.0.1", "localhost"):
        done = subprocess.run(
            ("curl", "-sS", "--cacert", tmp_path / "root.pem", f"https://{host}:{port}/pi/20"),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert "Welcome" in done.stdout, done.stderr


def test_a_target_that_joins_a_network_gets_a_new_certificate_and_keeps_its_sidecar(lab, www):
    (before,) = lab.sidecars(www)
    second = lab.network("second")
    lab.api.connect_container_to_network(www, second, aliases=["depot"])
    wait_until(lambda: "depot" in names_in(served(lab, www)), 40)
    lab.api.disconnect_container_from_network(www, second)
    wait_until(lambda: "depot" not in names_in(served(lab, www)), 40)

    (after,) = lab.sidecars(www)
    assert (after["Id"], after["State"]["StartedAt"]) == (before["Id"], before["State"]["StartedAt"])


def test_a_target_that_is_renamed_gets_a_certificate_with_its_new_name(lab, www):
    lab.api.rename(www, f"{lab.mark}-market")
    wait_until(lambda: f"{lab.mark}-market" in names_in(served(lab, www)), 40)

    assert f"{lab.mark}-www" not in names_in(served(lab, www))


def test_a_token_outlives_the_injector(lab, injector):
    first = injector()
    first.is_ready()
    www = lab.run()
    lab.becomes_served(www)
    (before,) = lab.sidecars(www)
    token = token_of(lab, www)
    first.stop(signal.SIGKILL)
    injector().is_ready()

    assert ask(token)[0] == 200
    assert [each["Id"] for each in lab.sidecars(www)] == [before["Id"]]


def test_sidecars_that_serve_get_over_a_lost_state_folder(lab, injector):
    first = injector()
    first.is_ready()
    www = lab.run()
    lab.becomes_served(www)
    (before,) = lab.sidecars(www)
    first.stop()
    shutil.rmtree(os.environ["BYFAHRER_STATE_DIR"])
    injector().is_ready()
    believing = ssl.create_default_context(cadata=root().decode())

    def verified():
        try:
            with socket.create_connection((lab.address(www), 8081), 5) as raw:
                believing.wrap_socket(raw, server_hostname="localhost").close()
        except ssl.SSLCertVerificationError:
            return False
        return True

    wait_until(verified, 60)
    assert [each["Id"] for each in lab.sidecars(www)] == [before["Id"]]


def test_a_token_is_of_use_for_its_own_target_only_and_ends_with_it(lab, injector):
    injector().is_ready()
    www, bank = lab.run(), lab.run("bank")
    lab.becomes_served(www)
    lab.becomes_served(bank)
    token = token_of(lab, www)
    stolen = TOKEN.fullmatch(token)[0].replace(www, bank)

    status, answer = ask(token, f"{lab.mark}-bank")
    assert status == 403
    assert f"{lab.mark}-bank" in answer["error"]
    assert ask(stolen)[0] == 401
    assert ask("v1.x")[0] == 401
    assert ask(token, f"{lab.mark}-www")[0] == 200
    lab.remove(www)
    lab.is_left_alone(www)
    assert ask(token)[0] in (401, 403)


def test_the_token_is_nowhere_to_be_seen(lab, injector):
    daemon = injector(level="trace")
    daemon.is_ready()
    www = lab.run(labels={"byfahrer.log-level": "trace"})
    lab.becomes_served(www)
    (sidecar,) = lab.sidecars(www)
    token = token_of(lab, www)
    ask(token, "not.mine")
    ask(token[:-1] + ("0" if token[-1] != "0" else "1"))
    daemon.stop()
    environ = Path(f"/proc/{sidecar['State']['Pid']}/environ").read_bytes().decode()
    seen = [json.dumps(lab.look(each)) for each in (www, sidecar["Id"])]
    seen += [lab.api.logs(each).decode(errors="replace") for each in (www, sidecar["Id"])]
    seen += [environ, *daemon.lines]

    signature = token.rpartition(".")[2]
    for text in seen:
        assert signature not in text
        assert "PRIVATE KEY" not in text


def test_an_image_cannot_say_who_its_containers_are(lab, injector):
    injector().is_ready()
    image = lab.image(
        "byfahrer.names=bank.example",
        "com.docker.compose.project=bank",
        "com.docker.compose.service=vault",
        "com.docker.compose.config-hash=00",
        "com.docker.swarm.service.name=treasury",
        "com.docker.stack.namespace=bank",
    )
    www = lab.run(image=image)
    lab.becomes_served(www)
    certificate = served(lab, www)
    held = x509.load_pem_x509_certificate(certificate.encode()).extensions
    (uri,) = held.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
        x509.UniformResourceIdentifier
    )

    assert not {"bank.example", "vault", "treasury"} & names_in(certificate)
    assert uri == f"spiffe://byfahrer.internal/ns/default/svc/{lab.mark}-www"


def test_without_an_authority_sidecars_sign_for_themselves(lab, injector):
    injector("--authority", "off").is_ready()
    www = lab.run()
    lab.becomes_served(www)
    found = x509.load_pem_x509_certificate(served(lab, www).encode())

    assert found.issuer == found.subject
    assert lab.sidecars(www)[0]["Mounts"] == []
