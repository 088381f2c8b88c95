"""Two of the image's OpenSSL agree on the key exchange that a quantum computer would not break."""

from __future__ import annotations

import json

import pytest

from lab.waiting import wait_until

HYBRIDS_NUMBER = 0x11EC
"""X25519MLKEM768, in IANA's register of groups."""

CLIENT = """
import json, socket, ssl
context = ssl._create_unverified_context()
incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
session = context.wrap_bio(incoming, outgoing)
received = b""
with socket.create_connection(("127.0.0.1", 8081), timeout=20) as raw:
    while True:
        try:
            session.do_handshake()
            break
        except ssl.SSLWantReadError:
            raw.sendall(outgoing.read())
            received += (data := raw.recv(65536))
            incoming.write(data)
hello = received[5:5 + int.from_bytes(received[3:5], "big")]  # of the first record
at = 4 + 2 + 32  # header, version, random
at += 1 + hello[at] + 2 + 1 + 2  # session id, cipher suite, compression, length of the extensions
shares = {}
while at < len(hello):
    kind, size = (int.from_bytes(hello[at + n:at + n + 2], "big") for n in (0, 2))
    shares[kind] = hello[at + 4:at + 4 + size]
    at += 4 + size
retry = hello[6:38].hex().startswith("cf21ad74e59a6111")  # a HelloRetryRequest has this for its random
print(json.dumps([retry, int.from_bytes(shares[0x33][:2], "big"), len(shares[0x33]), session.version()]))
"""
"""
Python does not tell which group a handshake took: it is read from the ServerHello (RFC 8446, section 4.1.3), in a
container of the sidecar's own image, since this machine's OpenSSL may be older.
"""


@pytest.mark.parametrize("profile", ["intermediate", "modern"])
def test_the_hybrid_is_what_two_images_agree_on(lab, profile):
    www = lab.run(asks=False)
    beside = {"network_mode": f"container:{www}"}
    lab.run("sidecar", "sslterm", asks=False, host=beside, environment={"SSLTERM_TLS_PROFILE": profile})
    client = lab.run(
        "client", "sslterm", asks=False, start=False, host=beside,
        entrypoint=["/usr/bin/python3", "-c", CLIENT],
    )  # fmt: skip
    wait_until(lambda: lab.status(www) == "running")

    def look():
        lab.api.start(client)
        ended = lab.api.wait(client, timeout=30)["StatusCode"] == 0
        return lab.api.logs(client, stderr=False) if ended else None

    retry, group, length, version = json.loads(wait_until(look, 20).splitlines()[-1])

    assert (retry, group, version) == (False, HYBRIDS_NUMBER, "TLSv1.3")
    assert length == 2 + 2 + 1088 + 32, "a ciphertext of ML-KEM-768 and a point of X25519"
