"""byfahrer: gives every labelled container its TLS sidecar, and takes it away again."""

__version__ = "0.1.0"
