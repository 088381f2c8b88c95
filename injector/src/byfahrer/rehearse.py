"""What `byfahrer run --dry-run` prints: everything that it would do now, and why some of it cannot be done."""

from __future__ import annotations

from dataclasses import dataclass, replace

import anyio

from byfahrer.engine.interface import Engine
from byfahrer.model import Inject
from byfahrer.plan import Policy, Pull, own_sidecars, plan
from byfahrer.reconcile import resync
from byfahrer.reconcile.foretell import foretold
from byfahrer.reconcile.images import missing
from byfahrer.reconcile.observe import observe


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """What would happen about one target."""

    name: str
    id: str
    actions: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def lines(self) -> tuple[str, ...]:
        return (*self.actions, *(f"problem: {problem}" for problem in self.problems))


async def rehearse(engine: Engine, policy: Policy) -> list[Target]:
    """One look at everything; nothing is changed."""
    found: list[Target] = []

    async def look(target_id: str) -> None:
        observed = await observe(engine, target_id)
        todo = plan(observed, policy)
        if todo.image and own_sidecars(observed, policy):
            # Whether the name means another image than the one that they were made from.
            observed = replace(observed, image_id=await engine.image_id(todo.image))
            todo = plan(observed, policy)
        actions, problems = list(foretold(todo)), list(map(str, todo.problems))
        for image in sorted({action.spec.image for action in todo.actions if isinstance(action, Inject)}):
            here = await engine.image_id(image) is not None
            if policy.pull is Pull.ALWAYS or not (here or policy.pull is Pull.NEVER):
                actions.insert(0, f"pull image {image}")
            elif not here:
                problems.append(missing(image))
        name = observed.target.name if observed.target else ""
        found.append(Target(name, target_id, tuple(actions), tuple(problems)))

    async with anyio.create_task_group() as tasks:
        for target_id in resync.targets(await engine.containers()):
            tasks.start_soon(look, target_id)
    return sorted(each for each in found if each.lines)
