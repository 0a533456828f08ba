"""HTTP/1.1 to the runtime API over one raw socket.

The C module _socket is used instead of socket, http.client or urllib: those
import two dozen modules that most functions never need, and cost more time
than the whole rest of an invocation.
"""
import _socket
import os
import time

PREFIX = b"/2018-06-01/runtime/"


class Gone(Exception):
    """The runtime API cannot be reached or refuses to serve us."""


class Connection:
    """One keep-alive connection, used by one thread.

    A response may be sent together with the request for the next event
    (pipelining): that is one system call and one wake-up less for each
    invocation. It is not done for large bodies, whose refusal ends the
    connection and would take the second request with it.
    """

    PIPELINE_LIMIT = 1 << 20

    def __init__(self, address):
        host, _, port = address.rpartition(":")
        self.address = (host or "127.0.0.1", int(port))
        host_line = b" HTTP/1.1\r\nHost: " + address.encode() + b"\r\n"
        self._next = b"GET " + PREFIX + b"invocation/next" + host_line + b"\r\n"
        self._post = host_line + b"Content-Type: application/json\r\n"
        self._socket = None
        self._rest = b""
        self._asked = False  # a request for the next event is under way

    def open(self):
        """Connects; raises OSError if nobody listens."""
        self.close()
        s = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        try:
            s.connect(self.address)
            s.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        except OSError:
            s.close()
            raise
        self._socket = s

    def close(self):
        """Ends the connection; it may be opened again."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self._rest, self._asked = None, b"", False

    def next(self):
        """Waits for an event and returns its headers and body."""
        for attempt in range(100):
            try:
                if self._socket is None:
                    self.open()
                if not self._asked:
                    self._socket.sendall(self._next)
                    self._asked = True
                status, headers, body = self._read()
                self._asked = False
            except OSError:
                # An idle connection may have been closed by the other side;
                # nothing is lost by asking again on a new one.
                self.close()
                if attempt > 0:
                    time.sleep(0.01)
                continue
            if status == 200:
                return headers, body
            raise Gone("runtime API answered %d to next: %s" % (status, body.decode("utf-8", "replace")))
        raise Gone("runtime API at %s:%d does not answer" % self.address)

    def respond(self, request_id, body):
        """Posts a result."""
        self._send(b"invocation/" + request_id + b"/response", body, b"", len(body) < self.PIPELINE_LIMIT)

    def fail(self, request_id, error_type, body):
        """Posts an invocation's error."""
        self._send(b"invocation/" + request_id + b"/error", body, _error_header(error_type), True)

    def fail_init(self, error_type, body):
        """Posts the error that ended the init phase."""
        self._send(b"init/error", body, _error_header(error_type), False)

    def _send(self, path, body, extra, pipeline):
        head = b"".join((b"POST ", PREFIX, path, self._post, extra, b"Content-Length: %d\r\n\r\n" % len(body)))
        # One more try on a new connection: a repeated answer to the same
        # request is refused by the runtime API and does no harm.
        for attempt in range(2):
            try:
                if self._socket is None:
                    self.open()
                if pipeline:
                    self._socket.sendall(b"".join((head, body, self._next)))
                else:
                    self._socket.sendall(head)
                    self._socket.sendall(body)
                self._read()
                self._asked = pipeline and self._socket is not None
                return
            except OSError:
                answered = not pipeline and self._drain()
                self.close()
                if answered:
                    return

    def _drain(self):
        """Tells whether an answer came although sending failed: a body that is
        too large is refused before it was read."""
        if self._socket is None:
            return False
        try:
            self._read()
            return True
        except OSError:
            return False

    def _read(self):
        """Reads one response: status, headers (lower-case bytes), body."""
        data = self._rest
        while True:
            end = data.find(b"\r\n\r\n")
            if end >= 0:
                break
            more = self._socket.recv(65536)
            if not more:
                raise ConnectionResetError("closed by the runtime API")
            data = data + more if data else more
        lines = data[:end].split(b"\r\n")
        status = int(lines[0][9:12])
        headers = {}
        for line in lines[1:]:
            key, _, value = line.partition(b":")
            headers[key.lower()] = value.strip()
        data = data[end + 4:]
        if status < 200:  # an interim response has no body
            self._rest = data
            return self._read()
        if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
            body = self._chunks(data)
        else:
            length = int(headers.get(b"content-length", b"0"))
            if len(data) >= length:
                body, self._rest = data[:length], data[length:]
            else:
                body, self._rest = self._exactly(data, length), b""
        if headers.get(b"connection", b"").lower() == b"close":
            self.close()
        return status, headers, body

    def _exactly(self, start, length):
        buffer = bytearray(length)
        view = memoryview(buffer)
        view[:len(start)] = start
        have = len(start)
        while have < length:
            n = self._socket.recv_into(view[have:])
            if n == 0:
                raise ConnectionResetError("closed by the runtime API")
            have += n
        return buffer

    def _chunks(self, data):
        parts = []

        def line():
            nonlocal data
            while b"\r\n" not in data:
                more = self._socket.recv(65536)
                if not more:
                    raise ConnectionResetError("closed by the runtime API")
                data += more
            first, _, data = data.partition(b"\r\n")
            return first

        while True:
            size = int(line().split(b";")[0], 16)
            if size == 0:
                while line():
                    pass
                self._rest = data
                return b"".join(parts)
            if len(data) < size + 2:
                data = bytes(self._exactly(data, size + 2))
            parts.append(data[:size])
            data = data[size + 2:]


def _error_header(error_type):
    safe = "".join(c if " " < c < "\x7f" else "?" for c in error_type)
    return b"Lambda-Runtime-Function-Error-Type: " + safe.encode() + b"\r\n"


def from_environment():
    """The connection to the runtime API that the environment names."""
    return Connection(os.environ.get("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001"))
