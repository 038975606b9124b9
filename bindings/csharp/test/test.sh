#!/bin/sh
# Builds the C# binding and its tests with Mono, and runs them: test.sh LIBRARY_FOLDER MODEL
set -eu
libraries=$(cd "$1" && pwd)
model=$(cd "$(dirname "$2")" && pwd)/$(basename "$2")
here=$(cd "$(dirname "$0")/.." && pwd)
header=$here/../../include/inference.h
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Unity takes C# up to 7.3. 0649: structs are filled by the library.
mcs -langversion:7.2 -warnaserror+ -warn:4 -nowarn:0649 -out:"$work/test.exe" "$here"/*.cs "$here"/Unity/*.cs "$here"/test/*.cs
run() { LD_LIBRARY_PATH="$libraries" mono "$work/test.exe" "$@"; }

# Every function of the binding has the header's types: pointers for pointers, the same numbers for numbers.
run signatures | sort >"$work/ours"
awk '/^INF_API /, /;/' "$header" | tr '\n' ' ' | tr ';' '\n' | awk '
    function kind(type) {
        if (type ~ /\*/) return "pointer"
        if (type ~ /size_t/) return "size"
        if (type ~ /uint64_t/) return "u64"
        if (type ~ /uint32_t|inf_status/) return "u32"
        if (type ~ /int32_t|inf_token/) return "i32"
        return type ~ /float/ ? "f32" : "void"
    }
    /INF_API/ {
        sub(/^ *INF_API /, ""); open = index($0, "("); head = substr($0, 1, open - 1); rest = substr($0, open + 1); sub(/\).*/, "", rest)
        match(head, /inf_[a-z0-9_]*$/); line = substr(head, RSTART) " " kind(substr(head, 1, RSTART - 1))
        n = rest == "void" ? 0 : split(rest, parameter, ","); for (i = 1; i <= n; i++) line = line " " kind(parameter[i]); print line
    }' | sort >"$work/theirs"
wrong=$(comm -23 "$work/ours" "$work/theirs")
[ -z "$wrong" ] || { echo "  C#: not as in the header: $wrong"; exit 1; }

# Every struct and status, too, as a C compiler sees them. What was reserved may have a name by now.
"$here/../../tests/abi/places.sh" "$header" >"$work/places.c"
${CC:-cc} -std=c11 -w -I "$here/../../include" "$work/places.c" -o "$work/places"
"$work/places" | sed 's/, .*//' | sort >"$work/theirs"
run places | grep -v reserved | sort >"$work/ours"
wrong=$(grep -v '^inf_[a-z_]* [0-9]*$' "$work/ours" | comm -23 - "$work/theirs")
[ -z "$wrong" ] || { echo "  C#: not as in the header: $wrong"; exit 1; }
missing=$(grep -e '^INF_ERR_' "$work/theirs" | comm -23 - "$work/ours")
[ -z "$missing" ] || { echo "  C#: in the header alone: $missing"; exit 1; }
# A struct may be shorter than today's, as that of any older program: what it lacks is told.
younger=$(grep -e '^inf_' "$work/theirs" | grep -v -e '^inf_error\.' -e reserved -e '^inf_[a-z_]* [0-9]*$' | comm -23 - "$work/ours")
[ -z "$younger" ] || echo "  C# does not know yet:" $younger

run "$model"
echo "  C#: $(grep -c DllImport "$here/Native.cs") functions, $(grep -c '^inf_' "$work/ours") places as in the header; sessions, chats and a Unity scene work under Mono"
