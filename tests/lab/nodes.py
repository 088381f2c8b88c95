"""
Three engines in containers that form a real Swarm: to be stopped, killed, and cut off from each other.

They are on a network of their own, over which the overlay networks of the Swarm cross. There is no IPVS in every kernel
that tests run on, so services are found by DNS (`endpoint_mode: dnsrr`), and published by the node (`mode: host`).
"""

from __future__ import annotations

import os
import ssl
import subprocess
import time
from contextlib import contextmanager, suppress
from ipaddress import ip_network
from pathlib import Path

from docker.errors import DockerException, NotFound
from docker.types import IPAMConfig, IPAMPool

from lab.nested import NestedEngine, connect_in
from lab.waiting import wait_until

ROOT = Path(__file__).parents[2]
IMAGES = ("sslterm", "httpcheck", "byfahrer")
SERVICE = "com.docker.swarm.service.name"
SOCKET = "-H unix:///var/run/docker.sock"
"""Where the byfahrer in deploy/stack.yaml looks for it."""


class Node(NestedEngine):
    """One engine of a Swarm."""

    @property
    def name(self):
        return self.folder.name

    @property
    def address(self):
        """On the network of the nodes."""
        return self._address

    @property
    def swarm_id(self):
        return self.api.info()["Swarm"]["NodeID"]

    def docker(self, *arguments):
        """What the docker command prints here."""
        done = self._docker(arguments)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def insist(self, *arguments):
        """
        As `docker`, again and again.

        While managers elect a leader they refuse all that changes something; and a service that Swarm itself writes to
        just then, at the end of an update, for instance, refuses with "update out of sequence".
        """
        wait_until(lambda: self._docker(arguments).returncode == 0, 60, interval=0.5)

    def words(self, container_id):
        """What a container has said so far."""
        return self._docker(("logs", "--timestamps", container_id)).stdout

    def shell(self, line):
        """A line of the README, typed here, in a clone."""
        done = subprocess.run(
            line, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
            env=os.environ | self.env,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"

    def _docker(self, arguments):
        return subprocess.run(
            ("docker", *arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120,
            check=False, env=os.environ | self.env,
        )  # fmt: skip

    def cut_off(self, others, *, off=True):
        """Have nothing cross between this node and these."""
        for each in others:
            for chain, side in (("INPUT", "-s"), ("OUTPUT", "-d")):
                self.run(f"iptables -{'I' if off else 'D'} {chain} {side} {each.address} -j DROP")

    @contextmanager
    def apart(self, others):
        """Cut off from these for as long as it takes."""
        self.cut_off(others)
        try:
            yield
        finally:
            self.cut_off(others, off=False)

    @contextmanager
    def dead(self):
        """Killed, with all that runs on it, as by a power cut; it is back at the end."""
        self._outer.kill(self.id, "SIGKILL")
        try:
            yield
        finally:
            self._outer.start(self.id)
            self.pid = self._outer.inspect_container(self.id)["State"]["Pid"]
            self.is_up()

    def tasks(self, service, *, everything=False):
        """Containers of a service here, as lists show them."""
        return self.api.containers(all=everything, filters={"label": [f"{SERVICE}={service}"]})

    def sidecars(self, target_id):
        found = self.api.containers(filters={"label": [f"byfahrer.target={target_id}"]})
        return [self.api.inspect_container(each["Id"]) for each in found]

    def complaints(self, services, root):
        """What is not as promised here: each task of these has one sidecar, which answers, and there is no other."""
        try:
            shown = self.api.containers(all=True)
            owned: dict[str, list[str]] = {}
            for each in shown:
                if owner := each["Labels"].get("byfahrer.target"):
                    owned.setdefault(owner, []).append(each["State"])
            tasks = {
                each["Id"]: each["Labels"][SERVICE]
                for each in shown if each["State"] == "running" and each["Labels"].get(SERVICE) in services
            }  # fmt: skip
            wrong = [f"{self.name}: a sidecar of {each[:12]} is left" for each in owned.keys() - tasks]
            for each, service in tasks.items():
                if owned.get(each, []) != ["running"]:
                    wrong.append(f"{self.name}: {service} {each[:12]} has sidecars {owned.get(each, [])}")
                elif not is_secured(self.namespace_of(each), ("127.0.0.1", 8081), root, f"tasks.{service}"):
                    wrong.append(f"{self.name}: {service} {each[:12]} is not served")
        except (DockerException, OSError, KeyError) as error:
            return [f"{self.name}: it cannot be told: {error!r}"]
        return wrong

    def address_of(self, container_id, network):
        return self.api.inspect_container(container_id)["NetworkSettings"]["Networks"][network]["IPAddress"]

    def namespace_of(self, container_id):
        """The network that a container is in."""
        return self.process(self.api.inspect_container(container_id)["State"]["Pid"]) / "ns" / "net"

    def byfahrer(self, *arguments):
        """What a command says in this node's byfahrer."""
        (task,) = self.tasks("byfahrer_byfahrer")
        return self.docker("exec", task["Id"], "byfahrer", *arguments)


class Nodes:
    """The Swarm: managers first."""

    def __init__(self, outer, folder, managers):
        self._outer = outer
        self.network = f"byf-nodes-{os.getpid()}"
        self._network_id, addresses = _network(outer, self.network)
        self.all: list[Node] = []
        self.measured: list[str] = []
        """Seconds until the promise held again, after what."""
        try:
            archive = folder / "images.tar"
            subprocess.run(("docker", "save", "--output", archive, *IMAGES), check=True, timeout=120)
            for number in range(3):
                self.all.append(
                    Node(outer, archive, network=self.network, address=addresses[number], options=SOCKET, lasting=True)
                )
                self._join(self.all[-1], number, managers)
        except BaseException:
            self.remove()
            raise

    def _join(self, node, number, managers):
        first = self.all[0]
        if number == 0:
            node.api.init_swarm(advertise_addr=node.address, listen_addr="0.0.0.0:2377")
            return
        tokens = first.api.inspect_swarm()["JoinTokens"]
        node.api.join_swarm(
            [f"{first.address}:2377"], tokens["Manager" if number < managers else "Worker"],
            listen_addr="0.0.0.0:2377", advertise_addr=node.address,
        )  # fmt: skip

    @property
    def manager(self):
        return self.all[0]

    def but(self, *nodes):
        """All others."""
        return [each for each in self.all if each not in nodes]

    def keep(self, services, root, what="", nodes=None, seconds=90.0):
        """Wait until the promise holds on these nodes. After what, and how long that took, is told and not asserted."""
        began = time.monotonic()
        while wrong := [text for each in nodes or self.all for text in each.complaints(services, root)]:
            assert time.monotonic() - began < seconds, f"{what}: not made good within {seconds} s: {wrong}"
            time.sleep(0.1)
        if what:
            self.measured.append(f"{time.monotonic() - began:5.1f} s  {what}")

    def deploy(self, path, stack, env=None):
        """`docker stack deploy`."""
        done = subprocess.run(
            ("docker", "stack", "deploy", "--resolve-image", "never", "-c", path, stack),
            capture_output=True, text=True, timeout=120, check=False, env=os.environ | self.manager.env | (env or {}),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def update(self, *arguments):
        """`docker service update` on a manager, which returns when it is known, and not when all tasks are new."""
        self.manager.insist("service", "update", "-q", "--detach", *arguments)

    def tasks(self, service, nodes=None):
        """Running containers of a service, and the node that each is on."""
        return [(node, each["Id"]) for node in (nodes or self.all) for each in node.tasks(service)]

    def remove(self):
        for each in self.all:
            each.remove()
        with suppress(NotFound):
            for left in self._outer.inspect_network(self._network_id)["Containers"] or {}:
                self._outer.disconnect_container_from_network(left, self._network_id, force=True)
            self._outer.remove_network(self._network_id)


def _network(outer, name):
    """A network whose addresses are ours to give: a node has to come back to its own. Its ID, and the addresses."""
    chosen = outer.create_network(name, driver="bridge")["Id"]
    subnet = outer.inspect_network(chosen)["IPAM"]["Config"][0]["Subnet"]
    outer.remove_network(chosen)
    made = outer.create_network(name, driver="bridge", ipam=IPAMConfig(pool_configs=[IPAMPool(subnet=subnet)]))["Id"]
    first = ip_network(subnet).network_address
    return made, [str(first + number) for number in range(10, 20)]


@contextmanager
def nodes(outer, folder, managers=1):
    made = Nodes(outer, folder, managers)
    try:
        yield made
    finally:
        made.remove()


def is_secured(namespace, address, root, name):
    """Whether a client in there can shake hands with who answers at `address`, and verify its name."""
    try:
        return bool(certificate(namespace, address, root, name))
    except OSError:
        return False


def certificate(namespace, address, root, name):
    """What is in the certificate that a client in there sees and has verified, as `getpeercert` has it. OSError."""
    context = ssl.create_default_context(cadata=root)
    with connect_in(namespace, address) as plain, context.wrap_socket(plain, server_hostname=name) as secured:
        return secured.getpeercert()


def fetch(namespace, address, root, name, path="/pi/20", port=8081, pair=None):
    """
    What a client in there gets by HTTPS, having verified `name`. OSError.

    `pair`: a file with its own certificate and key.
    """
    context = ssl.create_default_context(cadata=root)
    if pair:
        context.load_cert_chain(pair)
    with connect_in(namespace, (address, port)) as plain, context.wrap_socket(plain, server_hostname=name) as secured:
        secured.sendall(f"GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while data := secured.recv(65536):
            answer += data
        return answer
