"""Processes under observation: starting them with the library, dumping them, and dumping them by other tools."""

import contextlib
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
LIBRARY = os.environ.get("MANHOLE_SO", str(TARGET / "release/libmanhole.so"))
FIXTURES = pathlib.Path(os.environ.get("MANHOLE_FIXTURES", TARGET / "c-tests"))
PROMPT = b"manhole> "
PATIENCE = 120


class Unavailable(Exception):
    """Something that a measurement needs is not to be had here; the message says what."""


def need(program):
    path = shutil.which(program)
    if path is None:
        raise Unavailable(f"no {program} here")
    return path


class Host:
    """A running process, by default with the library and its socket open."""

    def __init__(self, command, preload=True, ready=False, blocks=True):
        environment = {k: v for k, v in os.environ.items() if k not in ("LD_PRELOAD", "MANHOLE", "DEBUGINFOD_URLS")}
        if preload:
            environment["LD_PRELOAD"] = LIBRARY
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [str(word) for word in command], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log
        )
        self.pid = self.process.pid
        self.path = f"/tmp/manhole-{self.pid}"
        try:
            if ready:
                line = self.process.stdout.readline().decode().strip()
                if line != "ready":
                    raise Unavailable(f"{command[0]}: {line or self.said()}")
            if preload:
                self.wait_for(lambda: os.path.exists(self.path), "its socket")
            if blocks:
                self.wait_for(self.is_blocked, "all its threads to block", patience=10)
        except BaseException:
            self.end()
            raise

    def said(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace").strip()

    def wait_for(self, condition, what, patience=PATIENCE):
        deadline = time.monotonic() + patience
        while not condition():
            if self.process.poll() is not None:
                raise Unavailable(f"pid {self.pid} ended before {what}: {self.said()}")
            if time.monotonic() > deadline:
                raise Unavailable(f"pid {self.pid}: waited in vain for {what}: {self.said()}")
            time.sleep(0.02)

    def is_blocked(self):
        """Five looks in a row find no thread that runs, and no other count of threads."""
        seen = set()
        for _ in range(5):
            states = [stat_state(task) for task in self.tasks()]
            if "R" in states:
                return False
            seen.add(len(states))
            time.sleep(0.02)
        return len(seen) == 1

    def tasks(self):
        return list(pathlib.Path(f"/proc/{self.pid}/task").iterdir())

    def own_threads(self):
        """Those of the library."""
        return [task for task in self.tasks() if task.joinpath("comm").read_text().startswith("Manhole")]

    def status(self, key):
        """Kilobytes of a line of /proc/PID/status."""
        text = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(rf"^{key}:\s+(\d+)", text, re.M)[1])

    def rollup(self):
        """Kilobytes by name of /proc/PID/smaps_rollup."""
        text = pathlib.Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        return {key: int(value) for key, value in re.findall(r"^(\w+):\s+(\d+) kB", text, re.M)}

    def end(self):
        with contextlib.suppress(OSError):
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.log):
            with contextlib.suppress(OSError):
                stream.close()
        # Killed processes leave their socket behind.
        with contextlib.suppress(OSError):
            os.unlink(self.path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


def stat_state(task):
    try:
        return task.joinpath("stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "gone"


def dump(host):
    """Seconds from connect to the prompt, and the text."""
    start = time.perf_counter()
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(PATIENCE)
        stream.connect(host.path)
        pieces, tail = [], b""
        while not tail.endswith(PROMPT):
            piece = stream.recv(1 << 20)
            if not piece:
                raise Unavailable(f"the manhole of {host.pid} closed: {host.said()}")
            pieces.append(piece)
            tail = (tail + piece)[-len(PROMPT):]
        seconds = time.perf_counter() - start
    return seconds, b"".join(pieces).decode(errors="replace")


def unnamed_share(text):
    """Of the frames in a text of ours, gdb's or eu-stack's: how many are `??`, 0 to 1."""
    frames = re.findall(r"^#\d.*$", text, re.M)
    return sum("??" in frame for frame in frames) / max(len(frames), 1)


def complete_dump(host, frames=0, unnamed=0.0):
    """Seconds of a dump that shows every thread of the host but ours, for each at least so many frames, and no larger
    share of frames without a name than `unnamed`. A dump that does less is fast for the wrong reason."""
    expected = {int(task.name) for task in host.tasks()} - {int(task.name) for task in host.own_threads()}
    seconds, text = dump(host)
    shown = {}
    for header, body in re.findall(r"^#{3,} ProcessID=\d+, (ThreadID=\d+.*) #{3,}$((?:\n(?!#{3,} ).*)*)", text, re.M):
        shown[int(re.match(r"ThreadID=(\d+)", header)[1])] = len(re.findall(r"^#\d", body, re.M))
    missing = expected - shown.keys()
    if missing:
        raise Unavailable(f"WRONG: the dump of {host.pid} lacks {len(missing)} of {len(expected)} threads")
    shallow = [thread for thread in expected - {host.pid} if shown[thread] < frames]
    if shallow:
        raise Unavailable(f"WRONG: {len(shallow)} of {len(expected)} threads show fewer than {frames} frames")
    share = unnamed_share(text)
    if share > unnamed:
        raise Unavailable(f"WRONG: {share:.0%} of the frames have no name, {unnamed:.0%} expected")
    return seconds


def timed(command):
    """Seconds and output of a command that shows stacks."""
    environment = {k: v for k, v in os.environ.items() if k != "DEBUGINFOD_URLS"}
    start = time.perf_counter()
    done = subprocess.run(
        [str(word) for word in command], env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE * 5
    )
    seconds = time.perf_counter() - start
    if b"#0 " not in done.stdout:
        raise Unavailable(f"{command[0]} shows no stack: {done.stderr.decode(errors='replace').strip()[-200:]}")
    return seconds, done.stdout.decode(errors="replace")


def gdb(host):
    return timed([need("gdb"), "-nx", "-batch", "-p", host.pid, "-ex", "thread apply all bt"])


def eu_stack(host):
    return timed([need("eu-stack"), "-p", host.pid])


def best(count, measure):
    return min(measure() for _ in range(count))
