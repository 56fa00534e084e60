"""What a launcher adds: our operator beside the stock one, the DAG file, a container's start, the image's size.

In:    a Docker engine of the test bed (root), an Airflow 3.3 of the test bed, the program.
Out:   [`Figure`]s.
Holds: contestants take turns; both containers are started with the same words; nothing is left in the engine but images.
"""

import json
import os
import statistics
import subprocess
import tempfile

import data
from measure import Figure, ratios, timed

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
IMAGE, TRUE, CLIENTS = "sankofa:test", "sankofa-true:bench", "sankofa-clients:bench"
BASE, MAJOR = "debian:bookworm-slim", "15"
ROUNDS = 2 if os.environ.get("BENCH_SMALL") == "1" else 15
LOCKED = ("--rm", "--network", "none", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
PREPARED = '. "$0/tests/airflow/prepare.sh" bench 3 3 >&2; "$python" "$0/bench/operators.py"'
CLIENTS_FILE = f"""FROM {BASE}
RUN apt-get -qq update && apt-get -qq install -y --no-install-recommends ca-certificates postgresql-client-{MAJOR} >/dev/null \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
"""


def run(*words, **more):
    """Runs a program to its end; what it prints."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, **more)
    if done.returncode:
        raise SystemExit(f"bench: {words}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done.stdout.strip()


def engine(binary):
    """Starts the engine, builds the real image with `binary` in it; the engine's address."""
    url = run(f"{ROOT}/tests/testbed/image.sh", env={**os.environ, "MAJORS": MAJOR, "SANKOFA_BINARY": binary})
    os.environ["DOCKER_HOST"] = url
    return url


def operator(bench, folder, url):
    """Our operator beside the stock one, and the DAG file of 200 pipelines."""
    bench.make("small", [text.replace("narrow", "small") for text in data.narrow(1000)])
    program = bench.project({"public.small": {"mode": "incremental", "replication_key": "updated_at"}})
    program.sync()
    home = program.folder.name
    run(bench.binary, "-q", "--project", home, "config", "compile", env=program.environment)
    with open(f"{home}/locks/bench.lock.json", encoding="utf-8") as file:
        lock = json.load(file)
    for number in range(200):
        with open(f"{folder}/p{number}.lock.json", "w", encoding="utf-8") as file:
            json.dump({**lock, "name": f"p{number}"}, file)
    mount = {"Type": "bind", "Source": f"{home}/sankofa.yaml", "Target": "/etc/sankofa/sankofa.yaml", "ReadOnly": True}
    asked = {"image": IMAGE, "docker_url": url, "variables": program.environment, "mounts": [mount], "locks": folder,
             "lock": f"{home}/locks/bench.lock.json", "dag_file": f"{ROOT}/airflow_dags/dags/sankofa.py", "rounds": ROUNDS}
    environment = {**os.environ, "SANKOFA_BINARY": bench.binary}
    return json.loads(run("bash", "-euo", "pipefail", "-c", PREPARED, ROOT, input=json.dumps(asked), env=environment))


def starts(folder):
    """Seconds of containers that say the version, and of those of a static `true`."""
    run("cc", "-static", "-O2", "-x", "c", "-o", f"{folder}/true", "-", input="int main(void) { return 0; }")
    with open(f"{folder}/Dockerfile", "w", encoding="utf-8") as file:
        file.write('FROM scratch\nCOPY true /true\nENTRYPOINT ["/true"]\n')
    run("docker", "build", "-q", "-t", TRUE, folder)
    ours, floors = [], []
    for number in range(-1, ROUNDS):  # the first one warms up
        floor, own = (timed(run, "docker", "run", *LOCKED, image, "--version") for image in (TRUE, IMAGE))
        if number >= 0:
            ours.append(own)
            floors.append(floor)
    return ours, floors


def size(image):
    """Bytes of an image."""
    return int(run("docker", "image", "inspect", "-f", "{{.Size}}", image))


def volumes():
    """Every volume there is."""
    return set(run("docker", "volume", "ls", "-q").split())


def milliseconds(values):
    """Median, for a note."""
    return f"{statistics.median(values) * 1000:.0f} ms"


def airflow(bench):
    """What our operator, the DAG file, a container's start and the image cost, beside stock ones."""
    if os.geteuid() != 0:
        print("bench: !!! airflow is left out: a Docker engine needs root")
        return []
    url = engine(bench.binary)
    there = volumes()
    with tempfile.TemporaryDirectory(prefix="sankofa-bench-airflow-") as folder:
        took = operator(bench, folder, url)
        ours, floors = starts(folder)
    run("docker", "volume", "rm", *(volumes() - there))  # the stock operator leaves one a run
    run("docker", "build", "-q", "--network", "host", "-t", CLIENTS, "-", input=CLIENTS_FILE)
    added = [own - stock for own, stock in zip(took["ours"], took["stock"])]
    parsing = [whole - floor for whole, floor in zip(took["parsed"], took["floor"])]
    medians = {name: statistics.median(values) for name, values in took.items()}
    around = f"{medians['ours'] / medians['stock']:.2f}x: {medians['ours']:.0f} ms, stock {medians['stock']:.0f} ms"
    bench.tidy()
    return [
        Figure("around a run: added by our operator to the stock one's", added, " ms", 50, around),
        Figure("200 pipelines x 3 tasks: parsed beyond the imports", parsing, " s", 0.5, f"imports {medians['floor']:.2f} s"),
        Figure("a container's `--version` / a static `true`", ratios(ours, floors), "x", 1.2,
               f"{milliseconds(ours)}, true {milliseconds(floors)}"),
        Figure(f"size of the image / its base with the clients of {MAJOR}", [size(IMAGE) / size(CLIENTS)], "x", 1.25,
               f"{size(IMAGE) / 1e6:.0f} MB, {size(CLIENTS) / 1e6:.0f} MB"),
    ]
