#!/bin/sh
# Builds and runs the programs in README.md as a reader would, with an installed libinference: readme.sh PREFIX MODEL
set -eu
prefix=$1 model=$2
here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/models" "$work/go"
ln -s "$model" "$work/models/demo.gguf"
cd "$work"

# The first block of a language.
block() {
    awk -v fence="\`\`\`$1" '$0 == fence && !seen { on = seen = 1; next } /^```/ { on = 0 } on' "$here/README.md"
}

# What the program says, which must be something.
speaks() {
    name=$1
    shift
    "$@" >out || { echo "README's $name program failed"; exit 1; }
    grep -q '[a-z]' out || { echo "README's $name program said nothing"; exit 1; }
    programs="$programs $name"
}

programs=""
flags="-I$prefix/include -L$prefix/lib -linference -Wl,-rpath,$prefix/lib"
block c >app.c
block cpp >app.cpp
block python >app.py
# shellcheck disable=SC2086
${CC:-cc} app.c -o app-c $flags
speaks C ./app-c
# shellcheck disable=SC2086
${CXX:-c++} -std=c++17 app.cpp -o app-cpp $flags
speaks C++ ./app-cpp

if command -v python3 >/dev/null; then
    lib=$(find "$prefix/lib" -maxdepth 1 -name 'libinference.*.*' | head -1)
    speaks Python env INF_LIBRARY="$lib" PYTHONPATH="$here/bindings/python" PYTHONDONTWRITEBYTECODE=1 python3 app.py
else
    echo "  python3 is not installed: skipped README's Python"
fi

if command -v go >/dev/null && command -v pkg-config >/dev/null; then
    block go >go/main.go
    (
        cd go
        go mod init app 2>/dev/null
        go mod edit -require libinference/inference@v0.0.0 -replace "libinference/inference=$here/bindings/go"
        PKG_CONFIG_PATH="$prefix/lib/pkgconfig" CGO_LDFLAGS="-Wl,-rpath,$prefix/lib" go build -buildvcs=false -o ../app-go .
    )
    speaks Go ./app-go
else
    echo "  go or pkg-config is not installed: skipped README's Go"
fi
echo "  these programs of README.md speak:$programs"
