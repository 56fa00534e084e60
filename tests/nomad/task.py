"""One task of an allocation: a real process, or a real container, and its log files.

In:    the task's part of the job, its folder, its environment.
Out:   a running process; exit code, signal and whether memory ran out; log files that rotate.
Holds: a task is a process group of its own and is never left behind by `close()`.
Not here: what Nomad reports about it (allocation.py).
"""

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import threading

KNOWN_DRIVERS = {"raw_exec", "exec", "docker"}
RAW_FIELDS = {"command", "args", "cgroup_v2_override", "cgroup_v1_override", "oom_score_adj", "work_dir"}


class StartFailure(Exception):
    """The task did not start: the kind of event that Nomad shows, and its text."""

    def __init__(self, kind, text):
        super().__init__(text)
        self.kind, self.text = kind, text


class LogFiles:
    """One stream in files of at most `size` bytes, of which the last `keep` stay."""

    def __init__(self, folder, name, size, keep):
        self.folder, self.name, self.size, self.keep = folder, name, size, keep
        self.lock, self.number, self.length = threading.Lock(), 0, 0
        os.makedirs(folder, exist_ok=True)
        open(self.path(0), "ab").close()

    def path(self, number):
        return os.path.join(self.folder, f"{self.name}.{number}")

    def write(self, data):
        while data:
            with self.lock:
                part, data = data[: self.size - self.length], data[self.size - self.length:]
                with open(self.path(self.number), "ab") as file:
                    file.write(part)
                self.length += len(part)
                if self.length >= self.size:
                    self.number, self.length = self.number + 1, 0
                    open(self.path(self.number), "ab").close()
                    gone = self.path(self.number - self.keep)
                    if os.path.exists(gone):
                        os.remove(gone)

    def read(self):
        """What is still there, oldest file first: offsets of readers count from here."""
        with self.lock:
            first = max(0, self.number - self.keep + 1)
            return b"".join(self.file(n) for n in range(first, self.number + 1))

    def file(self, number):
        with open(self.path(number), "rb") as file:
            return file.read()


class Task:
    def __init__(self, spec, folder, logs_folder, environment):
        self.spec, self.folder, self.environment = spec, folder, environment
        size = spec["LogConfig"]["MaxFileSizeMB"] * 2**20
        keep = spec["LogConfig"]["MaxFiles"]
        self.logs = {s: LogFiles(logs_folder, f"{spec['Name']}.{s}", size, keep) for s in ("stdout", "stderr")}
        self.process, self.container, self.told_oom, self.unreachable = None, None, False, None
        for inside in ("local", "secrets", "tmp"):
            os.makedirs(os.path.join(folder, inside), exist_ok=True)

    def start(self):
        """Starts it; StartFailure as Nomad would say it."""
        driver = self.spec["Driver"]
        if any("\0" in v for v in self.environment.values()):
            command = [self.spec["Config"].get("command")] + self.spec["Config"].get("args", [])
            quoted = " ".join(json.dumps(word) for word in command)
            raise StartFailure("Driver Failure", "failed to launch command with executor: rpc error: code = Unknown "
                               f'desc = failed to start command path="{command[0]}" --- args=[{quoted}]: '
                               "exec: environment variable contains NUL")
        if driver == "docker":
            return self._start_container()
        unknown = sorted(set(self.spec["Config"]) - RAW_FIELDS)
        if unknown:
            raise StartFailure("Failed Validation", "2 errors occurred:\n\t* failed to parse config: \n\t* Invalid "
                               f'label: No argument or block type is named "{unknown[0]}".\n\n')
        command = self.interpolate(self.spec["Config"]["command"])
        found = shutil.which(command, path=os.environ.get("PATH")) or shutil.which(os.path.join(self.folder, command))
        if not found:
            raise StartFailure("Driver Failure", "failed to launch command with executor: rpc error: code = Unknown "
                               f'desc = binary "{command}" could not be found')
        words = [found] + [self.interpolate(a) for a in self.spec["Config"].get("args", [])]
        self._spawn(words, {**os.environ, **self.environment})

    def _spawn(self, words, environment):
        try:
            self.process = subprocess.Popen(
                words, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, start_new_session=True)
        except OSError as error:  # such as an environment that is too long
            raise StartFailure("Driver Failure", "failed to launch command with executor: rpc error: code = Unknown "
                               f"desc = failed to start command: fork/exec {words[0]}: {error.strerror.lower()}") from error
        streams = {"stdout": self.process.stdout, "stderr": self.process.stderr}
        self.pumps = [threading.Thread(target=self._pump, args=(s, self.logs[n]), daemon=True)
                      for n, s in streams.items()]
        for pump in self.pumps:
            pump.start()

    @staticmethod
    def _pump(stream, logs):
        while data := os.read(stream.fileno(), 65536):
            logs.write(data)

    def _start_container(self):
        config = self.spec["Config"]
        self.container = f"{self.spec['Name']}-{self.environment['NOMAD_ALLOC_ID']}"
        words = ["docker", "run", "--name", self.container, "--memory", f"{self.spec['Resources']['MemoryMB']}m"]
        for field, flag in (("network_mode", "--network"), ("pids_limit", "--pids-limit"), ("entrypoint", "--entrypoint")):
            if field in config:
                value = config[field]
                words += [flag, str(value[0] if isinstance(value, list) else value)]
        words += ["--read-only"] if config.get("readonly_rootfs") else []
        words += ["--init"] if config.get("init") else []
        for field, flag in (("cap_drop", "--cap-drop"), ("security_opt", "--security-opt"), ("volumes", "--volume")):
            for value in config.get(field, []):
                words += [flag, self.interpolate(value)]
        for inside, at in (("local", "/local"), ("secrets", "/secrets")):
            words += ["--volume", f"{os.path.join(self.folder, inside)}:{at}"]
        for key in self.environment:
            words += ["--env", key]
        image = self.interpolate(config["image"])
        if subprocess.run(["docker", "image", "inspect", image], capture_output=True).returncode:
            raise StartFailure("Driver Failure", f"Failed to pull `{image}`: Error response from daemon: not found")
        words += [image] + ([config["command"]] if "command" in config else [])
        self._spawn(words + [self.interpolate(a) for a in config.get("args", [])], {**os.environ, **self.environment})

    def interpolate(self, text):
        """`${NOMAD_...}` and `${env["..."]}` that are known; the rest stays, as in Nomad."""
        def fill(found):
            return self.environment.get(found[1] or found[2], found[0])

        return re.sub(r'\$\{(?:(NOMAD_[A-Za-z0-9_]+)|env\["([^"]+)"\])\}', fill, text)

    def wait(self):
        """Exit code, signal, memory ran out, message: as the Terminated event has them."""
        status = self.process.wait()
        for pump in self.pumps:
            pump.join(timeout=1)  # a grandchild may hold the pipe
        if self.unreachable:
            return -1, 0, False, self.unreachable
        if self.container:
            return self._container_end()
        if self.told_oom == "docker":
            return 137, 0, True, "OOM Killed"
        if status >= 0:
            return status, 0, False, ""
        return 128 - status, -status, self.told_oom, ""

    def _container_end(self):
        shown = subprocess.run(["docker", "inspect", "-f", "{{json .State}}", self.container],
                               capture_output=True, text=True).stdout
        subprocess.run(["docker", "rm", "-f", "-v", self.container], capture_output=True)
        state = json.loads(shown or "{}")
        oom = state.get("OOMKilled", False)
        return state.get("ExitCode", -1), 0, oom, "OOM Killed" if oom else ""

    def signal(self, name):
        """Sends a signal by its name to the task's first process."""
        if self.container:
            subprocess.run(["docker", "kill", "-s", name, self.container], capture_output=True)
        else:
            self._send(signal.Signals[name], group=name == "SIGKILL")

    def run_out_of_memory(self, docker=False):
        """What a cgroup's limit does, for tests: SIGKILL, and the report says why, as the driver words it."""
        self.told_oom = "docker" if docker else True
        self.signal("SIGKILL")

    def _send(self, number, group):
        try:
            (os.killpg if group else os.kill)(self.process.pid, number)
        except ProcessLookupError:
            pass

    def close(self):
        """Leaves nothing behind."""
        if self.process and self.process.poll() is None:
            self.signal("SIGKILL")


def frame(data, name, offset):
    """One frame of a log answer with plain=false."""
    return {"Data": base64.b64encode(data).decode(), "File": name, "Offset": offset}
