"""The certificates of a node: one authority, servers, clients, and the key that signs service accounts' tokens.

In:    a folder, openssl. Out: NAME.crt and NAME.key in it, sa.key and sa.pub. They live for a week.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

SERVERS = {
    "apiserver": "IP:127.0.0.1,IP:10.96.0.1,DNS:localhost,DNS:kubernetes.default.svc",
    "kubelet": "IP:127.0.0.1",
}
CLIENTS = {
    "admin": "/O=system:masters/CN=admin",
    "controllers": "/CN=system:kube-controller-manager",
    "scheduler": "/CN=system:kube-scheduler",
    "node": "/O=system:nodes/CN=system:node:127.0.0.1",
}


def make(folder: Path) -> None:
    """Write them all. Takes 0.2 s."""
    folder.mkdir(parents=True)

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    def key(name: str) -> None:
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.key")
        (folder / f"{name}.key").chmod(0o600)

    key("ca")
    openssl("req", "-x509", "-new", "-key", "ca.key", "-subj", "/CN=cluster", "-days", "7", "-out", "ca.crt",
            "-addext", "basicConstraints=critical,CA:TRUE",
            "-addext", "keyUsage=critical,keyCertSign,digitalSignature")  # fmt: skip

    def signed(name: str, subject: str, extensions: str) -> None:
        key(name)
        (folder / "extensions").write_text(extensions)
        openssl("req", "-new", "-key", f"{name}.key", "-subj", subject, "-out", "request")
        openssl("x509", "-req", "-in", "request", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "7",
                "-extfile", "extensions", "-out", f"{name}.crt")  # fmt: skip

    for name, names in SERVERS.items():
        signed(name, f"/CN={name}", f"extendedKeyUsage=serverAuth\nsubjectAltName={names}\n")
    for name, subject in CLIENTS.items():
        signed(name, subject, "extendedKeyUsage=clientAuth\n")
    openssl("genrsa", "-out", "sa.key", "2048")
    openssl("rsa", "-in", "sa.key", "-pubout", "-out", "sa.pub")
