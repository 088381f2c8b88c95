"""Whatever is asked wrongly gives one clear line that says what would be right, and everyone else is served."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from lab.injector import byfahrer


@pytest.fixture
def www(lab):
    """A target that must be served all the same."""
    return lab.run("good")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"host": {"network_mode": "host"}}, "--network host: expected a bridge, overlay or other network of its own"),
        ({"host": {"network_mode": "none"}}, "--network none: expected a bridge, overlay or other network of its own"),
        ({"labels": {"byfahrer.mode": "sctp"}}, "byfahrer.mode='sctp': expected http or tcp"),
        ({"labels": {"byfahrer.frontend": "443"}}, "byfahrer.frontend='443': expected host:port, :port"),
        ({"labels": {"byfahrer.frontent": ":443"}}, "there is no such label; did you mean byfahrer.frontend?"),
        (
            {"labels": {"byfahrer.backend": ":8081"}},
            "byfahrer.backend=':8081': expected another port than byfahrer.frontend",
        ),
        ({"labels": {"byfahrer.proxy-image": "evil.com/sslterm"}}, "expected an allowed image (--allow-image): "),
        ({"labels": {"byfahrer.enable": "perhaps"}}, "byfahrer.enable='perhaps': expected true or false"),
        ({"labels": {"org.qnib.gosslterm.ssl.volume.from": "true"}}, "expected a path in a volume or bind mount"),
    ],
)  # fmt: skip
def test_a_target_that_cannot_be_served_is_named_once(lab, injector, www, wrong, says):
    daemon = injector("--resync", "1").is_ready()
    bad = lab.run("bad", "debian:trixie-slim", command=["sleep", "1000"], **wrong)
    line = daemon.says(says)
    after = lab.run("after")
    lab.becomes_served(www)
    lab.becomes_served(after)

    assert f"ERROR   '{lab.mark}-bad': " in line
    assert len(daemon.saying(says)) == 1
    assert lab.sidecars(bad) == []
    shown = byfahrer("ps", "--only-label", lab.scope).out
    assert [row for row in shown.splitlines() if "refused: " in row and f"{lab.mark}-bad" in row and says in row]


def test_a_target_in_another_containers_network_is_refused(lab, injector, www):
    daemon = injector().is_ready()
    joined = lab.run(
        "joined", "debian:trixie-slim", command=["sleep", "1000"], host={"network_mode": f"container:{www}"}
    )
    daemon.says(f"'{lab.mark}-joined': --network container:{www[:12]}: expected")

    lab.becomes_served(www)
    assert lab.sidecars(joined) == []


class TestCommandLine:
    @pytest.mark.parametrize(
        ("arguments", "env", "code", "says"),
        [
            (["run", "--nonsense"], {}, 2, "No such option"),
            (["nonsense"], {}, 2, "No such command"),
            (["run", "--sidecar-memory", "1"], {}, 2, "--sidecar-memory='1': expected a size of at least 32m"),
            (["run", "--sidecar-memory", "1g:64m"], {}, 2, "--sidecar-memory='1g:64m': expected the most that a label"),
            (["run", "--sidecar-pids", "none"], {}, 2, "--sidecar-pids='none': expected a number from 16 to 4194304"),
            (["run", "--sidecar-cpus", "-1"], {}, 2, "--sidecar-cpus='-1': expected a number of CPUs such as 1.5"),
            (["run", "--allow-capability", "ALL"], {}, 2, "--allow-capability='ALL': expected the name of a Linux"),
            (["inject", "x", "--pull", "now"], {}, 2, "Invalid value for '--pull': 'now' is not one of"),
            (["run"], {"BYFAHRER_SIDECAR_LOG_OPT": "max-size"}, 2, "--sidecar-log-opt='max-size': expected KEY=VALUE"),
            (["run", "--sidecar-user", "a b"], {}, 2, "--sidecar-user='a b': expected user or user:group"),
            (["run", "--only-label", "=x"], {}, 2, "--only-label='=x': expected key=value"),
            (["run", "--resync", "0"], {}, 2, "--resync='0': expected a duration from 1s to 1h"),
            (["--docker-host", "ftp://x", "run"], {}, 2, "DOCKER_HOST='ftp://x': expected unix:///path, tcp://host:port"),
            (["run"], {"DOCKER_HOST": "tcp://127.0.0.1:1", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/none"}, 2,
             "DOCKER_CERT_PATH='/none': expected a folder with cert.pem"),
            (["run"], {"BYFAHRER_RESYNC": "soon"}, 2, "--resync='soon': expected a duration from 1s to 1h"),
            (["--log-level", "loud", "run"], {}, 2, "loud"),
            (["ps"], {"DOCKER_HOST": "unix:///none.sock"}, 1, "no engine at unix:///none.sock: start Docker"),
            (["ps"], {"DOCKER_HOST": "tcp://127.0.0.1:1"}, 1, "nobody listens at tcp://127.0.0.1:1"),
            (["inject", "no-such-container"], {}, 1, "there is no container 'no-such-container' on the engine at"),
            (["inject", "x", "--set", "y"], {}, 2, "--set='y': expected setting=value"),
            (["eject", "no-such-container"], {}, 1, "there is no container 'no-such-container' on the engine at"),
            (["eject"], {}, 2, "name the containers, or give --all"),
        ],
    )  # fmt: skip
    def test_one_line_and_the_right_code(self, engine, arguments, env, code, says):
        done = byfahrer(*arguments, env=env)

        assert (done.code, done.out) == (code, "")
        assert done.err.startswith("byfahrer: ")
        assert done.err.count("\n") == 1
        assert says in done.err

    def test_without_permission_it_says_whom_to_run_as(self, engine, tmp_path):
        """As a user who may not use the socket; modes mean nothing to root."""
        tmp_path.chmod(0o755)
        script = (
            "import os, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534); sys.argv = ['byfahrer', 'ps'];"
            "from byfahrer.cli import main; main()"
        )
        if os.getuid() != 0:
            pytest.fail("this test gives up its privileges, and has none: run the tests as root")
        # The modules must be readable to that user: imported before, by root.
        loaded = "import anyio._backends._asyncio, byfahrer.cli, docker, encodings.idna; " + script
        done = subprocess.run((sys.executable, "-c", loaded), capture_output=True, text=True, check=False, timeout=30)

        assert done.returncode == 1
        assert done.stderr == (
            "byfahrer: no permission to use the engine at unix:///var/run/docker.sock: "
            "run as root, or as a member of the socket's group (docker)\n"
        )
