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
    return int(host.process.stdout.readline())


def rate(host):
    """Counts a second over a while."""
    start, before = time.perf_counter(), count(host)
    time.sleep(SECONDS)
    after, end = count(host), time.perf_counter()
    return (after - before) / (end - start)


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
    threads = min(THREADS, max(1, os.cpu_count() or 1))
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
    base = statistics.median(rates.pop("bare"))
    lost = {name: (1 - statistics.median(values) / base) * 100 for name, values in rates.items()}
    table.at_most(f"throughput lost to profile at 99 Hz, {THREADS} threads on {threads} processors", round(lost.pop("ours"), 1), "%", 5)
    for name, percent in lost.items():
        table.information("  the same, perf record -F 99 -g" if name == "perf" else "  the same, gdb in a loop", f"{percent:.1f} %")
