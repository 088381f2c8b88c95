"""What targets run in their containers: programs for Python's standard library, on the loopback port 8080."""

from __future__ import annotations

STEADY = """
import asyncio, base64, hashlib
MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
class Answers(asyncio.Protocol):
    # Sends each request's path back; and each frame, once the connection is a WebSocket.
    def connection_made(self, transport):
        self.transport, self.held, self.take = transport, b"", self.requests
    def data_received(self, data):
        self.held += data
        self.take()
    def requests(self):
        *heads, self.held = self.held.split(b"\\r\\n\\r\\n")
        for head in heads:
            first, *lines = head.split(b"\\r\\n")
            keys = [line[18:].strip() for line in lines if line.lower().startswith(b"sec-websocket-key:")]
            if keys:
                accept = base64.b64encode(hashlib.sha1(keys[0] + MAGIC).digest())
                self.transport.write(b"HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\n"
                                     b"Connection: Upgrade\\r\\nSec-WebSocket-Accept: " + accept + b"\\r\\n\\r\\n")
                self.take = self.frames
                return
            path = first.split(b" ", 2)[1]
            self.transport.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n%b" % (len(path), path))
    def frames(self):
        # Of less than 126 bytes, which is all that is sent.
        while len(self.held) >= 6 and len(self.held) >= 6 + (size := self.held[1] & 127):
            mask, data = self.held[2:6], self.held[6 : 6 + size]
            data = bytes(byte ^ mask[place % 4] for place, byte in enumerate(data))
            self.transport.write(bytes([self.held[0], size]) + data)
            if self.held[0] & 15 == 8:
                self.transport.close()
            self.held = self.held[6 + size :]
async def serve():
    server = await asyncio.get_running_loop().create_server(Answers, "127.0.0.1", 8080, backlog=1024)
    await server.serve_forever()
asyncio.run(serve())
"""

CALL = """
import http.client, json, ssl, sys
address, name, roots, pair = sys.argv[1:]
context = ssl.create_default_context(cafile=roots)
if pair:
    context.load_cert_chain(pair)
class Named(http.client.HTTPSConnection):
    def connect(self):
        http.client.HTTPConnection.connect(self)
        self.sock = context.wrap_socket(self.sock, server_hostname=name)
connection = Named(address, 8081, timeout=20)
try:
    connection.request("GET", "/headers", headers={"Host": name})
    response = connection.getresponse()
    print(json.dumps([response.status, response.read().decode()]))
except (OSError, http.client.HTTPException) as error:
    print(json.dumps([None, str(error)]))
"""
"""A client, as an argument list has it: `python3 -c CALL ADDRESS NAME ROOTS PAIR`; PAIR may be empty."""
