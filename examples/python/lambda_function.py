"""A function in Python: it answers with the event that it got, what it sees of
the machine that it runs on, and how often this very process has been used.
"waitMs" in the event makes it wait before, so that several run at once."""

import os
import platform
import time

# What stands here is kept between invocations for as long as the environment
# is reused: connections, caches, counters.
started = time.monotonic()
invocations = 0


def lambda_handler(event, context):
    global invocations
    invocations += 1
    print(f"invocation {invocations}, {context.get_remaining_time_in_millis()} ms left")
    if isinstance(event, dict):
        time.sleep(event.get("waitMs", 0) / 1000)
    uname = os.uname()
    return {
        "hello": f"from Python {platform.python_version()}",
        "event": event,
        "host": {"name": uname.nodename, "kernel": uname.release, "uid": os.getuid(), "pid": os.getpid()},
        "invocations": invocations,
        "upSeconds": round(time.monotonic() - started, 3),
        "requestId": context.aws_request_id,
    }
