#!/bin/sh
# Uses an installed libinference as a stranger would: installed.sh PREFIX MODEL
set -eu
prefix=$1 model=$2
here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

if command -v pkg-config >/dev/null; then
    export PKG_CONFIG_PATH="$prefix/lib/pkgconfig"
    shared=$(pkg-config --cflags --libs inference)
    static="$(pkg-config --cflags inference) '$prefix/lib/libinference.a' $(pkg-config --libs --static inference | sed 's/-linference//')"
else
    echo "  pkg-config is not installed: its file is read by sed"
    libs=$(sed -n 's/^Libs.private: //p' "$prefix/lib/pkgconfig/inference.pc")
    shared="-I'$prefix/include' -L'$prefix/lib' -linference"
    static="-I'$prefix/include' '$prefix/lib/libinference.a' $libs"
fi
# The prefix may have spaces, which the flags quote for a shell.
eval "${CC:-cc} '$here/examples-c/hello.c' -o shared $shared -Wl,-rpath,'$prefix/lib'"
eval "${CC:-cc} -DINF_STATIC '$here/examples-c/hello.c' -o static $static"
programs="shared static"
if command -v cmake >/dev/null; then
    cmake -S "$here/examples-cpp" -B cmake -DCMAKE_PREFIX_PATH="$prefix" >cmake.log 2>&1 || { cat cmake.log; exit 1; }
    cmake --build cmake >cmake.log 2>&1 || { cat cmake.log; exit 1; }
    programs="$programs cmake/hello cmake/hello-static"
else
    echo "  cmake is not installed: skipped its package"
fi
for program in $programs; do
    ./$program "$model" >out
    grep -q '[a-z]' out || { echo "installed $program: said nothing"; exit 1; }
done
echo "  installed in a prefix, these speak: $programs"
