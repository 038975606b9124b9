#!/bin/sh
# Does what the pages of docs/ say, as a reader with nothing but an installed copy: pages.sh
#
# In a page, a block "```sh build" is run in the source tree, "```LANGUAGE FILE" is written to a file, "```sh" is run; the last thing run must speak.
# A page begins with what it needs: <!-- needs: cc pkg-config -->
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
home=$work/home
mkdir "$home"
paths=$(for tool in cc go python3 mcs make; do command -v $tool || true; done | xargs -n1 dirname | sort -u | tr '\n' ':')/usr/bin:/bin
spoke=""

# The blocks of a page whose fence is $2, to standard output.
block() {
    awk -v fence="\`\`\`$2" '$0 == fence { on = 1; next } /^```/ { on = 0 } on' "$1"
}

# Runs a script in a folder, with a home of its own and nothing else of this shell.
reader() {
    (cd "$1" && env -i HOME="$home" PATH="$paths" LANG=C.UTF-8 ${GOCACHE:+GOCACHE="$GOCACHE"} GOFLAGS=-buildvcs=false sh -eu "$2" >"$work/out" 2>"$work/log") ||
        { echo "docs/$name.md failed:"; cat "$work/out" "$work/log"; exit 1; }
}

if command -v go >/dev/null; then GOCACHE=$(go env GOCACHE); fi
for page in c cpp go python csharp godot; do
    name=$page page=$here/docs/$page.md
    missing=""
    for tool in $(sed -n '1s/<!-- needs: \(.*\) -->/\1/p' "$page"); do
        command -v "$tool" >/dev/null || missing="$missing $tool"
    done
    [ -z "$missing" ] || { echo "  docs/$name.md needs$missing: skipped"; continue; }
    mkdir "$work/$name"
    block "$page" "sh build" >"$work/build"
    # All pages begin alike, so it is done once.
    [ -d "$home/.local" ] || reader "$here" "$work/build"
    cmp -s "$work/build" "${first:=$work/build.first}" 2>/dev/null || [ ! -e "$first" ] || { echo "docs/$name.md begins unlike the others"; exit 1; }
    cp "$work/build" "$first"
    sed -n 's/^```[a-z]* \([A-Za-z.]*\.[A-Za-z]*\)$/\1/p' "$page" | while read -r file; do
        block "$page" "$(grep "^\`\`\`[a-z]* $file\$" "$page" | sed 's/^```//')" >"$work/$name/$file"
    done
    block "$page" sh >"$work/script"
    reader "$work/$name" "$work/script"
    grep -q '[a-z]' "$work/out" || { echo "docs/$name.md said nothing"; exit 1; }
    spoke="$spoke $name"
done
echo "  these pages of docs/ work as written:$spoke"
