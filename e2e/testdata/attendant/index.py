import json
import os
import threading
import time
import urllib.request

API = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2020-01-01/extension"


def register():
    """An internal extension, in a thread of the runtime."""
    req = urllib.request.Request(API + "/register", b'{"events":["INVOKE"]}', {"Lambda-Extension-Name": "inner"})
    with urllib.request.urlopen(req) as resp:
        me = resp.headers["Lambda-Extension-Identifier"]

    def follow():
        while True:
            req = urllib.request.Request(API + "/event/next", headers={"Lambda-Extension-Identifier": me})
            with urllib.request.urlopen(req) as resp:
                seen.append(json.loads(resp.read())["requestId"])

    threading.Thread(target=follow, daemon=True).start()


seen = []
register()


def handler(event, context):
    print("the function works on", event)
    if event == "exit":
        os._exit(4)
    if event == "hang":
        time.sleep(60)
    while context.aws_request_id not in seen:
        time.sleep(0.001)
    return len(seen)
