"""How long a whole answer takes, from connect to the prompt, every name resolved, beside gdb and eu-stack."""

import glob
import subprocess

from host import FIXTURES, Host, best, complete_dump, dump, eu_stack, gdb, need, unnamed_share

DEEP = FIXTURES / "threads_deep"


def many_threads(table):
    """1,000 threads, each 25 frames deep."""
    with Host([DEEP, 1000, 25], ready=True) as host:
        first = complete_dump(host, frames=25)
        ours = best(3, lambda: complete_dump(host, frames=25))
    table.information("1,000 threads x 25 frames, first dump", f"{first * 1e3:.1f} ms")
    # The others look at the same program without the library: they need not read its debug information.
    with Host([DEEP, 1000, 25], preload=False, ready=True) as host:
        for name, peer, target in (("eu-stack", eu_stack, 20), ("gdb", gdb, 35)):
            table.faster(f"1,000 threads x 25 frames, {name}", ours, best(3, lambda: peer(host)[0]), target)


def growth(table):
    """From 10 to 10,000 threads: the cost of a thread must not grow."""
    each = {}
    for count in (10, 100, 1000, 10_000):
        with Host([DEEP, count, 25], ready=True) as host:
            dump(host)
            seconds = best(3, lambda: complete_dump(host))
        each[count] = seconds / count
        table.information(f"{count:,} threads", f"{seconds * 1e3:.1f} ms", "", f"{each[count] * 1e6:.1f} us")
    ratio = each[10_000] / each[1000]
    table.at_most("us a thread at 10,000 by us a thread at 1,000", round(ratio, 2), "x", 1.5)


def first_dump(table, name, command):
    """Of a fresh process each time, as one who looks once does it."""
    times, peaks, peers = [], [], []
    for _ in range(3):
        with Host(command, preload=False) as host:
            seconds, text = gdb(host)
            peers.append(seconds)
        with Host(command) as host:
            before = host.status("VmRSS")
            # Resets VmHWM, the peak, to what is there now (man 5 proc, clear_refs).
            with open(f"/proc/{host.pid}/clear_refs", "w") as reset:
                reset.write("5")
            # As many names as gdb knows; the snapshots differ by a thread that starts or ends.
            times.append(complete_dump(host, unnamed=unnamed_share(text) + 0.02))
            peaks.append(host.status("VmHWM") - before)
    table.faster(f"first dump of {name}, gdb", min(times), min(peers), 10)
    table.at_most(f"peak memory of that dump, {name}", round(max(peaks) / 1024, 1), "MB", 64)


def node(table):
    """A large binary with a just-in-time compiler."""
    first_dump(table, "node", [need("node"), "-e", "setInterval(() => {}, 1e6)"])


def rustc(table):
    """The largest library at hand; it waits for a program on standard input."""
    root = subprocess.run([need("rustc"), "--print", "sysroot"], capture_output=True, text=True, check=True).stdout.strip()
    driver = glob.glob(f"{root}/lib/librustc_driver-*.so")
    need("rustc" if driver else "librustc_driver")
    first_dump(table, "rustc", [f"{root}/bin/rustc", "--crate-type", "lib", "-"])
