"""The life of a Python environment: boot, wait, load, serve.

A process in the warming pool runs boot and wait: everything that any function
needs is imported, the connection stands, and it sleeps in one read of the
control socket. Load is what a cold start pays for.
"""
import gc
import json
import os
import sys

from . import api, context, errors, handler, logs

CONTROL_FD = 3


def run(arguments):
    """Serves for ever. With --wait the configuration comes over the control
    socket, otherwise from the environment."""
    _finish_builtins()
    if "--wait" in arguments:
        connection = api.from_environment()
        _warm()
        try:
            connection.open()
        except OSError:
            pass  # next() tries again
        gc.collect()
        gc.freeze()  # what was made so far stays; the collector need not look at it again
        message = _wait()
        if message is None:
            return
        _configure(message)
        if os.environ.get("AWS_LAMBDA_RUNTIME_API") != _address(connection):
            connection.close()
            connection = api.from_environment()
    else:
        connection = api.from_environment()
    function = _load(connection)
    _serve(connection, function)


def _address(connection):
    return "%s:%d" % connection.address


def _finish_builtins():
    """Adds what module site would, which is not run: it costs a third of the
    start and shows the host's packages."""
    import _sitebuiltins
    import builtins
    builtins.quit = _sitebuiltins.Quitter("quit", "Ctrl-D (i.e. EOF)")
    builtins.exit = _sitebuiltins.Quitter("exit", "Ctrl-D (i.e. EOF)")
    builtins.help = _sitebuiltins._Helper()


def _warm():
    """Runs the paths of an invocation once, so that what they make lazily is
    made before anybody waits."""
    headers = {b"lambda-runtime-invoked-function-arn": b"arn"}
    context.Context("0", headers, 0).get_remaining_time_in_millis()
    handler.choose_encoding({})
    for _ in range(3):
        handler.marshal(handler.unmarshal(b'{"a": [1, 2.5, "b", null, true]}'))
    errors.describe(ValueError("warm"))


def _wait():
    """Reads the control message: four bytes of length, then JSON."""
    os.set_blocking(CONTROL_FD, True)
    try:
        os.write(CONTROL_FD, b"R")  # ready
    except OSError:
        pass
    data = b""
    while len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "big"):
        try:
            more = os.read(CONTROL_FD, 1 << 20)
        except ConnectionError:
            more = b""
        if not more:
            return None  # the server let this environment go unused
        data += more
    os.close(CONTROL_FD)
    return json.loads(data[4:])


def _configure(message):
    """Makes the environment what the message says, and nothing else."""
    environ = os.environ
    wanted = dict(entry.split("=", 1) for entry in message["env"])
    for key in [k for k in environ if k not in wanted]:
        del environ[key]
    environ.update(wanted)
    import time
    time.tzset()


def _load(connection):
    environ = os.environ
    logs.configure(environ)
    sys.stdout.reconfigure(errors="backslashreplace")
    root = environ.get("LAMBDA_TASK_ROOT", "/var/task")
    try:
        os.chdir(root)
    except OSError:
        pass  # the import fails next, and says more
    handler.prepare_path(environ)
    handler.choose_encoding(environ)
    try:
        return handler.load(environ.get("_HANDLER", ""))
    except Exception as e:
        described = errors.describe(e)
        logs.report(described, errors.text(described))
        connection.fail_init(described["errorType"], json.dumps(described).encode())
        _flush()
        os._exit(1)


def _serve(connection, function):
    environ = os.environ
    stdout, stderr = sys.stdout, sys.stderr
    while True:
        try:
            headers, body = connection.next()
        except api.Gone as e:
            stderr.write("%s\n" % e)
            _flush()
            os._exit(1)
        raw_id = headers[b"lambda-runtime-aws-request-id"]
        request_id = raw_id.decode()
        logs.request_id = request_id
        trace = headers.get(b"lambda-runtime-trace-id")
        if trace:
            environ["_X_AMZN_TRACE_ID"] = trace.decode()
        elif "_X_AMZN_TRACE_ID" in environ:
            del environ["_X_AMZN_TRACE_ID"]
        try:
            event = handler.unmarshal(body)
            deadline = int(headers.get(b"lambda-runtime-deadline-ms", b"0"))
            result = handler.marshal(function(event, context.Context(request_id, headers, deadline)))
        except Exception as e:
            described = errors.describe(e, request_id)
            logs.report(described, errors.text(described))
            connection.fail(raw_id, described["errorType"], json.dumps(described).encode())
            described = e = None
        else:
            connection.respond(raw_id, result)
        # While it waits, an environment holds nothing of the last invocation.
        event = result = body = headers = None


def _flush():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass
