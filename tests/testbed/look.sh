#!/usr/bin/env bash
# Looks at a page of `sankofa status --html` with a real browser: no width scrolls it sideways, and pictures of it
# at 1280 and 390 px, the narrow one in colour and in grey.
#
# usage: tests/testbed/look.sh PAGE.html [FOLDER]        (`make look PAGE=...`; pictures go to target/look)
#
# Needs: Chromium. Root gets it from apt (1 to 2 min, 400 MB), which is why CI does not wait for it: there the tests
#        read the page's structure and count its contrasts.
set -euo pipefail
page=${1:?usage: tests/testbed/look.sh PAGE.html [FOLDER]}
out=${2:-target/look}
die() { printf 'look: cannot %s\n' "$*" >&2; exit 1; }
[ -s "$page" ] || die "read $page"
if ! command -v chromium >/dev/null; then
    [ "$(id -u)" = 0 ] || die 'find chromium: install the package, or run this as root'
    apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends chromium >/dev/null
fi
work=$(mktemp -d)
trap 'kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT
cp "$page" "$work/page.html"
# A frame has any width, where a window of the browser has a least one.
frame() { # WIDTH HEIGHT STYLE
    cat <<HTML
<!doctype html><body style="margin:0"><iframe id="f" src="page.html" style="border:0;width:$1px;height:$2px;$3"></iframe>
<pre id="o"></pre><script>f.onload = () => { o.textContent = 'wide=' + f.contentDocument.documentElement.scrollWidth }</script>
HTML
}
python3 -u -m http.server 0 --bind 127.0.0.1 --directory "$work" >"$work/log" 2>&1 &
server=$!
for _ in $(seq 50); do grep -q 'port [0-9]' "$work/log" && break; sleep 0.1; done
url=http://127.0.0.1:$(sed -n 's/.* port \([0-9]*\).*/\1/p' "$work/log" | head -1)/frame.html
browse() {
    timeout 60 chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars \
        --user-data-dir="$work/profile" "$@" "$url" 2>/dev/null
}
for width in 320 390 768 1280; do
    frame "$width" 2000 '' >"$work/frame.html"
    wide=$(browse --dump-dom | sed -n 's/.*id="o">wide=\([0-9]*\).*/\1/p')
    [ "$wide" = "$width" ] || die "fit the page into $width px: it is ${wide:-unknown} wide"
done
mkdir -p "$out"
out=$(cd "$out" && pwd)
picture() { frame "$2" "$3" "$4" >"$work/frame.html"; browse --window-size="$2,$3" --screenshot="$out/$1.png" >/dev/null; }
picture wide 1280 2600 ''
picture phone 500 3800 'width:390px'
picture grey 500 3800 'width:390px;filter:grayscale(1)'
printf 'look: no width scrolls it sideways; pictures are in %s\n' "$out"
