"""Runs of `tern simulate` for the tools that compare variants of a scenario: each has a folder of its own under --out and
is not repeated if it is there."""
import argparse
import hashlib
import json
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent


def make_parser(description, variants):
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--variants", type=pathlib.Path, default=ROOT / "simulations/studies" / variants)
    parser.add_argument("--scenario", default=str(ROOT / "simulations/scenarios/fashion-mnist.toml"))
    parser.add_argument("--tern", default=str(ROOT / "build/release/bin/tern"))
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[1, 2, 3])
    parser.add_argument("--smooth", type=int, default=3, help="evaluations in a row whose mean must be at the target")
    parser.add_argument("--set", action="append", default=[], help="a further setting of every run")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--print", action="store_true", help="the table of what is there, without running")
    return parser


def read_variants(path):
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    return [tuple(setting.strip() for setting in line.split(",")) for line in lines if line]


def short(variant):
    return ", ".join(f"`{setting.removeprefix('compression.')}`" for setting in variant).replace("|", "\\|")


def reached(folder, target, smooth):
    """When the mean of `smooth` evaluations in a row is at the target, and what it took; None if it never is."""
    recent, sums, updates = [], {"bytes_up": 0, "bytes_down": 0, "staleness": 0}, 0
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        sums["bytes_up"] += row["bytes_up"]
        sums["bytes_down"] += row["bytes_down"]
        sums["staleness"] += (row.get("staleness") or 0) * row["updates"]
        updates += row["updates"]
        if row["accuracy"] is None:
            continue
        recent = [*recent, row["accuracy"]][-smooth:]
        if len(recent) == smooth and statistics.mean(recent) >= target:
            return {**sums, "staleness": sums["staleness"] / max(updates, 1), "round": row["round"], "seconds": row["virtual_seconds"]}
    return None


def text_of(seconds):
    return f"{seconds / 3600:.1f} h" if seconds >= 7200 else f"{seconds / 60:.1f} min" if seconds >= 120 else f"{seconds:.0f} s"


class Study:
    """All runs of a table; a run is a tuple of settings."""

    def __init__(self, args):
        self.args = args
        args.out.mkdir(parents=True, exist_ok=True)

    def _settings(self, run):
        return [f"rounds={self.args.rounds}", *self.args.set, *run]

    def folder(self, run):
        return self.args.out / hashlib.sha256(json.dumps(self._settings(run)).encode()).hexdigest()[:16]

    def is_finished(self, run):
        """An interrupted run leaves a summary, too, and a checkpoint beside it."""
        return (self.folder(run) / "summary.json").exists() and not (self.folder(run) / "checkpoint.db").exists()

    def run_all(self, runs):
        jobs = [] if self.args.print else [run for run in runs if not self.is_finished(run)]
        start = time.monotonic()
        for done, run in enumerate(jobs, 1):
            self._run(run)
            left = (time.monotonic() - start) / done * (len(jobs) - done)
            print(f"\r{done} of {len(jobs)} runs, {left / 60:.0f} min left", end="", file=sys.stderr, flush=True)
        if jobs:
            print(file=sys.stderr)

    def _run(self, run):
        folder = self.folder(run)
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was interrupted
        command = [self.args.tern, "simulate", self.args.scenario, "--out", str(folder), "--json", "--checkpoint-every",
                   "0", "--workers", str(self.args.workers)]
        for setting in self._settings(run):
            command += ["--set", setting]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            shutil.rmtree(folder, ignore_errors=True)
            print(f"{', '.join(run)}: {(done.stdout + done.stderr).strip()}", file=sys.stderr)


def main_of(main):
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
