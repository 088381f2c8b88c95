"""
Identity: which certificate is served, where it comes from, and when it is replaced.

A *source* obtains bundles (PEM bytes and nothing else); the *store* proves a bundle and publishes it. Sources know no
TLS, the store knows no source. One module per source; this package is empty so that the light parts can be imported
without the heavy ones (`cryptography` is never imported by the long-lived process at all, see `child.py`).
"""
