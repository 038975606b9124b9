# Sourced by `plugin.sh`: where CUDA's compiler is, and what the build scripts of candle and cudarc want to know. From NVCC, CUDA_HOME, the path, or
# fetched; CUDA_ARCHS are the GPUs to compile for.
# shellcheck shell=sh

: "${CUDA_ARCHS:=80 90 100 120}"
if [ -n "${NVCC:-}" ]; then
  REAL_NVCC=$NVCC
elif [ -n "${CUDA_HOME:-}" ]; then
  REAL_NVCC=$CUDA_HOME/bin/nvcc
elif command -v nvcc >/dev/null; then
  REAL_NVCC=$(command -v nvcc)
else
  REAL_NVCC=$(tools/cuda/toolkit.sh "$OUT/toolkit")/bin/nvcc
fi
case $REAL_NVCC in /*) ;; *) REAL_NVCC=$PWD/$REAL_NVCC ;; esac
version=$("$REAL_NVCC" --version | sed -n 's/.*release \([0-9.]*\),.*/\1/p')
case $version in
  12.9 | 13.*) ;;
  *) echo "cuda: $REAL_NVCC is version ${version:-unknown}: 12.9 or 13.0 is needed" >&2; exit 1 ;;
esac
# As nvcc sees it: a link, or one without its folders, is no root.
CUDA_HOME=$(dirname "$(dirname "$REAL_NVCC")")
NVCC=$PWD/tools/cuda/nvcc.sh
CUDARC_CUDA_VERSION=$(echo "$version" | sed 's/\([0-9]*\)\.\([0-9]*\)/\10\20/')
CUDA_COMPUTE_CAP=${CUDA_ARCHS%% *}
: "${CUDAFORGE_THREADS:=$(getconf _NPROCESSORS_ONLN)}"
export CUDA_ARCHS REAL_NVCC NVCC CUDA_HOME CUDARC_CUDA_VERSION CUDA_COMPUTE_CAP CUDAFORGE_THREADS
