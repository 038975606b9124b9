#!/bin/sh
# Writes a C program that prints every number and every struct of a header: places.sh inference.h
set -eu
cat <<'C'
#include "inference.h"
#include <stdio.h>
#define number(name, value) printf("%s %lld\n", name, (long long)(value))
#define place(type, field) printf(#type "." #field " at %zu, %zu bytes\n", offsetof(type, field), sizeof(((type *)0)->field))
#define size(type) printf(#type " %zu\n", sizeof(type))
int main(void) {
C
sed -n 's/^#define \(INF_[A-Z0-9_]*\) *(\{0,1\}-\{0,1\}[0-9(].*/  number("\1", \1);/p' "$1"
awk '/^typedef struct [a-z_]+ \{$/ { name = $3 }
    /^}/ && name != "" { print "  size(" name ");"; name = "" }
    name != "" && /^  [^ ].*;/ { sub(/;.*/, ""); sub(/\[.*/, ""); n = split($0, word, /[ *]/); print "  place(" name ", " word[n] ");" }' "$1"
echo '  return 0; }'
