"""sslterm: terminates TLS in a container's network namespace, onto its loopback port."""

__version__ = "0.1.0"
