"""The table: what was measured, against whom, and whether it is what was promised."""


class Table:
    WIDTHS = (46, 14, 14, 8, 12)

    def __init__(self):
        self.missed = 0
        self.line("name", "ours", "peer", "ratio", "target", "")

    def line(self, *cells):
        padded = [cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(cells, self.WIDTHS))]
        print("  ".join(padded + [cells[-1]]).rstrip(), flush=True)

    def faster(self, name, ours, peer, target):
        """Seconds; `target` times faster than the peer, or more."""
        ratio = peer / ours
        self.verdict(name, f"{ours * 1e3:.1f} ms", f"{peer * 1e3:.1f} ms", f"{ratio:.1f}", f">= {target}", ratio >= target)

    def at_most(self, name, ours, unit, limit, peer="", ratio=""):
        """A quantity under a limit."""
        self.verdict(name, f"{ours:g} {unit}", peer, ratio, f"<= {limit:g}", ours <= limit)

    def verdict(self, name, ours, peer, ratio, target, good):
        self.missed += not good
        self.line(name, ours, peer, ratio, target, "ok" if good else "MISS")

    def information(self, name, ours, peer="", ratio=""):
        self.line(name, ours, peer, ratio, "", "")

    def unavailable(self, name, why):
        """Not measured. A wrong answer is a miss, a missing tool is not."""
        wrong = str(why).startswith("WRONG")
        self.missed += wrong
        self.line(name, "-", "-", "-", "-", f"{'MISS' if wrong else 'skipped'}: {why}")
