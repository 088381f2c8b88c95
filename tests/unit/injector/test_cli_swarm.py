"""`byfahrer swarm`, as an operator types it: what becomes of secrets, and what is printed of them."""

import anyio
import pytest
from click.testing import CliRunner

from byfahrer import cli, cli_swarm
from byfahrer.authority.ca import Terms, new_root, read_shared
from byfahrer.authority.issuer import fingerprint
from byfahrer.authority.times import utc
from byfahrer.engine.errors import ConflictError, NotFoundError
from byfahrer.model import Container, Status
from byfahrer.settings import SettingError

SERVICE = {"com.docker.swarm.service.id": "s" * 25, "com.docker.stack.namespace": "tls"}
OWN = "c" * 64


class Manager:
    """Its secrets by their names, and which of them the service of byfahrer has."""

    def __init__(self):
        self.made = {}
        self.labels = {}
        self.used = "byfahrer-ca"
        self.refuses = None

    async def secrets(self):
        return dict(self.labels)

    async def create_secret(self, name, content, labels):
        assert name not in self.made
        self.made[name], self.labels[name] = content, labels
        return name

    async def remove_secret(self, secret_id):
        if self.used == secret_id:
            raise ConflictError("it is in use")
        del self.made[secret_id], self.labels[secret_id]

    async def inspect(self, name):
        if name != OWN:
            raise NotFoundError(name)
        return Container(id=OWN, name="byfahrer", image="byfahrer", status=Status.RUNNING, pid=1, labels=SERVICE)

    async def exchange_secret(self, service_id, file, name, secret_id, *, present):
        before = self.used
        self.present = present
        assert (service_id, secret_id) == (SERVICE["com.docker.swarm.service.id"], name)
        if self.refuses == "lost":
            self.used = name
        if self.refuses:
            raise ConflictError("update out of sequence")
        self.used = name
        return before


@pytest.fixture
def manager(monkeypatch):
    made = Manager()

    def ask(_host, question, **_more):
        return anyio.run(question, made)

    monkeypatch.setattr(cli_swarm, "ask", ask)
    monkeypatch.setattr(cli_swarm.options, "own_id", lambda: OWN)
    return made


@pytest.fixture
def present(tmp_path):
    """The secret as a container of byfahrer has it."""
    path = tmp_path / "byfahrer-ca"
    path.write_bytes(new_root(Terms(trust_domain="byfahrer.internal", permit_dns=()), utc()))
    path.chmod(0o400)
    return path


def invoke(*arguments):
    done = CliRunner().invoke(cli.cli, ["swarm", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    return done


def root_of(content):
    return read_shared(content).roots[0]


def test_help_teaches_by_example():
    for arguments in ((), ("init",), ("rotate-ca",)):
        assert "Examples:" in invoke(*arguments, "--help").output


def test_init_makes_the_secret_once_and_prints_how_to_go_on(manager):
    first = invoke("init")
    content = manager.made["byfahrer-ca"]
    again = invoke("init")

    assert first.stdout == again.stdout == "docker stack deploy -c deploy/stack.yaml byfahrer\n"
    assert fingerprint(root_of(content)) in first.stderr
    assert manager.labels["byfahrer-ca"] == {"byfahrer.ca": fingerprint(root_of(content))}
    assert "is there already, and kept" in again.stderr
    assert manager.made == {"byfahrer-ca": content}
    assert "PRIVATE" not in first.output + again.output


def test_a_secret_of_another_name_goes_into_the_command(manager):
    assert invoke("init", "--secret", "ours").stdout.startswith("BYFAHRER_CA=ours docker stack deploy ")
    assert list(manager.made) == ["ours"]


def test_what_a_root_is_limited_to_is_checked_before_anything_is_made(manager):
    with pytest.raises(SettingError, match="trust-domain"):
        invoke("init", "--trust-domain", "not a domain")

    assert manager.made == {}


def test_a_rotation_makes_a_new_secret_and_tells_how_to_keep_to_it(manager, present):
    done = invoke("rotate-ca", "--ca-file", str(present))
    (name,) = manager.made
    new = read_shared(manager.made[name])

    assert manager.used == name
    assert manager.present == ("byfahrer.ca", fingerprint(root_of(present.read_bytes())))
    assert root_of(manager.made[name]) != root_of(present.read_bytes())
    assert root_of(present.read_bytes()) in new.roots
    assert done.stdout == f"BYFAHRER_CA={name} docker stack deploy -c deploy/stack.yaml tls\n"
    assert "docker secret rm byfahrer-ca\n" in done.stderr
    assert "PRIVATE" not in done.output


def test_all_that_came_before_are_named_to_be_removed_and_init_keeps_the_newest(manager, present):
    manager.labels = {"byfahrer-ca": {"byfahrer.ca": "x"}, "mine": {}, "byfahrer-ca-2026": {"byfahrer.ca": "y"}}
    manager.made = dict.fromkeys(manager.labels, b"")
    kept = invoke("init")
    done = invoke("rotate-ca", "--ca-file", str(present))
    manager.labels.pop("byfahrer-ca")
    again = invoke("init")

    assert kept.stdout == "BYFAHRER_CA=byfahrer-ca-2026 docker stack deploy -c deploy/stack.yaml byfahrer\n"
    assert "docker secret rm byfahrer-ca byfahrer-ca-2026\n" in done.stderr
    assert again.stdout == f"BYFAHRER_CA={manager.used} docker stack deploy -c deploy/stack.yaml byfahrer\n"
    assert "and kept" in again.stderr


def test_without_an_overlap_nothing_is_said_to_be_believed_on(manager, present):
    done = invoke("rotate-ca", "--ca-file", str(present), "--overlap", "0")

    assert "none before it is believed any more" in done.stderr
    assert "hand out" not in done.stderr


@pytest.mark.parametrize(("refuses", "left"), [("said no", 0), ("lost", 1)])
def test_a_rotation_that_fails_leaves_no_secret_that_nobody_has_and_prints_nothing(manager, present, refuses, left):
    manager.refuses = refuses
    done = CliRunner().invoke(cli.cli, ["swarm", "rotate-ca", "--ca-file", str(present)])

    assert isinstance(done.exception, ConflictError)
    assert done.output == ""
    assert len(manager.made) == left


def test_a_rotation_elsewhere_than_in_a_task_says_where_to_run_it(manager, present, monkeypatch):
    with pytest.raises(SettingError, match="run this in there, on a manager"):
        invoke("rotate-ca")
    monkeypatch.setattr(cli_swarm.options, "own_id", lambda: "")
    with pytest.raises(SettingError, match="run this in there, on a manager"):
        invoke("rotate-ca", "--ca-file", str(present))
    monkeypatch.setattr(cli_swarm.options, "own_id", lambda: OWN)
    monkeypatch.setitem(globals(), "SERVICE", {})
    with pytest.raises(SettingError, match="no task of a service"):
        invoke("rotate-ca", "--ca-file", str(present))

    assert manager.made == {}
