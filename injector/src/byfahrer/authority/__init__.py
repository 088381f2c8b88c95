"""
The certificate authority: who may have which name, and the socket on which sidecars ask for certificates.

An *issuer* is what leaves are signed with: a root of our own (`ca`), or one that the operator brought (`issuer`). A
*token* says which sidecar asks, and for which target; the engine says whether both still exist, and what the target is
called. The private keys of targets are never here: they are made in the sidecars and stay there.
"""
