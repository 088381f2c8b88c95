"""
What bytes mean: TLS records, HTTP/1.1 messages, and the flows of bytes between a client and a backend.

Sans-I/O: everything here takes bytes and time as arguments and answers with bytes and decisions. No socket, no clock,
no logger; a peer's fault is a typed error, any other exception is a fault of ours.
"""
