"""
What `byfahrer swarm` asks of a manager: secrets, and a service that has another one.

For people with the engine's own socket. The daemon asks for none of this, and no filter before the engine lets it pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from docker import APIClient

from byfahrer.engine import convert
from byfahrer.engine.client import DockerEngine
from byfahrer.engine.errors import UnusableError


class ManagingEngine(DockerEngine):
    """An engine that is a manager of its Swarm, for its operator."""

    async def secrets(self) -> Mapping[str, Mapping[str, str]]:
        """The labels of all secrets, by their names, the oldest first. RejectedError, if this is no manager."""
        found = sorted(await self._call(lambda client: client.secrets()), key=_made)
        return {str(each["Spec"]["Name"]): each["Spec"].get("Labels") or {} for each in found}

    async def create_secret(self, name: str, content: bytes, labels: Mapping[str, str]) -> str:
        """The new secret's ID. ConflictError, if the name is taken."""
        # types-docker has no types for this one.
        made = await self._call(lambda client: client.create_secret(name, content, dict(labels)))
        return str(made["ID"])

    async def remove_secret(self, secret_id: str) -> None:
        """RejectedError, if a service has it."""
        await self._call(lambda client: client.remove_secret(secret_id))

    async def exchange_secret(
        self, service_id: str, file: str, name: str, secret_id: str, *, present: tuple[str, str]
    ) -> str:
        """
        Have a service's tasks find another secret in `file`; the name of the one before.

        Its tasks are replaced, as its update configuration has it. UnusableError, if it has no secret there, or one
        whose label `present[0]` says something else than `present[1]`: somebody else was faster.
        """

        def exchange(client: APIClient) -> str:
            service: dict[str, Any] = client.inspect_service(service_id)  # type: ignore[no-untyped-call]
            template = service["Spec"]["TaskTemplate"]
            for each in template["ContainerSpec"].get("Secrets") or []:
                if (each.get("File") or {}).get("Name") == file:
                    before = str(each["SecretName"])
                    label, expected = present
                    # types-docker has no types for this one.
                    said = client.inspect_secret(each["SecretID"])["Spec"].get("Labels") or {}
                    if said.get(label, expected) != expected:
                        raise UnusableError(f"the service has another secret by now ({before}): wait for its new tasks")
                    each |= {"SecretID": secret_id, "SecretName": name}
                    # The version says what was read: somebody else's update in between is a conflict, and not lost.
                    client.update_service(
                        service["ID"], version=service["Version"]["Index"], task_template=template,
                        fetch_current_spec=True,
                    )  # fmt: skip
                    return before
            raise UnusableError(f"service {service['Spec']['Name']} has no secret in {file}")

        return await self._call(exchange)


def _made(secret: Mapping[str, Any]) -> int:
    return convert.nanoseconds(secret["CreatedAt"])
