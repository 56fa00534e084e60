#!/usr/bin/env bash
# Brings one ref of a git repository to FOLDER/current, switched in one rename, never edited in place.
#
# usage: dag-sync.sh REPOSITORY REF FOLDER
#
# FOLDER: repository.git (a bare mirror), rev-SHA (one checkout a version), current -> rev-SHA.
# Holds:  whatever fails (remote away, ref gone, disk full) leaves `current` as it was, and says so with status 75.
#         The last three versions stay: a DAG run that began with an older one still finds its files.
set -euo pipefail
repository=$1 ref=$2 folder=$3
bare=$folder/repository.git
work=

say() { printf 'dag-sync: %s\n' "$*" >&2; }
give_up() { say "cannot $1: $(readlink "$folder/current" 2>/dev/null || echo nothing) stays"; exit 75; }

fetch() {
    [ -d "$bare" ] || git init -q --bare "$bare" || give_up "make $bare"
    # A forced push is followed: the ref is what CI says it is.
    timeout 120 git --git-dir "$bare" fetch -q --no-tags --depth 1 "$repository" "+$ref:refs/heads/deployed" ||
        give_up "fetch $ref"
}

main() {
    mkdir -p "$folder"
    exec 9>"$folder/.lock"
    flock -n 9 || { say "another one is at it"; exit 0; }
    fetch
    local revision to
    revision=$(git --git-dir "$bare" rev-parse --verify -q 'refs/heads/deployed^{commit}') || give_up "read $ref"
    to=rev-$revision
    if [ "$(readlink "$folder/current" 2>/dev/null)" = "$to" ]; then say "$to is current"; return; fi
    if [ ! -d "$folder/$to" ]; then
        work=$(mktemp -d "$folder/.new.XXXXXX")
        trap 'rm -rf "$work"' EXIT # $work is no more where the switch was made
        git --git-dir "$bare" archive "$revision" | tar -x -C "$work" || give_up "unpack $revision"
        chmod 755 "$work"
        mv -T "$work" "$folder/$to"
    fi
    ln -sfn "$to" "$folder/.current.new" && mv -T "$folder/.current.new" "$folder/current" || give_up "switch to $to"
    say "$to is current"
    find "$folder" -maxdepth 1 -name 'rev-*' -not -name "$to" -printf '%T@ %p\n' | sort -rn | tail -n +3 | cut -d' ' -f2- |
        xargs -r rm -rf
}
main
