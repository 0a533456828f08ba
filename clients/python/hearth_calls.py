"""Call now, await later: for functions that run in Hearth.

Copy this file beside the function's own. A call runs when the machine has
capacity to spare, and in time for when the code will ask for its answer, which
Hearth learns from earlier runs.

    call = hearth_calls.call("resize", {"key": "a.png"})
    ...                             # what does not need the answer
    answer = call.result()          # now it is needed
"""

import json
import os
import urllib.error
import urllib.parse
import urllib.request

_BASE = os.environ.get("AWS_ENDPOINT_URL", "") + "/_hearth/v1/calls"
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class CallError(Exception):
    """The call could not be made, or the function that was called failed."""


def _ask(method, path, body=None):
    request = urllib.request.Request(_BASE + path, data=body, method=method, headers={"X-Hearth-Call": "1"})
    try:
        with _OPENER.open(request, timeout=90) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as e:
        raise CallError(e.read().decode()) from None


class Call:
    """A call that was made. id is the request id that its run has."""

    def __init__(self, made):
        self.id, self.state, self.why = made["id"], made["state"], made["why"]

    def done(self, wait=0):
        """Tell whether the answer is there, after so many seconds at most. The
        call stays as urgent as it was."""
        query = urllib.parse.urlencode({"need": "false", "wait": wait})
        return _ask("GET", "/" + self.id + "?" + query)[0] == 200

    def result(self):
        """The answer. A call that still waits is run at once."""
        while True:
            status, headers, body = _ask("GET", "/" + self.id + "?wait=30")
            if status == 200:
                break
        if headers.get("X-Amz-Function-Error"):
            raise CallError(body.decode())
        return json.loads(body)


def call(function, event=None, qualifier="", need_in=0):
    """Call a function of the account. need_in says, in seconds, when the answer
    will be needed, where that is not to be learned."""
    query = {"function": function, "qualifier": qualifier}
    if need_in:
        query["needIn"] = need_in
    body = json.dumps({} if event is None else event).encode()
    return Call(json.loads(_ask("POST", "?" + urllib.parse.urlencode(query), body)[2]))
