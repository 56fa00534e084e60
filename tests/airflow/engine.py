"""A Docker engine of the tests' own, and an image with the real binary in it.

In:    root; `dockerd` (Debian's docker.io, installed by apt where it is missing).
Out:   a client, an image's name. Holds: no bridge and no firewall rule is made on this machine:
       containers use the host's network. Everything is gone at the end.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import tarfile
import time
from pathlib import Path

IMAGE = "sankofa:test"


class Engine:
    """A dockerd in `work`."""

    def __init__(self, work: Path) -> None:
        self.home = work / "docker"
        self.url = f"unix://{work}/docker.sock"
        if shutil.which("dockerd") is None:
            apt = ["apt-get", "-qq", "-y", "install", "--no-install-recommends", "docker.io"]
            subprocess.run(["apt-get", "-qq", "update"], check=True, stdout=subprocess.DEVNULL)
            environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            subprocess.run(apt, check=True, stdout=subprocess.DEVNULL, env=environment)
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        import docker

        self.home.mkdir(exist_ok=True)
        (self.home / "pid").unlink(missing_ok=True)
        words = [
            "dockerd", "--host", self.url, "--data-root", f"{self.home}/data", "--exec-root", f"{self.home}/exec",
            "--pidfile", f"{self.home}/pid", "--bridge=none", "--iptables=false", "--ip6tables=false",
        ]  # fmt: skip
        log = (self.home / "log").open("ab")
        self.process = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)
        for _ in range(300):
            try:
                self.api = docker.APIClient(base_url=self.url, timeout=60)
                return
            except Exception:
                assert self.process.poll() is None, (self.home / "log").read_text()[-2000:]
                time.sleep(0.1)
        raise AssertionError("dockerd does not answer: " + (self.home / "log").read_text()[-2000:])

    def stop(self) -> None:
        """End it with its containers."""
        for one in self.api.containers(all=True):
            self.api.remove_container(one["Id"], force=True, v=True)
        self.process.terminate()
        self.process.wait(20)
        left = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in reversed([one for one in left if one.startswith(f"{self.home}/")]):
            subprocess.run(["umount", mount], check=False)

    def containers(self) -> list[str]:
        """What `docker ps -a` lists."""
        return [one["Names"][0] for one in self.api.containers(all=True)]

    def load(self, binary: Path, project: str) -> None:
        """Make IMAGE of the binary, the libraries it needs, and the operator's sankofa.yaml."""
        found = subprocess.run(["ldd", str(binary)], check=True, capture_output=True, text=True).stdout
        files = {f"usr/local/bin/{binary.name}": binary}
        files |= {path.lstrip("/"): Path(path) for path in re.findall(r"(/\S+) \(0x", found)}
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            for folder, mode in (("run/sankofa", 0o755), ("tmp", 0o1777), ("stage", 0o755), ("etc/sankofa", 0o755)):
                one = tarfile.TarInfo(folder)
                one.type, one.mode, one.uid, one.gid = tarfile.DIRTYPE, mode, 65534, 65534
                tar.addfile(one)
            for name, path in files.items():
                tar.add(path.resolve(), name)
            one = tarfile.TarInfo("etc/sankofa/sankofa.yaml")
            one.size = len(project.encode())
            tar.addfile(one, io.BytesIO(project.encode()))
        changes = [
            'ENTRYPOINT ["/usr/local/bin/sankofa"]', "USER 65534:65534", "WORKDIR /tmp", "VOLUME /run/sankofa",
            "ENV SANKOFA_CONFIG=/etc/sankofa/sankofa.yaml",
        ]  # fmt: skip
        name, tag = IMAGE.split(":")
        self.api.import_image_from_data(out.getvalue(), repository=name, tag=tag, changes=changes)
