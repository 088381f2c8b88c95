"""What would be done, in words: for `run --dry-run`, and for who may watch only. Pure."""

from __future__ import annotations

from byfahrer import labels
from byfahrer.model import Action, Inject, Plan, Remove, Restart, Start, one_line


def foretold(todo: Plan) -> tuple[str, ...]:
    """The actions of a plan, one line each, in their order."""
    replaced = any(isinstance(action, Remove) for action in todo.actions)
    return tuple(one_line(_said(action, replaced=replaced)) for action in todo.actions)


def _said(action: Action, *, replaced: bool) -> str:
    match action:
        case Inject():
            front, back = labels.addresses(dict(action.spec.env))
            why = "in the place of that one" if replaced else "it asks for it and has none"
            text = f"create '{action.name}' for '{action.target.name}' from {action.spec.image} ({front} -> {back})"
            return f"{text}: {why}"
        case Start():
            return f"start '{action.sidecar.name}': it is {action.sidecar.status}"
        case Restart():
            return f"restart '{action.sidecar.name}': its target has restarted"
        case Remove():
            return f"remove '{action.sidecar.name}': {action.why}"
