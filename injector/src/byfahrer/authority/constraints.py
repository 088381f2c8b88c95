"""
What the name constraints of an issuer's chain let pass (RFC 5280, 4.2.1.10). Pure.

A leaf with one name outside of them is refused by clients altogether, so such names are left out before it is signed.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from typing import TypeVar

from cryptography import x509

from byfahrer.authority.names import Names

T = TypeVar("T")


class Constraints:
    """Those of several certificates together."""

    def __init__(self, certificates: Iterable[x509.Certificate]) -> None:
        self._all = [found for each in certificates if (found := _of(each)) is not None]

    def within(self, names: Names) -> Names:
        """The names that may be in a leaf."""
        return Names(
            dns=tuple(name for name in names.dns if self._pass(x509.DNSName, _dns_within, name)),
            addresses=tuple(text for text in names.addresses if self._pass(x509.IPAddress, _address_within, text)),
            spiffe=names.spiffe if names.spiffe and self.permits_domain(host_of(names.spiffe)) else "",
        )

    def permits_domain(self, trust_domain: str) -> bool:
        """Whether SPIFFE IDs of this trust domain may be in a leaf."""
        return self._pass(x509.UniformResourceIdentifier, _host_within, trust_domain)

    def _pass(self, kind: type[x509.GeneralName], within: Callable[[str, T], bool], name: str) -> bool:
        for each in self._all:
            permitted = [tree.value for tree in each.permitted_subtrees or () if isinstance(tree, kind)]
            excluded = [tree.value for tree in each.excluded_subtrees or () if isinstance(tree, kind)]
            # Subtrees of one kind say nothing of the others.
            if permitted and not any(within(name, tree) for tree in permitted):
                return False
            if any(within(name, tree) for tree in excluded):
                return False
        return True


def named(trust_domain: str, dns: Iterable[str]) -> x509.NameConstraints:
    """Constraints to one trust domain and, if there are any, to these DNS domains with all below."""
    trees: list[x509.GeneralName] = [x509.UniformResourceIdentifier(trust_domain)]
    trees += [x509.DNSName(domain) for domain in dns]
    return x509.NameConstraints(permitted_subtrees=trees, excluded_subtrees=None)


def host_of(uri: str) -> str:
    return uri.partition("://")[2].partition("/")[0]


def _of(certificate: x509.Certificate) -> x509.NameConstraints | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return None


def _dns_within(name: str, tree: str) -> bool:
    # `.shop` is no correct form for DNS, but OpenSSL takes it for "below shop", and people write it.
    tree = tree.lower()
    return not tree or name.endswith(tree if tree.startswith(".") else f".{tree}") or name == tree


def _address_within(text: str, tree: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    return ipaddress.ip_address(text) in tree


def _host_within(host: str, tree: str) -> bool:
    tree = tree.lower()
    return host.endswith(tree) if tree.startswith(".") else host == tree
