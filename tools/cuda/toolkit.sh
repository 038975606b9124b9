#!/bin/sh
# toolkit.sh FOLDER: a CUDA toolkit that can compile and link the plugin, made of NVIDIA's own wheels on PyPI, 105 MB of them. For machines without one;
# nothing outside of FOLDER is touched, and no GPU is needed. Prints the toolkit's root.
set -eu
folder=$1
root=$folder/nvidia/cu13
# Compiler, its optimiser, its internal headers, the runtime with the headers of half precision, and the C++ library of the device.
packages="nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85"
stamp=$folder/packages
if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$packages" ]; then
  rm -rf "$folder"
  mkdir -p "$folder"
  echo "cuda: fetching the compiler into $folder" >&2
  # shellcheck disable=SC2086
  python3 -m pip install --disable-pip-version-check --no-deps --only-binary :all: --target "$folder" $packages >&2
  ln -sfn lib "$root/lib64"
  echo "$packages" > "$stamp"
fi
echo "$root"
