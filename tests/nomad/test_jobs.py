"""The job files of nomad/, as far as they can be checked without a Nomad: read, held to rules, and run on the stand-in.

Needs: python-hcl2 (make test-nomad installs it), git, and target/debug/sankofa for the parents that refuse.
"""

import glob
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import hcl2  # noqa: E402
import jobspec  # noqa: E402
from client import Client  # noqa: E402
from replay import load  # noqa: E402
from stand_in import StandIn  # noqa: E402

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
JOBS = sorted(glob.glob(str(CHECKOUT / "nomad/jobs/*.nomad.hcl")))
SHARED = pathlib.Path(os.environ.get("SANKOFA_SHARED") or CHECKOUT.parent / "shared")
BINARY = pathlib.Path(os.environ.get("SANKOFA_BINARY") or CHECKOUT / "target/debug/sankofa")
CLASSES = {"rows": "sankofa", "backup": "sankofa", "drill": "platform"}


def text(path):
    return pathlib.Path(path).read_text()


def parent(klass):
    return jobspec.parse(text(CHECKOUT / f"nomad/jobs/sankofa-{klass}.nomad.hcl"))


def commands(job):
    return [c.strip() for c in job["TaskGroups"][0]["Tasks"][0]["Env"]["SANKOFA_COMMANDS"].split(",")]


def tasks(job):
    return [(g, t) for g in job["TaskGroups"] for t in g["Tasks"]]


class Files(unittest.TestCase):
    def test_every_file_is_hcl_to_another_reader_too_and_both_find_the_same_job(self):
        for file in JOBS:
            with self.subTest(os.path.basename(file)), open(file) as lines:
                job, = hcl2.load(lines)["job"]
                name, = job
                self.assertEqual(jobspec.parse(text(file))["ID"], name.strip('"'))

    def test_the_platform_is_complete(self):
        names = {jobspec.parse(text(f))["ID"] for f in JOBS}
        self.assertEqual({"airflow", "airflow-migrate", "redis", "metabase", "dag-sync", "sankofa-rows", "sankofa-backup",
                          "sankofa-drill", "backup-hr", "backup-records", "backup-service-desk", "drill"}, names)

    def test_no_file_holds_a_secret(self):
        for file in JOBS + glob.glob(str(CHECKOUT / "nomad/policies/*")):
            with self.subTest(os.path.basename(file)):
                body = text(file)
                self.assertNotRegex(body, r"AGE-SECRET-KEY|-----BEGIN|hvs\.[A-Za-z0-9]{8}|://[^:@\s\"]+:[^@\s\"$]+@")
                for found in re.finditer(r"(?im)^\s*\w*(password|secret_key|_token|fernet_key)\w*\s*=\s*(\S.*)$", body):
                    self.assertRegex(found[2], r"^(\{\{|'\{\{password\}\}'|[A-Z ]*'scram)", found[0])

    def test_nothing_that_a_scheduler_retries_is_retried_by_nomad_as_well(self):
        for file in JOBS:
            job = jobspec.parse(text(file))
            if job["Type"] != "batch" or job["ID"] == "airflow-migrate":
                continue
            for group, _ in tasks(job):
                with self.subTest(job["ID"]):
                    self.assertEqual((0, "fail"), (group["RestartPolicy"]["Attempts"], group["RestartPolicy"]["Mode"]))
                    self.assertEqual((0, False), (group["ReschedulePolicy"]["Attempts"], group["ReschedulePolicy"]["Unlimited"]))

    def test_what_starts_by_cron_does_so_in_a_zone_whose_clock_is_never_changed_and_never_twice_at_once(self):
        # Of a zone with summer time Nomad leaves out or repeats what falls into the hour that does.
        periodic = [job for job in map(jobspec.parse, map(text, JOBS)) if job["Periodic"]]
        self.assertEqual(5, len(periodic))
        for job in periodic:
            with self.subTest(job["ID"]):
                self.assertEqual(("UTC", True), (job["Periodic"]["TimeZone"], job["Periodic"]["ProhibitOverlap"]))


class Parents(unittest.TestCase):
    def test_a_parent_fixes_the_commands_of_its_class_and_names_none_of_another(self):
        mine = {klass: commands(parent(klass)) for klass in CLASSES}
        first = {klass: {c.split()[0] for c in found} for klass, found in mine.items()}
        self.assertEqual({"drill", "restore"}, first["drill"])
        for other in ("rows", "backup"):
            self.assertFalse(first["drill"] & first[other])
        self.assertFalse({"backup", "backups"} & first["rows"])
        self.assertFalse({"extract", "load", "sync"} & first["backup"])
        for klass in CLASSES:  # never whole: prune deletes
            self.assertNotIn("backups", mine[klass])

    def test_a_parent_is_as_the_recorded_one_where_the_operator_relies_on_it(self):
        file = SHARED / "data/nomad/01-ok.jsonl.gz"
        if not file.exists() and os.environ.get("CI") != "true":
            print(f"!!! NO RECORDINGS: {file}", file=sys.stderr)
            return
        recorded = load(file)[0]["request"]["body"]["Job"]
        group, = recorded["TaskGroups"]
        for klass in CLASSES:
            job = parent(klass)
            ours, = job["TaskGroups"]
            self.assertEqual(recorded["Type"], job["Type"])
            for policy in ("RestartPolicy", "ReschedulePolicy"):
                same = {k: v for k, v in ours[policy].items() if k in ("Attempts", "Mode", "Unlimited")}
                self.assertEqual({k: group[policy][k] for k in same}, same)
            task, = ours["Tasks"]
            self.assertEqual((group["Name"], "sankofa"), (ours["Name"], task["Name"]))
            self.assertEqual(group["Tasks"][0]["KillSignal"], task["KillSignal"])
            self.assertGreaterEqual(task["KillTimeout"], group["Tasks"][0]["KillTimeout"])

    def test_a_parent_has_what_makes_a_run_safe(self):
        for klass, namespace in CLASSES.items():
            job = parent(klass)
            (group, task), = tasks(job)
            self.assertEqual(namespace, job["Namespace"])
            self.assertEqual(["args"], job["ParameterizedJob"]["MetaRequired"])
            self.assertEqual({"Role": f"sankofa-{klass}", "ChangeMode": "noop", "Env": False}, task["Vault"])
            self.assertEqual([("vault_default", ["vault.io"])], [(i["Name"], i["Audience"]) for i in task["Identities"]])
            self.assertTrue(task["Config"]["readonly_rootfs"])
            self.assertEqual(["ALL"], task["Config"]["cap_drop"])
            self.assertGreaterEqual(task["LogConfig"]["MaxFiles"] * task["LogConfig"]["MaxFileSizeMB"], 200)
            self.assertTrue(all(t["ChangeMode"] == "noop" for t in task["Templates"]))
            self.assertGreater(group["MaxRunDuration"], 0)

    def test_commands_of_another_class_are_refused_by_a_run_of_the_parent(self):
        if not BINARY.exists():
            self.fail(f"{BINARY} is missing: cargo build")
        stand_in = StandIn()
        try:
            for klass in CLASSES:
                stand_in.cluster.register(as_process(parent(klass)))
            wanted = {("rows", "drill hr"): 77, ("rows", "backups prune hr"): 77, ("backup", "restore hr --into x"): 77,
                      ("backup", "--project sync drill hr"): 77, ("drill", "sync hr"): 77,
                      ("rows", "sync hr"): 78, ("backup", "backup hr"): 78, ("drill", "drill hr"): 78}  # 78: no project here
            for (klass, line), status in wanted.items():
                with self.subTest(f"{klass}: {line}"):
                    client = Client(stand_in.url, namespace=CLASSES[klass])
                    child = client.dispatch(f"sankofa-{klass}", {"args": json.dumps(line.split())})
                    ended = client.end(child)
                    self.assertEqual(status, ended["exit_code"], client.logs(ended["alloc"], "sankofa", "stderr"))
        finally:
            stand_in.close()


def as_process(job):
    """The parent with the binary itself in the container's place, and no Vault: what it may start stays."""
    task = job["TaskGroups"][0]["Tasks"][0]
    task.update(Driver="raw_exec", Config={"command": str(BINARY)}, Vault=None, Identities=[], Templates=[])
    task["Env"]["SANKOFA_CONFIG"] = "/nowhere/sankofa.yaml"
    return job


class Policy(unittest.TestCase):
    def test_airflows_token_can_do_what_the_operator_does_and_nothing_on_the_platform(self):
        found = re.findall(r'namespace "(\w+)" \{\s*capabilities = \[([^\]]*)\]', text(CHECKOUT / "nomad/policies/airflow-nomad.hcl"))
        stand_in = StandIn()
        try:
            allowed = {name: re.findall(r'"([\w-]+)"', listed) for name, listed in found}
            self.assertEqual(["sankofa"], list(allowed))
            stand_in.tokens.add("fake-airflow", allowed)
            job = jobspec.parse('job "sankofa-rows" {\n type = "batch"\n parameterized {\n meta_required = ["args"]\n }\n'
                                ' group "run" {\n task "sankofa" {\n driver = "raw_exec"\n kill_signal = "SIGTERM"\n'
                                ' config {\n command = "/bin/sleep"\n args = ["60"]\n }\n }\n }\n}\n')
            for namespace in ("sankofa", "platform"):
                stand_in.cluster.register({**job, "Namespace": namespace})
            client = Client(stand_in.url, namespace="sankofa", token="fake-airflow")
            child = client.dispatch("sankofa-rows", {"args": "[]"})
            alloc = client.running(child)
            client.logs(alloc["ID"], "sankofa", "stdout")
            client.call("GET", f"/v1/jobs?prefix=sankofa-rows%2Fdispatch-&namespace=sankofa")
            client.stop(child)
            self.assertEqual(143, client.end(child)["exit_code"])
            for call in (("POST", "/v1/job/sankofa-rows/dispatch?namespace=platform", {"Meta": {"args": "[]"}}),
                         ("GET", "/v1/jobs?prefix=sankofa&namespace=platform", None),
                         ("DELETE", "/v1/job/sankofa-rows?purge=false&namespace=platform", None)):
                self.assertEqual(403, client.call(*call, check=False)[0], call)
        finally:
            stand_in.close()


class Platform(unittest.TestCase):
    def test_no_process_of_airflow_starts_before_the_migration_is_through(self):
        migrate = jobspec.parse(text(CHECKOUT / "nomad/jobs/airflow-migrate.nomad.hcl"))
        self.assertEqual(("batch", 1), (migrate["Type"], migrate["TaskGroups"][0]["Count"]))
        airflow = jobspec.parse(text(CHECKOUT / "nomad/jobs/airflow.nomad.hcl"))
        self.assertEqual(["api-server", "scheduler", "dag-processor", "triggerer", "worker"],
                         [g["Name"] for g in airflow["TaskGroups"]])
        for group in airflow["TaskGroups"]:
            wait, main = group["Tasks"]
            self.assertEqual({"Hook": "prestart", "Sidecar": False}, wait["Lifecycle"])
            wanted = "monitor/health" if group["Name"] == "worker" else "check-migrations"
            self.assertIn(wanted, wait["Config"]["args"][1])
            self.assertFalse(any("migrate" == a for a in main["Config"]["args"]))
        worker = airflow["TaskGroups"][4]["Tasks"][1]
        self.assertNotIn("SQL_ALCHEMY_CONN", json.dumps(worker))

    def test_each_database_is_backed_up_nightly_and_drilled_monthly_by_the_operators_scheduler(self):
        drill = jobspec.parse(text(CHECKOUT / "nomad/jobs/drill.nomad.hcl"))
        self.assertEqual("1", drill["Periodic"]["Specs"][0].split()[2])
        for database in ("hr", "records", "service_desk"):
            name = database.replace("_", "-")
            job = jobspec.parse(text(CHECKOUT / f"nomad/jobs/backup-{name}.nomad.hcl"))
            self.assertTrue(job["Periodic"]["ProhibitOverlap"])
            for found, klass in ((job["TaskGroups"][0], "backup"),
                                 (next(g for g in drill["TaskGroups"] if g["Name"] == name), "drill")):
                env = found["Tasks"][0]["Env"]
                words = json.loads(env["SANKOFA_ARGUMENTS"])
                self.assertEqual([klass, database, "--run", "${NOMAD_JOB_ID}"], words[:4])
                self.assertEqual(klass, env["SANKOFA_COMMANDS"])
                self.assertEqual(f"sankofa-{klass}", found["Tasks"][0]["Vault"]["Role"])


class DagSync(unittest.TestCase):
    """nomad/dag-sync.sh against real repositories."""

    def setUp(self):
        self.work = tempfile.TemporaryDirectory()
        self.addCleanup(self.work.cleanup)
        self.home = pathlib.Path(self.work.name)
        self.origin, self.dags = self.home / "origin", self.home / "dags"
        self.git("init", "-q", "-b", "deployed", self.origin, at=self.home)
        self.commit("one")

    def git(self, *words, at=None):
        return subprocess.run(["git", "-c", "user.name=x", "-c", "user.email=x@example.org", *map(str, words)], cwd=at or self.origin,
                              check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, said):
        (self.origin / "dag.py").write_text(said)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", said)

    def sync(self, repository=None, status=0):
        words = [str(CHECKOUT / "nomad/dag-sync.sh"), f"file://{repository or self.origin}", "deployed", str(self.dags)]
        done = subprocess.run(words, capture_output=True, text=True)
        self.assertEqual(status, done.returncode, done.stderr)

    def current(self):
        return (self.dags / "current/dag.py").read_text()

    def test_the_folder_follows_the_ref_a_forced_push_included(self):
        self.sync()
        self.assertEqual("one", self.current())
        self.commit("two")
        self.sync()
        self.assertEqual("two", self.current())
        self.git("reset", "-q", "--hard", "HEAD~1")
        self.commit("three, forced")
        self.sync()
        self.assertEqual("three, forced", self.current())

    def test_a_remote_that_is_away_or_a_ref_that_is_gone_leaves_the_last_good_version(self):
        self.sync()
        self.sync(repository=self.home / "nowhere", status=75)
        self.assertEqual("one", self.current())
        self.git("branch", "-q", "-m", "other")
        self.sync(status=75)
        self.assertEqual("one", self.current())

    def test_a_reader_sees_one_version_or_the_next_and_old_ones_go(self):
        self.sync()
        for n in range(5):
            held = os.path.realpath(self.dags / "current")
            self.commit(f"version {n}")
            self.sync()
            self.assertTrue(os.path.exists(held))  # the one that a run may still read
            time.sleep(0.01)
        self.assertLessEqual(len(glob.glob(str(self.dags / "rev-*"))), 4)


if __name__ == "__main__":
    unittest.main()
