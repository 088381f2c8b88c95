"""What can go wrong with an engine, as far as someone reacts to it. `str()` is one line for people."""

from __future__ import annotations


class EngineError(Exception):
    """Any of these."""


class AddressError(EngineError):
    """The engine's address or TLS files make no sense: a matter of configuration, no use trying again."""


class UnreachableError(EngineError):
    """Nobody answers, or not in time, or not to us: the fault is not with what was asked."""


class LateError(UnreachableError):
    """There may be an answer, later than anybody waits for it."""


class NotFoundError(EngineError):
    """There is no such container, image or service."""


class ConflictError(EngineError):
    """It cannot be done in the present state: a name is taken, a target does not run."""


class UnusableError(EngineError):
    """What is in a container is not what it should be: no file, or too large."""


class PullError(EngineError):
    """An image cannot be had from its registry: it is not there, or not for us, or the registry is away."""


class RejectedError(EngineError):
    """The engine said no, or failed."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"the engine answered {status}: {message}")
        self.status = status
        self.message = message
