"""What goes wrong here. Every `str()` is one line for people, without keys and tokens."""

from __future__ import annotations


class AuthorityError(Exception):
    """The authority cannot do what was asked."""


class StateError(AuthorityError):
    """What is kept in the state folder cannot be used: it is left as it is, for people to look at."""


class IssuerError(AuthorityError):
    """The certificate or key that the operator brought cannot be used."""


class RequestError(AuthorityError):
    """A certificate request that makes no sense."""


class NamesError(AuthorityError):
    """A certificate request for names that its sender may not have."""
