"""How errors are told to the caller and to the log."""
import os
import traceback

_HERE = os.path.dirname(__file__) + os.sep


class Fault(Exception):
    """An error that the runtime found, with a type of the service's own."""

    def __init__(self, error_type, message, trace=()):
        super().__init__(message)
        self.error_type = error_type
        self.message = message
        self.trace = list(trace)


def describe(error, request_id=""):
    """The error as the service shows it to a caller."""
    if isinstance(error, Fault):
        message, error_type, trace = error.message, error.error_type, error.trace
    else:
        message, error_type = _message(error), type(error).__name__
        trace = _trace(error)
    return {"errorMessage": message, "errorType": error_type, "requestId": request_id, "stackTrace": trace}


def text(described):
    """The error as the log shows it: one event of several lines."""
    lines = ["[ERROR] %s: %s" % (described["errorType"], described["errorMessage"])]
    if described["stackTrace"]:
        lines.append("Traceback (most recent call last):")
        lines.extend(line.rstrip("\n") for line in described["stackTrace"])
    return "\n".join(lines) + "\n"


def _message(error):
    try:
        return str(error)
    except Exception:
        return "<unprintable %s object>" % type(error).__name__


def _trace(error):
    """The stack from the user's first frame on; the client's own come before
    it and would only puzzle."""
    tb = error.__traceback__
    while tb is not None and tb.tb_frame.f_code.co_filename.startswith(_HERE):
        tb = tb.tb_next
    try:
        return traceback.format_list(traceback.extract_tb(tb))
    except Exception:
        return []
