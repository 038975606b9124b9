#!/bin/sh
# Every function of inference.h is called by the C tests, and every wrapper knows every function and number, or says here why not.
set -eu
cd "$(dirname "$0")/.."
gaps=0

gap() {
    echo "  $*"
    gaps=$((gaps + 1))
}

# Where the second argument, a word, is not in the files that follow: a gap that the first argument describes.
need() {
    what=$1 word=$2
    shift 2
    grep -qw -- "$word" "$@" || gap "$word: $what"
}

functions=$(sed -n 's/^INF_API .*[ *]\(inf_[a-z0-9_]*\)(.*/\1/p' include/inference.h)
numbers=$(grep -o '^#define INF_\(ERR\|EV\|FINISH\|CONSTRAINT\)_[A-Z_]*' include/inference.h | cut -d' ' -f2)

# C++: programs compare these themselves.
skip_cpp="inf_abi_version inf_version inf_build_info_json"
# Go: inf_load_start and inf_model_load take sources with callbacks; Load covers paths. A second owner is a second pointer.
skip_go="inf_abi_version inf_load_start inf_model_load inf_model_ref"
# Python and C#: as Go.
skip_python=$skip_go
skip_csharp=$skip_go

for function in $functions; do
    grep -q "\\<$function(" tests/c/*.c tests/c/check.h || gap "$function: not called in tests/c"
    case " $skip_cpp " in *" $function "*) ;; *) need "not in inference.hpp" "$function" include/inference.hpp ;; esac
    case " $skip_go " in *" $function "*) ;; *) need "not in bindings/go" "$function" bindings/go/*.go bindings/go/bridge.h ;; esac
    case " $skip_csharp " in *" $function "*) ;; *) need "not in bindings/csharp" "$function" bindings/csharp/Native.cs ;; esac
    # Python has names without inf_, and those that free by their kind alone.
    name=${function#inf_}
    case " $skip_python " in *" $function "*) ;; *) need "$function: not in inference.py" "${name%_free}" bindings/python/inference.py ;; esac
done
for number in $numbers; do
    need "not in inference.hpp" "$number" include/inference.hpp
    need "not in bindings/go" "$number" bindings/go/*.go
done

# Statuses that nothing in this build may make, by their names in src, and so need no test.
# DeviceLost: no device but the CPU; how candle's words for it are read is tested beside src/backend/candle/error.rs, how errors cross in src/backend/plugin. Constraint, DeadEnd: no grammars
# yet. Poisoned: no failure leaves a session half changed.
unmade="DeviceLost Constraint DeadEnd Poisoned"
untested=""
for status in $(echo "$numbers" | grep '^INF_ERR_'); do
    # Expected by a check that ends the test if it is another.
    ! grep -qE "(STATUS\($status\>|== $status\>)" tests/c/*.c || continue
    kind=$(echo "${status#INF_ERR_}" | tr '[:upper:]' '[:lower:]' | awk -F_ '{ for (i = 1; i <= NF; i++) printf "%s%s", toupper(substr($i, 1, 1)), substr($i, 2) }')
    made=$(grep -rlw -e "fail!($kind" -e "ErrorKind::$kind" src | grep -v -e '^src/error.rs$' -e '^src/ffi/status.rs$' -e '^src/backend/candle/error.rs$' -e '^src/backend/plugin/table.rs$' || true)
    case " $unmade " in
    *" $kind "*) [ -z "$made" ] || gap "$status: no test in tests/c expects it, but it is made by" $made ;;
    *) gap "$status: no test in tests/c expects it" ;;
    esac
    untested="$untested $kind"
done

[ $gaps = 0 ] || { echo "  $gaps gaps"; exit 1; }
echo "  $(echo "$functions" | wc -l) functions: called from C, known to C++, Go, Python and C#; $(echo "$numbers" | grep -c '^INF_ERR_') statuses: expected from C, or made by nothing:$untested"
