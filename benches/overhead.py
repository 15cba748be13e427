"""What a CPU profile at 99 Hz costs a program that only computes, beside perf and a poor man's gdb loop."""

import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import threading
import time

from host import FIXTURES, PATIENCE, PROMPT, Host, Unavailable

THREADS = 4
SECONDS = 2
ROUNDS = 5


def count(host):
    host.process.stdin.write(b"?\n")
    host.process.stdin.flush()
    return [int(word) for word in host.process.stdout.readline().split()]


def rate(host):
    """Counts a second over a while, and counts a second of the counting threads' CPU time."""
    start, before = time.perf_counter(), count(host)
    time.sleep(SECONDS)
    after, end = count(host), time.perf_counter()
    counts = after[0] - before[0]
    return counts / (end - start), counts / ((after[1] - before[1]) / 1e9)


class Client:
    """A session, to have something running while the host is measured."""

    def __init__(self, host):
        self.stream = socket.socket(socket.AF_UNIX)
        self.stream.settimeout(PATIENCE)
        self.stream.connect(host.path)
        self.answer()

    def answer(self):
        text = b""
        while not text.endswith(PROMPT):
            piece = self.stream.recv(1 << 20)
            if not piece:
                raise Unavailable("WRONG: the manhole closed")
            text += piece
        return text.decode(errors="replace")

    def begin(self, line):
        self.stream.sendall(line.encode() + b"\n")


def bare(host, client):
    return rate(host)


def ours(host, client):
    client.begin(f"profile {SECONDS + 1}")
    time.sleep(0.5)
    result = rate(host)
    text = client.answer()
    if "count_here" not in text:
        raise Unavailable(f"WRONG: the profile does not show count_here: {text}")
    return result


def perf(host, client):
    with tempfile.TemporaryDirectory() as folder:
        command = ["perf", "record", "-F", "99", "-g", "-o", f"{folder}/data", "-p", str(host.pid), "--", "sleep", str(SECONDS + 1)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            time.sleep(0.5)
            result = rate(host)
        if process.returncode != 0:
            raise Unavailable("perf record fails here")
        return result


def gdb(host, client):
    """As many backtraces of all threads as it manages."""
    over = threading.Event()
    done = []

    def loop():
        while not over.is_set():
            command = ["gdb", "-nx", "-batch", "-p", str(host.pid), "-ex", "thread apply all bt"]
            subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
            done.append(1)

    thread = threading.Thread(target=loop)
    thread.start()
    time.sleep(0.5)
    try:
        return rate(host)
    finally:
        over.set()
        thread.join()


def profile(table):
    """The variants take turns in one process; each by its median."""
    variants = {"bare": bare, "ours": ours}
    variants |= {name: run for name, run in (("perf", perf), ("gdb", gdb)) if shutil.which(name)}
    rates = {name: [] for name in variants}
    with Host([FIXTURES / "bench_count", THREADS], ready=True, blocks=False) as host:
        client = Client(host)
        for _ in range(ROUNDS):
            for name, run in list(variants.items()):
                try:
                    rates[name].append(run(host, client))
                except Unavailable as why:
                    if name in ("bare", "ours"):
                        raise
                    table.unavailable(f"profile of {THREADS} threads, {name}", why)
                    del variants[name], rates[name]
    # Wall clock has all of the cost and the noise of a busy machine; CPU time has only what a stopped thread loses.
    def lost(name, kind):
        middle = {who: statistics.median(values[kind] for values in rates[who]) for who in (name, "bare")}
        return (1 - middle[name] / middle["bare"]) * 100

    what = f"{THREADS} threads on {os.cpu_count()} processors"
    table.at_most(f"throughput lost to profile, {what}", round(lost("ours", 0), 1), "%", 5)
    table.information("  the same, a second of the threads' CPU time", f"{lost('ours', 1):.1f} %")
    for name, label in (("perf", "perf record -F 99 -g"), ("gdb", "gdb in a loop")):
        if name in rates:
            table.information(f"  by {label}; a second of CPU time", f"{lost(name, 0):.1f} %", f"{lost(name, 1):.1f} %")
