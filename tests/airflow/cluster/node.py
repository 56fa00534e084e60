"""A real Kubernetes of one node on loopback: the program that tests/testbed/kubernetes.sh builds, apt's containerd and runc.

In:    root; a folder that is not there yet, its path short (a socket's has at most 108 bytes).
Out:   a Ready node, kubeconfigs, a client of its administrator. 4 s; 0.8 GB of memory.
Holds: all of it is in the folder, but for control groups and links in /var/log/containers; `stop` removes both.
       Pods use the host's network: no bridge and no firewall rule is made on this machine, and nothing is pulled.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pki
from school import free_port

NODE = "127.0.0.1"  # the only way a kubelet takes a loopback address as its own
PAUSE = "sankofa.test/pause:1"
CONTROLLERS = (
    "serviceaccount", "root-ca-certificate-publisher", "namespace", "node-lifecycle", "taint-eviction",
    "pod-garbage-collector", "garbage-collector", "clusterrole-aggregation", "persistentvolume-binder",
)  # fmt: skip
DEAD = "http://127.0.0.1:1"  # where pulls are sent: a missing image fails at once


class Node:
    """A cluster of one node."""

    def __init__(self, folder: Path, program: Path) -> None:
        self.folder, self.program = folder, program
        self.ports = {name: free_port() for name in ("etcd", "peer", "api", "kubelet")}
        self.url = f"https://127.0.0.1:{self.ports['api']}"
        self.group = "sankofa-node-" + hashlib.sha256(str(folder).encode()).hexdigest()[:8]
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        folder.mkdir(parents=True)
        pki.make(folder / "pki")
        for name in pki.CLIENTS:
            self.kubeconfig(name, {"client-certificate": self.at(f"pki/{name}.crt"), "client-key": self.at(f"pki/{name}.key")})
        try:
            self.start()
        except BaseException:
            self.stop()
            raise

    def at(self, name: str) -> str:
        """Return the path of a file of ours."""
        return str(self.folder / name)

    def kubeconfig(self, name: str, user: dict[str, str]) -> str:
        """Write a kubeconfig for `user`; return its path."""
        cluster = {"server": self.url, "certificate-authority": self.at("pki/ca.crt")}
        written = self.folder / f"{name}.kubeconfig"
        written.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "here",
            "clusters": [{"name": "here", "cluster": cluster}], "users": [{"name": name, "user": user}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": name}}],
        }))  # fmt: skip
        return str(written)

    def client(self) -> Any:
        """Return the API as its administrator sees it."""
        from kubernetes import client, config

        return client.CoreV1Api(config.new_client_from_config(self.at("admin.kubeconfig")))

    def run(self, name: str, *words: str, **environment: str) -> None:
        """Start one of its programs; its output goes to NAME.log."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                words, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.folder, start_new_session=True,
                env={**os.environ, **environment},
            )  # fmt: skip

    def own(self, name: str, *words: str) -> None:
        """Start a program of Kubernetes."""
        self.run(name, str(self.program), name, *words)

    def until(self, what: str, condition: Callable[[], Any], seconds: float = 120) -> Any:
        """Wait for something to be so, as long as all programs run."""
        last, told = time.monotonic() + seconds, ""
        while time.monotonic() < last:
            for name, process in self.processes.items():
                assert process.poll() is None, f"{name} ended: {(self.folder / f'{name}.log').read_text()[-2000:]}"
            try:
                if found := condition():
                    return found
            except Exception as error:  # it does not answer yet
                told = repr(error)[:500]
            time.sleep(0.05)
        raise AssertionError(f"not in {seconds} s: {what}: {told}")

    def ctr(self, *words: str) -> str:
        """Ask containerd."""
        done = subprocess.run(
            ["ctr", "-a", self.at("containerd.sock"), "-n", "k8s.io", *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self) -> None:
        """Start everything; return when the node takes pods."""
        make_groups(self.group)
        self.write_configuration()
        self.own("etcd", f"--data-dir={self.at('etcd')}", *etcd_urls(self.ports), "--unsafe-no-fsync", "--log-level=warn")
        proxies = {name: DEAD for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")}
        self.run("containerd", "containerd", "-c", self.at("containerd.toml"), **proxies, NO_PROXY="", no_proxy="")
        self.start_api()
        self.until("containerd answers", lambda: self.ctr("version"))
        pause = self.folder / "pause.tar"
        pause.write_bytes(sleeping_image(PAUSE))
        self.ctr("images", "import", str(pause))
        api = self.client()
        self.until("the API server is ready", lambda: api.api_client.rest_client.GET(f"{self.url}/readyz").status == 200)
        self.own("kube-controller-manager", f"--kubeconfig={self.at('controllers.kubeconfig')}", "--leader-elect=false",
                 "--secure-port=0", f"--root-ca-file={self.at('pki/ca.crt')}", "--allocate-node-cidrs=false",
                 f"--service-account-private-key-file={self.at('pki/sa.key')}", "--use-service-account-credentials=true",
                 "--controllers=" + ",".join(f"{name}-controller" for name in CONTROLLERS))  # fmt: skip
        self.own("kube-scheduler", f"--kubeconfig={self.at('scheduler.kubeconfig')}", "--leader-elect=false", "--secure-port=0")
        self.own("kubelet", f"--config={self.at('kubelet.json')}", f"--kubeconfig={self.at('node.kubeconfig')}",
                 f"--root-dir={self.at('kubelet')}", f"--cert-dir={self.at('kubelet-pki')}",
                 f"--hostname-override={NODE}")  # fmt: skip
        self.until("the node takes pods", lambda: is_ready(api.read_node(NODE)))

    def start_api(self) -> None:
        """Start the API server alone; once more, where it was killed."""
        at = self.at
        self.own(
            "kube-apiserver", f"--etcd-servers=http://127.0.0.1:{self.ports['etcd']}", "--bind-address=127.0.0.1",
            f"--secure-port={self.ports['api']}", "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none",
            f"--tls-cert-file={at('pki/apiserver.crt')}", f"--tls-private-key-file={at('pki/apiserver.key')}",
            f"--client-ca-file={at('pki/ca.crt')}", "--service-cluster-ip-range=10.96.0.0/24", "--profiling=false",
            "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
            "--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={at('pki/sa.pub')}",
            f"--service-account-signing-key-file={at('pki/sa.key')}", "--kubelet-preferred-address-types=InternalIP",
            f"--kubelet-client-certificate={at('pki/admin.crt')}", f"--kubelet-client-key={at('pki/admin.key')}",
            f"--kubelet-certificate-authority={at('pki/ca.crt')}",
        )  # fmt: skip

    def write_configuration(self) -> None:
        """Write what containerd and kubelet read."""
        (self.folder / "cni").mkdir()
        network = {"type": "ptp", "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.0.0/24"}]]}}
        # That there is a network makes the node Ready; it is used by no pod here.
        (self.folder / "cni/10.conflist").write_text(
            json.dumps({"cniVersion": "0.4.0", "name": "unused", "plugins": [network]})
        )
        (self.folder / "containerd.toml").write_text(CONTAINERD.replace("FOLDER", str(self.folder)).replace("PAUSE", PAUSE))
        nothing = {name: "0%" for name in ("memory.available", "nodefs.available", "nodefs.inodesFree", "imagefs.available")}
        (self.folder / "kubelet.json").write_text(json.dumps({
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "address": "127.0.0.1", "port": self.ports["kubelet"], "healthzPort": 0, "readOnlyPort": 0,
            "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True},
                               "x509": {"clientCAFile": self.at("pki/ca.crt")}},
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": self.at("pki/kubelet.crt"), "tlsPrivateKeyFile": self.at("pki/kubelet.key"),
            "containerRuntimeEndpoint": f"unix://{self.at('containerd.sock')}", "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self.group}", "cgroupsPerQOS": True, "enforceNodeAllocatable": [], "failSwapOn": False,
            "failCgroupV1": False, "makeIPTablesUtilChains": False, "podLogsDir": self.at("podlogs"),
            "volumePluginDir": self.at("volumes"), "imageGCHighThresholdPercent": 100, "imageGCLowThresholdPercent": 99,
            "evictionHard": nothing, "syncFrequency": "10s", "fileCheckFrequency": "1h", "nodeStatusUpdateFrequency": "5s",
            "serializeImagePulls": False,
        }))  # fmt: skip

    def stop(self) -> None:
        """End everything of it, containers included, and remove what it made outside its folder."""
        end(process for name, process in self.processes.items() if name != "containerd")
        for _ in range(50):
            left = [int(one) for file in groups(self.group, "cgroup.procs") for one in read(file).split()]
            for one in left:
                with suppress(ProcessLookupError):
                    os.kill(one, signal.SIGKILL)
            if not left:
                break
            time.sleep(0.1)
        end(process for name, process in self.processes.items() if name == "containerd")
        for one in shims(self.at("containerd.sock")):
            with suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for mount in sorted((one for one in mounts if one.startswith(f"{self.folder}/")), key=len, reverse=True):
            subprocess.run(["umount", "-l", mount], check=False, capture_output=True)
        for folder in sorted(groups(self.group, ""), key=lambda one: len(one.parts), reverse=True):
            with suppress(OSError):
                folder.rmdir()
        for link in Path("/var/log/containers").glob("*.log"):
            if str(link.readlink()).startswith(str(self.folder)):
                link.unlink()
        shutil.rmtree(self.folder, ignore_errors=True)


CONTAINERD = """version = 2
root = "FOLDER/containerd"
state = "FOLDER/containerd-state"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.tracing"]
[grpc]
  address = "FOLDER/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "FOLDER/containerd-opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "PAUSE"
  stream_server_address = "127.0.0.1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    conf_dir = "FOLDER/cni"
"""


def etcd_urls(ports: dict[str, int]) -> list[str]:
    """Return etcd's words for an own port for clients, and one for peers that it has not."""
    client, peer = (f"http://127.0.0.1:{ports[one]}" for one in ("etcd", "peer"))
    return [
        "--name=one", f"--listen-client-urls={client}", f"--advertise-client-urls={client}", f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=one={peer}",
    ]  # fmt: skip


def is_ready(node: Any) -> bool:
    """Whether a node takes pods."""
    ready = any(one.type == "Ready" and one.status == "True" for one in node.status.conditions)
    return ready and not node.spec.taints


def read(file: Path) -> str:
    """Return what a file holds, nothing where it is gone."""
    try:
        return file.read_text()
    except OSError:
        return ""


def groups(name: str, file: str) -> list[Path]:
    """Return this file of each control group below `name`; the groups themselves where it is empty."""
    tops = [one for one in Path("/sys/fs/cgroup").rglob(name)]
    return [found / file if file else found for top in tops for found in [top, *top.rglob("*")] if found.is_dir()]


def make_groups(name: str) -> None:
    """Make a root for the pods' control groups: a kubelet removes what it does not know below its own."""
    base = Path("/sys/fs/cgroup")
    if (base / "cgroup.controllers").exists():  # version 2
        (base / name).mkdir(exist_ok=True)
        wanted = " ".join(f"+{one}" for one in (base / "cgroup.controllers").read_text().split())
        for folder in (base, base / name):
            (folder / "cgroup.subtree_control").write_text(wanted)
        return
    for kind in (one for one in base.iterdir() if one.is_dir() and not one.is_symlink()):
        (kind / name).mkdir(exist_ok=True)
        for file in ("cpuset.mems", "cpuset.cpus"):
            if (kind / name / file).exists():
                (kind / name / file).write_text((kind / file).read_text())


def end(processes: Iterator[subprocess.Popen[bytes]]) -> None:
    """End programs: SIGTERM, 10 s, SIGKILL."""
    found = list(processes)
    for process in found:
        process.terminate()
    for process in found:
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def shims(socket: str) -> Iterator[int]:
    """Yield containerd's helpers of this socket; they outlive it."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        words = read(file).split("\0")
        if "containerd-shim" in words[0] and socket in words:
            yield int(file.parent.name)


def sleeping_image(name: str) -> bytes:
    """Return an image with busybox in it, that sleeps: what holds a pod together."""
    busybox = Path(shutil.which("busybox") or "/bin/busybox").read_bytes()
    layer = tar({"busybox": busybox})
    hashed = hashlib.sha256(layer).hexdigest()
    config = json.dumps({
        "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashed}"]},
        "config": {"Entrypoint": ["/busybox", "sleep", "2147483647"]},
    }).encode()  # fmt: skip
    manifest = json.dumps([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]).encode()
    return tar({"config.json": config, "layer.tar": layer, "manifest.json": manifest})


def tar(files: dict[str, bytes]) -> bytes:
    """Return an archive of programs."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            one = tarfile.TarInfo(name)
            one.mode, one.size = 0o755, len(data)
            archive.addfile(one, io.BytesIO(data))
    return out.getvalue()
