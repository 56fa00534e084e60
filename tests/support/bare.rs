//! A file system with an ordinary system's programs and a few tools, and nothing of this project.
//!
//! In:    folders of tools; a script and its environment.
//! Out:   what the script did there, by `bash -euo pipefail` in `/home/me`.
//! Holds: the checkout and the test bed cannot be reached by any path; it is gone when it is dropped.
//!        Mounting takes root: elsewhere there is none, loudly, and in CI that is a failure.

use super::bed;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Puts the system's folders and the tools under `$1`, in a mount namespace that ends with the script.
const ENTER: &str = r#"
root=$1 checkout=$2; shift 2
mount -t tmpfs tmpfs "$root/sys"
cd "$root/sys"
mkdir -p usr etc dev proc tmp home/me opt && chmod 1777 tmp
for folder in bin sbin lib lib64; do
    if [ -L /$folder ]; then cp -P /$folder .; elif [ -d /$folder ]; then mkdir $folder && mount --rbind /$folder $folder; fi
done
for folder in usr etc dev proc; do mount --rbind /$folder $folder; done
mount --bind "$root/home" home/me
while [ "$1" != -- ]; do mkdir -p ".$1" && mount --bind "$2" ".$1"; shift 2; done
shift
[ ! -e ".$checkout/Cargo.toml" ]
exec chroot . /usr/bin/env -i --chdir=/home/me HOME=/home/me LC_ALL=C.UTF-8 "$@" bash -euo pipefail page.sh
"#;

/// Such a file system.
pub struct Bare {
    folder: tempfile::TempDir,
    tools: Vec<(String, PathBuf)>,
    path: String,
}

impl Bare {
    /// An empty one; `None` where this user may not mount.
    pub fn new() -> Option<Bare> {
        let may = Command::new("unshare").args(["--mount", "true"]).stderr(Stdio::null()).status();
        if !may.is_ok_and(|status| status.success()) {
            assert!(!bed::is_ci(), "a bare file system needs root");
            eprintln!("\n!!! NOT TESTED: a bare file system (this user may not mount)\n");
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["sys", "home"] {
            std::fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        Some(Bare { folder, tools: Vec::new(), path: "PATH=/usr/local/bin".to_owned() })
    }

    /// The folder `from` is seen as `/opt/<name>`, and its folder `programs` is on PATH.
    #[must_use]
    pub fn tool(mut self, name: &str, from: &Path, programs: &str) -> Bare {
        self.tools.push((format!("/opt/{name}"), from.to_owned()));
        self.path.push_str(&format!(":/opt/{name}/{programs}"));
        self
    }

    /// The home folder, to put files into and to look at.
    pub fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// Runs `script`; `typed` is what a person types at its prompts.
    pub fn run(&self, script: &str, env: &[(&str, &str)], typed: &str) -> Output {
        std::fs::write(self.home().join("page.sh"), script).expect("writing the script");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "bash", "-euc", ENTER, "enter"]);
        command.arg(self.folder.path()).arg(env!("CARGO_MANIFEST_DIR"));
        for (at, from) in &self.tools {
            command.arg(at).arg(from);
        }
        command
            .arg("--")
            .arg(format!("{}:/usr/bin:/bin", self.path))
            .args(env.iter().map(|(name, value)| format!("{name}={value}")));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("entering a bare file system");
        use std::io::Write;
        child.stdin.take().expect("its input").write_all(typed.as_bytes()).expect("typing");
        child.wait_with_output().expect("what it did")
    }
}
