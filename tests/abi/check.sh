#!/bin/sh
# What docs/abi.md promises, against the header of the first release (tests/abi/first): check.sh LIBRARY_FOLDER MODEL
#
# Before the first release first/inference.h is the header of today: where this fails by intent, `make abi-freeze`. Afterwards it is never changed.
set -eu
libraries=$(cd "$1" && pwd)
model=$(cd "$(dirname "$2")" && pwd)/$(basename "$2")
here=$(cd "$(dirname "$0")" && pwd)
first=$here/first
today=$here/../../include
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
CC=${CC:-cc}

fail() {
    echo "  ABI: $*"
    echo "  (docs/abi.md says what may change; before the first release \`make abi-freeze\` accepts it)"
    exit 1
}

# 1. Every function of then is declared with the same types now: a second declaration that differs does not compile.
awk '/^INF_API /, /;/' "$first/inference.h" >declarations
{ echo '#include "inference.h"'; cat declarations; } >again.c
$CC -std=c11 -Werror -fsyntax-only -I "$today" again.c || fail "a function changed"

# 2. Every number and every field of then has the same value and place now; structs may only have grown. What was reserved may have a name.
"$here/places.sh" "$first/inference.h" | grep -v -e '"INF_VERSION_' -e '^  size(' -e ', reserved' >places.c
for when in first today; do
    eval "include=\$$when"
    $CC -std=c11 -w -I "$include" places.c -o places && ./places >"$when.txt" || fail "a number, a struct or a field is gone"
done
[ "$(wc -l <first.txt)" -gt 150 ] || fail "the table of places lost its rows"
diff first.txt today.txt || fail "a number or a place changed"

# 3. A program that was compiled then runs now.
$CC -std=c11 -O1 -g -Wall -Wextra -Wpedantic -Werror -I "$first" "$here/old_program.c" -o old_program -L "$libraries" -linference \
    -Wl,-rpath,"$libraries" || fail "the old program does not link"
timeout 300 ./old_program "$model" || fail "the old program fails"

# 4. What abidiff sees: both headers as libraries of functions that do nothing.
stub() {
    { echo '#define INF_API __attribute__((visibility("default"), used))'; grep -v '^#  define INF_API' "$1/inference.h"; } >"$2.h"
    { echo "#include \"$2.h\""; awk '/^INF_API /, /;/' "$1/inference.h" | sed 's/);/) { ABORT }/'; } >"$2.c"
    $CC -std=c11 -g -w -shared -fPIC '-DABORT=__builtin_trap();' "$2.c" -o "$2.so"
}
if command -v abidiff >/dev/null; then
    stub "$first" first
    stub "$today" today
    status=0
    abidiff first.so today.so >report || status=$?
    # 4 alone: something was added, or a struct has grown.
    [ $((status & ~4)) = 0 ] || { cat report; fail "abidiff: $status"; }
    compared="abidiff finds nothing incompatible"
else
    compared="abidiff is not installed (Debian: abigail-tools): skipped"
fi
echo "  $(grep -c '^INF_API' declarations) functions, $(wc -l <first.txt) numbers and fields as in the first release; its program runs; $compared"
