"""The log: the root logger's handler, and how an event of several lines stays one.

Where the server understands frames (it says so by the descriptor's number in
_LAMBDA_TELEMETRY_LOG_FD), an event is a frame: four bytes of kind, four of
length, eight of time in microseconds, all big-endian, and the text. Elsewhere
it is a line of plain text in which a carriage return stands for a line break.
"""
import json
import logging
import os
import time

TEXT = 0xA55A0003
JSON = 0xA55A0002
# The level is told in the kind's bits from the third on.
BITS = {"TRACE": 1 << 2, "DEBUG": 2 << 2, "INFO": 3 << 2, "WARN": 4 << 2, "ERROR": 5 << 2, "FATAL": 6 << 2}

request_id = None  # of the invocation that runs


class Sink:
    """Writes events to one descriptor."""

    def __init__(self):
        self.fd = 1
        self.framed = False

    def configure(self, environ):
        """Learns from the environment whether to frame, and removes the
        variable, since processes that the function starts do not frame."""
        fd = environ.pop("_LAMBDA_TELEMETRY_LOG_FD", "")
        if fd.isdigit():
            self.fd, self.framed = int(fd), True

    def write(self, message, kind):
        """Writes one event."""
        data = message.encode("utf-8", "backslashreplace")
        if self.framed:
            head = kind.to_bytes(4, "big") + len(data).to_bytes(4, "big")
            data = head + (time.time_ns() // 1000).to_bytes(8, "big") + data
        else:
            data = data.rstrip(b"\n").replace(b"\n", b"\r") + b"\n"
        while data:
            try:
                data = data[os.write(self.fd, data):]
            except BlockingIOError:
                os.set_blocking(self.fd, True)
            except OSError:
                return  # nobody reads the log any more


sink = Sink()
_json = False


def report(described, text):
    """Logs an error that the runtime tells the caller about."""
    if not _json:
        sink.write(text, TEXT | BITS["ERROR"])
        return
    now = time.time()
    sink.write(json.dumps({
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + ".%03dZ" % (now % 1 * 1000),
        "log_level": "ERROR",
        "errorMessage": described["errorMessage"],
        "errorType": described["errorType"],
        "requestId": described["requestId"],
        "stackTrace": described["stackTrace"],
    }, ensure_ascii=False) + "\n", JSON | BITS["ERROR"])


def configure(environ):
    """Installs the root logger's handler as the function's configuration asks."""
    global _json
    sink.configure(environ)
    _json = environ.get("AWS_LAMBDA_LOG_FORMAT", "").lower() == "json"
    logging.Formatter.converter = time.gmtime
    handler = Handler()
    if _json:
        handler.setFormatter(JSONFormatter())
    else:
        handler.setFormatter(logging.Formatter(
            "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n", "%Y-%m-%dT%H:%M:%S"))
    handler.addFilter(_with_request_id)
    root = logging.getLogger()
    root.addHandler(handler)
    if _json:
        level = _LEVELS.get(environ.get("AWS_LAMBDA_LOG_LEVEL", "").upper())
        if level is not None:
            root.setLevel(level)


_LEVELS = {
    "TRACE": logging.DEBUG, "DEBUG": logging.DEBUG, "INFO": logging.INFO,
    "WARN": logging.WARNING, "WARNING": logging.WARNING, "ERROR": logging.ERROR, "FATAL": logging.CRITICAL,
}
_SHORT = {"WARNING": "WARN", "CRITICAL": "FATAL"}
_RANKS = (
    (logging.CRITICAL, "FATAL"), (logging.ERROR, "ERROR"), (logging.WARNING, "WARN"),
    (logging.INFO, "INFO"), (logging.DEBUG, "DEBUG"),
)


def _with_request_id(record):
    record.aws_request_id = request_id or ""
    return True


def _bits(levelno):
    for floor, name in _RANKS:
        if levelno >= floor:
            return BITS[name]
    return BITS["TRACE"]


class Handler(logging.Handler):
    """Sends records to the sink."""

    def emit(self, record):
        """Writes one record; a record that cannot be formatted is reported as
        the logging module reports it, and does not end the function."""
        try:
            kind = (JSON if _json else TEXT) | _bits(record.levelno)
            sink.write(self.format(record), kind)
        except Exception:
            self.handleError(record)


class JSONFormatter(logging.Formatter):
    """One JSON object for each record, with the fields that the service gives."""

    _RESERVED = frozenset((
        "name", "msg", "args", "levelname", "levelno", "pathname", "filename", "module", "exc_info",
        "exc_text", "stack_info", "lineno", "funcName", "created", "msecs", "relativeCreated", "thread",
        "threadName", "processName", "process", "taskName", "aws_request_id", "message", "asctime",
    ))

    def format(self, record):
        """The record as JSON; fields given by extra= come after the service's."""
        fields = {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": _SHORT.get(record.levelname, record.levelname),
            "message": record.getMessage(),
            "logger": record.name,
        }
        if record.exc_info and record.exc_info[1] is not None:
            kind, value, tb = record.exc_info
            import traceback
            fields["stackTrace"] = traceback.format_tb(tb)
            fields["errorType"] = kind.__name__
            fields["errorMessage"] = str(value)
            fields["location"] = "%s:%s:%d" % (record.pathname, record.funcName, record.lineno)
        if record.aws_request_id:
            fields["requestId"] = record.aws_request_id
        for key, value in record.__dict__.items():
            if key not in self._RESERVED and key not in fields and value is not None:
                fields[key] = value
        return json.dumps(fields, ensure_ascii=False, default=str) + "\n"
