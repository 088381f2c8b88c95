"""
The data plane: sockets, one epoll set, plain method calls.

Handed bound listeners and a `Policy` for each; keeps no global settings and imports nothing outside the standard
library but `protocol`, `settings` and the access log. What bytes mean is decided in `protocol`.
"""
