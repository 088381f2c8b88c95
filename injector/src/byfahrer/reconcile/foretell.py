"""What would be done, in words: for `run --dry-run`, and for who may watch only. Pure."""

from __future__ import annotations

from byfahrer import labels
from byfahrer.model import Action, Inject, Plan, Remove, Rename, Restart, Start, one_line


def foretold(todo: Plan) -> tuple[str, ...]:
    """The actions of a plan, one line each, in their order."""
    replaces = any(isinstance(action, Remove) for action in todo.actions)
    return tuple(one_line(_said(action, replaces=replaces)) for action in todo.actions)


def _said(action: Action, *, replaces: bool) -> str:
    match action:
        case Inject():
            front, back = labels.addresses(dict(action.spec.env))
            text = f"create '{action.name}' for '{action.target.name}' from {action.spec.image} ({front} -> {back})"
            if action.beside is not None:
                same = action.beside.labels.get(labels.SPEC) == action.spec.digest
                why = "its image has been updated" if same else "what is asked for has changed"
                return f"{text}, and remove '{action.beside.name}' once it serves: {why}"
            return f"{text}: {'in the place of that one' if replaces else 'it asks for it and has none'}"
        case Start():
            return f"start '{action.sidecar.name}': it is {action.sidecar.status}"
        case Restart():
            return f"restart '{action.sidecar.name}': {action.why}"
        case Rename():
            return f"rename '{action.sidecar.name}' to '{action.name}', as its like are"
        case Remove():
            return f"remove '{action.sidecar.name}': {action.why}"
