"""A function that leaves its account's secret wherever a function can leave
something, and says when it began; asked to probe, it looks wherever it can
for secrets, its own or another account's."""

import time

born = time.monotonic_ns()  # the machine's monotonic clock

import ctypes
import json
import os
import re
import socket
import subprocess
import uuid

SECRET = os.environ["SECRET"]
PATTERN = re.compile(rb"secret-of-[0-9]{12}")
process = uuid.uuid4().hex
kept = []
n = 0
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p


def leave_traces():
    for folder in ("/tmp", "/dev/shm"):
        with open(f"{folder}/{SECRET}-python", "w") as f:
            f.write(SECRET)
    kept.append(subprocess.Popen([SECRET + "-python", "1000"], executable="/bin/sleep"))
    s = socket.socket(socket.AF_UNIX)
    s.bind("\0" + SECRET + "-python")
    s.listen()
    kept.append(s)
    shm = libc.shmget(0x5EC2E7, 4096, 0o1666)  # IPC_CREAT, for everybody
    if shm < 0:
        raise OSError(ctypes.get_errno(), "shmget")
    ctypes.memmove(libc.shmat(shm, None, 0), SECRET.encode(), len(SECRET))
    kept.append((SECRET + " ") * 1000)


class Probe:
    def __init__(self):
        self.found = {}  # secret → places
        self.processes = []
        self.read = 0

    def look(self, place, data):
        self.read += len(data)
        for match in set(PATTERN.findall(data)):
            self.found.setdefault(match.decode(), set()).add(place)

    def file(self, place, path):
        try:
            with open(path, "rb") as f:
                self.look(place, f.read(4 << 20))
        except OSError:
            pass  # it is not ours to read, which is as well

    def all(self):
        self.look("environment", json.dumps(dict(os.environ)).encode())
        for pid in filter(str.isdigit, os.listdir("/proc")):
            self.process(pid)
        for name in ("net/unix", "net/tcp", "net/udp", "sysvipc/shm", "sysvipc/msg", "sysvipc/sem", "mounts", "keys", "kcore", "cmdline", "locks"):
            self.file("/proc/" + name, "/proc/" + name)
        for top in ("/tmp", "/dev", "/var", "/opt", "/run", "/home", "/mnt", "/srv", "/root", "/etc"):
            for folder, folders, files in os.walk(top):
                self.look(top, (folder + " ".join(folders + files)).encode())
                for name in files:
                    path = os.path.join(folder, name)
                    if os.path.isfile(path) and not os.path.islink(path):
                        self.file(top, path)
        self.sysv()
        self.memory()

    def process(self, pid):
        comm = b"?"
        for name in ("comm", "cmdline", "environ", "maps", "status", "cgroup", "mountinfo"):
            self.file("processes", f"/proc/{pid}/{name}")
        try:
            with open(f"/proc/{pid}/comm", "rb") as f:
                comm = f.read().strip()
            for fd in os.listdir(f"/proc/{pid}/fd"):
                self.look("processes", os.readlink(f"/proc/{pid}/fd/{fd}").encode())
        except OSError:
            pass
        self.processes.append(f"{pid} {comm.decode()}")

    def sysv(self):
        for i in range(64):  # ids are small and count up
            at = libc.shmat(i, None, 0o10000)  # SHM_RDONLY
            if at is not None and at != ctypes.c_void_p(-1).value:
                self.look("shared memory", ctypes.string_at(at, 4096))
                libc.shmdt(ctypes.c_void_p(at))

    def memory(self):
        """All that this process has in memory, and fresh memory of the kernel."""
        import mmap

        with mmap.mmap(-1, 16 << 20) as fresh:
            if fresh.read().strip(b"\0"):
                self.found.setdefault("fresh memory is not empty", set()).add("memory")
        with open("/proc/self/maps") as f:
            maps = f.read().splitlines()
        try:
            mem = open("/proc/self/mem", "rb", buffering=0)
        except OSError:
            self.look("memory", kept[-1].encode())  # it may not look at itself
            return
        with mem:
            for line in maps:
                span, mode = line.split()[:2]
                low, high = (int(x, 16) for x in span.split("-"))
                if "r" not in mode or "[v" in line:
                    continue
                try:
                    mem.seek(low)
                    self.look("memory", mem.read(min(high - low, 8 << 20)))
                except (OSError, OverflowError):
                    pass  # a hole


def handler(event, context):
    global n
    at = time.monotonic_ns()
    n += 1
    if n == 1:
        leave_traces()
    time.sleep(event.get("sleepMs", 0) / 1000)
    answer = {"nonce": event["nonce"], "secret": SECRET, "process": process, "n": n, "born": born, "at": at}
    if event.get("probe"):
        p = Probe()
        p.all()
        answer["found"] = {secret: sorted(places) for secret, places in p.found.items()}
        answer["processes"], answer["bytes"] = p.processes, p.read
    return answer
