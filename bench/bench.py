"""Speed and memory of Sankofa beside psql, on this machine, now.

usage: bench/run.sh [--write] [CASE...]

Prints one markdown table; --write puts it into docs/performance.md. Sizes: see run.sh.
"""

import argparse
import datetime
import os
import platform
import subprocess
import sys

import cases
from cluster import SETTINGS, Cluster
from measure import HEAD, Sizes

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BINARY = f"{ROOT}/target/release/sankofa"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def machine():
    """Processor, cores, memory, in one line."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{models[0] if models else platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB"


def heading(version, sizes):
    """What a figure is worth nothing without."""
    commit = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    settings = ", ".join(f"{name}={value}" for name, value in SETTINGS.items())
    return (
        f"{datetime.date.today()}, commit {commit.stdout.strip()}; {machine()}; Linux {platform.release()}; "
        f"PostgreSQL {version}, source and warehouse on the same machine, both contestants by TCP\n"
        f"({settings}).\nSizes: {sizes.rows:,} narrow rows, {sizes.wide_rows:,} wide ones, {sizes.rounds} rounds.\n"
    )


def write(text):
    """Replaces the measured part of docs/performance.md."""
    path = f"{ROOT}/docs/performance.md"
    with open(path, encoding="utf-8") as file:
        before, rest = file.read().split(BEGIN)
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{before}{BEGIN}\n{text}{END}{rest.split(END)[1]}")


def main():
    """Runs the cases that were asked for."""
    listed = "\n".join(f"  {name:12} {case.__doc__}" for name, case in cases.ALL.items())
    parser = argparse.ArgumentParser(
        prog="bench/run.sh", description=__doc__.split("\n", maxsplit=1)[0], epilog="cases:\n" + listed,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--write", action="store_true", help="write docs/performance.md too")
    parser.add_argument("case", nargs="*", help="all, if none is named")
    asked = parser.parse_args()
    for name in asked.case:
        if name not in cases.ALL:
            parser.error(f"there is no case {name}")
    sizes = Sizes()
    with Cluster("source") as source, Cluster("warehouse") as warehouse:
        text = heading(source.version(), sizes) + "\n" + HEAD + "\n"
        print(text, end="", flush=True)
        bench = cases.Bench(source, warehouse, os.environ.get("SANKOFA_BIN", BINARY), sizes)
        for name in asked.case or cases.ALL:
            for figure in cases.ALL[name](bench):
                print(figure.row(), flush=True)
                text += figure.row() + "\n"
    if asked.write:
        write(text)


if __name__ == "__main__":
    sys.exit(main())
