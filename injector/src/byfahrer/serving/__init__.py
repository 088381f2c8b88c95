"""
HTTP on a unix socket: how it is bound, what a connection may take, and how a request is read. Not what is answered.

`authority` serves sidecars by it, and `admin` the operator.
"""
