#!/bin/sh
# Stands in front of nvcc while candle's kernels are built. They are compiled for one architecture, uncompressed; this compiles them for each of
# $CUDA_ARCHS ("80 90 120"), compressed, with PTX of the last one for GPUs of the future. What is kept as PTX text is compiled for the first, which the
# driver of every later GPU can translate. $REAL_NVCC is the compiler.
set -eu
is_compile=
is_ptx=
n=$#
while [ "$n" -gt 0 ]; do
  argument=$1
  shift
  n=$((n - 1))
  case $argument in
    -gencode=*) continue ;;
    -c) is_compile=1 ;;
    --ptx) is_ptx=1 ;;
  esac
  set -- "$@" "$argument"
done
first=${CUDA_ARCHS%% *}
last=${CUDA_ARCHS##* }
if [ -n "$is_ptx" ]; then
  set -- "-arch=compute_$first" "$@"
elif [ -n "$is_compile" ]; then
  set -- --compress-mode=size "-gencode=arch=compute_$last,code=compute_$last" "$@"
  for arch in $CUDA_ARCHS; do set -- "-gencode=arch=compute_$arch,code=sm_$arch" "$@"; done
fi
for argument in "$@"; do case $argument in *.cu) echo "cuda: compiling ${argument##*/}" >&2 ;; esac; done
exec "$REAL_NVCC" "$@"
