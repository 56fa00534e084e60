"""docker/airflow.Dockerfile: read, held to the versions that the tests run, and its packages resolved together by PyPI.

No image of Airflow can be pulled here, so what is not done is the build on it. What the image has is what
tests/platform runs: the same versions, the package built from the same folder.
"""

import os
import pathlib
import re
import subprocess
import tempfile
import unittest

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
BED = pathlib.Path(os.environ.get("SANKOFA_TESTBED") or CHECKOUT / ".testbed").resolve()
TEXT = (CHECKOUT / "docker/airflow.Dockerfile").read_text()
ARGS = dict(re.findall(r"^ARG (\w+)=(\S+)$", TEXT, re.M))
PINS = dict(line.split("==") for name in ("3", "platform-3")
            for line in (CHECKOUT / f"tests/testbed/airflow/{name}.txt").read_text().split() if re.match(r"[\w.-]+==", line))


class AirflowImage(unittest.TestCase):
    def test_its_versions_are_those_that_the_tests_run(self):
        self.assertIn(f"slim-{ARGS['AIRFLOW']}-", ARGS["BASE"])
        for arg, package in (("AIRFLOW", "apache-airflow"), ("DOCKER_PROVIDER", "apache-airflow-providers-docker"),
                             ("KUBERNETES_PROVIDER", "apache-airflow-providers-cncf-kubernetes"),
                             ("CELERY_PROVIDER", "apache-airflow-providers-celery")):
            self.assertEqual(PINS[package], ARGS[arg], package)

    def test_what_it_copies_is_in_its_context_and_no_dag_is_in_it(self):
        copied = [word for line in re.findall(r"^COPY (.+)$", TEXT, re.M) for word in line.split()[:-1]]
        self.assertEqual(["pyproject.toml", "README.md", "sankofa_airflow"], copied)
        for name in copied:
            self.assertTrue((CHECKOUT / "airflow_dags" / name).exists(), name)

    def test_it_ends_as_an_ordinary_user_and_is_the_image_that_compose_and_nomad_name(self):
        self.assertEqual("airflow", re.findall(r"^USER (\w+)$", TEXT, re.M)[-1])
        tag = re.search(r"-t (sankofa-airflow):", TEXT)[1]
        for file in ("docker/compose.yaml", "nomad/jobs/airflow.nomad.hcl", "nomad/jobs/airflow-migrate.nomad.hcl"):
            self.assertIn(f"{tag}:", (CHECKOUT / file).read_text(), file)

    def test_all_that_it_installs_fits_together(self):
        uv = BED / "bin/uv"
        subprocess.run([CHECKOUT / "tests/testbed/airflow.sh", "3"], check=True, stdout=subprocess.DEVNULL)
        installed = TEXT[TEXT.index("pip install"):]
        wanted = re.sub(r"\$\{(\w+)\}", lambda one: ARGS[one[1]], installed)
        wanted = [word for word in re.findall(r'"([^"]+)"', wanted) if "==" in word or "[" in word]
        wanted = [word.replace("/build", str(CHECKOUT / "airflow_dags")) for word in wanted]
        self.assertEqual(7, len(wanted))
        with tempfile.TemporaryDirectory() as work:
            (pathlib.Path(work) / "wanted.in").write_text("\n".join([*wanted, "psycopg2-binary", "asyncpg"]))
            done = subprocess.run([uv, "pip", "compile", "--python-version", "3.11", "--no-header", "--no-annotate", "wanted.in"],
                                  cwd=work, capture_output=True, text=True)
        self.assertEqual(0, done.returncode, done.stderr[-2000:])
        self.assertIn(f"apache-airflow=={ARGS['AIRFLOW']}\n", done.stdout)


if __name__ == "__main__":
    unittest.main(verbosity=2)
