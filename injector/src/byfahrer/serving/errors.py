"""What goes wrong with a socket. Every `str()` is one line for people."""

from __future__ import annotations


class SocketError(Exception):
    """The socket cannot be bound."""


class InUseError(SocketError):
    """Another process serves it: it may end."""
