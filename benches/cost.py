"""What the library costs while nobody looks: start-up, memory, size, wake-ups; and a running thread under a dump."""

import os
import pathlib
import re
import shutil
import statistics
import subprocess
import tempfile
import time

from host import FIXTURES, LIBRARY, Host, Unavailable, dump, need

IDLE = [FIXTURES / "threads_deep", 1, 6]


def start(table):
    """/bin/true, bare, with the library, and with an allocator for comparison."""
    jemalloc = next(iter(sorted(pathlib.Path("/usr/lib").glob("*/libjemalloc.so.2"))), None)
    with tempfile.TemporaryDirectory() as folder:
        # As `make install` leaves it: the linker's own file lies in small pieces in the page cache, and mapping
        # those takes 100 us longer.
        installed = shutil.copy(LIBRARY, folder)
        variants = ["-", installed] + ([str(jemalloc)] if jemalloc else [])
        command = [FIXTURES / "bench_spawn", "500", "/bin/true", *variants]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise Unavailable(f"WRONG: {done.stdout}{done.stderr}")
    bare, ours, *others = (float(line.split()[0]) for line in done.stdout.splitlines()[: len(variants)])
    table.at_most("/bin/true under LD_PRELOAD, by its bare time", round(ours / bare, 2), "x", 1.6, f"{bare:.0f} us bare", f"{ours:.0f} us")
    for other in others:
        table.information("/bin/true with jemalloc preloaded", f"{other / bare:.2f} x", f"{bare:.0f} us bare", f"{other:.0f} us")


def fork(table):
    """A process that forks, with the library and bare. The variants take turns; the best median of each counts."""
    variants = {"": [], LIBRARY: []}
    for _ in range(7):
        for library, medians in variants.items():
            environment = {k: v for k, v in os.environ.items() if k not in ("LD_PRELOAD", "MANHOLE")}
            environment |= {"LD_PRELOAD": library} if library else {}
            done = subprocess.run([FIXTURES / "bench_fork", "300"], env=environment, capture_output=True, text=True)
            if done.returncode != 0:
                raise Unavailable(f"WRONG: {done.stdout}{done.stderr}")
            medians.append([float(line) for line in done.stdout.split()[:2]])
    (bare, bare_exit), (ours, ours_exit) = ([min(column) for column in zip(*medians)] for medians in variants.values())
    table.at_most("fork + exec + wait in a preloaded process", round(ours / bare, 2), "x", 1.3, f"{bare:.0f} us bare", f"{ours:.0f} us")
    table.information("fork + _exit + wait", f"{ours_exit / bare_exit:.2f} x", f"{bare_exit:.0f} us bare", f"{ours_exit:.0f} us")


def memory(table):
    """Of an idle process, while another one uses the library too, so that its text counts as shared."""

    def private(preload):
        with Host(IDLE, preload, ready=True), Host(IDLE, preload, ready=True) as second:
            rollup = second.rollup()
            return rollup["Private_Clean"] + rollup["Private_Dirty"], rollup["Rss"]

    pairs = [(private(True), private(False)) for _ in range(3)]
    extra = statistics.median(with_us[0] - bare[0] for with_us, bare in pairs)
    resident = statistics.median(with_us[1] - bare[1] for with_us, bare in pairs)
    table.at_most("private memory of an idle process", extra, "kB", 512)
    table.information("resident memory, shared file pages included", f"{resident:g} kB")


def size(table):
    """On disk, as a distribution would ship it."""
    with tempfile.NamedTemporaryFile() as stripped:
        subprocess.run([need("strip"), "-o", stripped.name, LIBRARY], check=True)
        table.at_most("stripped libmanhole.so", round(os.path.getsize(stripped.name) / 1e6, 2), "MB", 2)


def wake_ups(table):
    """Context switches of our threads in 10 seconds in which nobody connects."""

    def switches(host):
        found = [re.findall(r"ctxt_switches:\s+(\d+)", task.joinpath("status").read_text()) for task in host.own_threads()]
        if not found:
            raise Unavailable("WRONG: no thread of ours is in sight")
        return sum(int(number) for numbers in found for number in numbers)

    with Host(IDLE, ready=True) as host:
        time.sleep(0.5)
        before = switches(host)
        time.sleep(10)
        table.at_most("context switches in 10 idle seconds", switches(host) - before, "", 0)


def running_thread(table):
    """How long a thread that computes is stopped for a dump, by the helper's clock: from its stop to its release.

    A helper that loses its processor in between makes the stop longer: the median of 51 dumps is what it costs, and
    the longest is told.
    """
    if os.cpu_count() < 2:
        raise Unavailable("one processor only")
    with Host([FIXTURES / "endless_loop"], ready=True, blocks=False) as host:
        stops = []
        for _ in range(51):
            _, text = dump(host)
            stops += [float(found) for found in re.findall(r"none stopped for more than ([\d.]+) us", text)]
        if len(stops) < 25:
            raise Unavailable(f"WRONG: only {len(stops)} of 51 dumps stopped the running thread")
        stops.sort()
        middle = stops[len(stops) // 2]
        table.at_most("stop of a running thread, median of dumps", middle, "us", 50, f"{stops[-1]:.1f} us at most")
