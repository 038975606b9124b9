#!/bin/sh
# Every function of inference.h is called by the C tests, and every wrapper knows every function and number, or says here why not.
set -eu
cd "$(dirname "$0")/.."
gaps=0

gap() {
    echo "  $1"
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
# Python: as Go.
skip_python="inf_abi_version inf_load_start inf_model_load inf_model_ref"

for function in $functions; do
    grep -q "\\<$function(" tests/c/*.c tests/c/check.h || gap "$function: not called in tests/c"
    case " $skip_cpp " in *" $function "*) ;; *) need "not in inference.hpp" "$function" include/inference.hpp ;; esac
    case " $skip_go " in *" $function "*) ;; *) need "not in bindings/go" "$function" bindings/go/*.go bindings/go/bridge.h ;; esac
    # Python has names without inf_, and those that free by their kind alone.
    name=${function#inf_}
    case " $skip_python " in *" $function "*) ;; *) need "$function: not in inference.py" "${name%_free}" bindings/python/inference.py ;; esac
done
for number in $numbers; do
    need "not in inference.hpp" "$number" include/inference.hpp
    need "not in bindings/go" "$number" bindings/go/*.go
done

# Statuses that no C test provokes: told, not failed, as some need a device or a feature that this build does not have.
untested=""
for status in $(echo "$numbers" | grep '^INF_ERR_'); do
    grep -qw "$status" tests/c/*.c || untested="$untested $status"
done
[ -z "$untested" ] || echo "  statuses without a C test:$untested"

[ $gaps = 0 ] || { echo "  $gaps gaps"; exit 1; }
echo "  $(echo "$functions" | wc -l) functions: called from C, known to C++, Go and Python"
