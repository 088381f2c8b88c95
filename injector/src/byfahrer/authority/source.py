"""Where the issuer comes from, as the operator chose: a root of our own, one shared by a Swarm, or one they brought."""

from __future__ import annotations

from byfahrer import settings
from byfahrer.authority.brought import Brought
from byfahrer.authority.ca import OwnRoot, SharedRoot, Terms
from byfahrer.authority.names import DEFAULT_TRUST_DOMAIN
from byfahrer.authority.service import Issuers
from byfahrer.authority.state import StateFolder


def issuers(chosen: settings.Authority, *, create: bool) -> Issuers:
    """What signs. AuthorityError, if it cannot be used, or (without `create`) there is none yet."""
    terms = Terms(trust_domain=chosen.trust_domain, permit_dns=chosen.permit_dns)
    if chosen.ca_file:
        return SharedRoot(chosen.ca_file, terms)
    if chosen.ca_cert and chosen.ca_key:
        return Brought(chosen.ca_cert, chosen.ca_key, chosen.trust_domain or DEFAULT_TRUST_DOMAIN)
    return OwnRoot(StateFolder(chosen.state_dir), terms, create=create)
