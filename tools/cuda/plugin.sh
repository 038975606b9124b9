#!/bin/sh
# plugin.sh OUTPUT: builds the plugin for NVIDIA's GPUs, on any x86-64 Linux, with a GPU or without. `make cuda` calls it.
#
#   CUDA_ARCHS="80 90"   the GPUs to compile for (default: 80 90 100 120; one is a quick build)
#   CUDA_HOME, NVCC      a toolkit; without one, and without nvcc on the path, the compiler is fetched from PyPI
set -eu
cd "$(dirname "$0")/../.."
output=$1
OUT=build/cuda
mkdir -p "$OUT"
# shellcheck source=tools/cuda/environment.sh
. tools/cuda/environment.sh
echo "cuda: version $version, for $CUDA_ARCHS"

target=$OUT/target
cargo rustc --locked --lib --crate-type staticlib --profile plugin --features cuda --target-dir "$target"

cudarc=$(cargo metadata --locked --format-version 1 --features cuda --filter-platform x86_64-unknown-linux-gnu |
  python3 -c 'import json, os, sys; print(next(os.path.dirname(p["manifest_path"]) for p in json.load(sys.stdin)["packages"] if p["name"] == "cudarc"))')
python3 tools/cuda/stand_in.py "$cudarc" "$OUT"
: "${CC:=cc}"
major=${version%%.*}
$CC -O2 -fPIC -Wall -Wextra -Werror -DCUDA_MAJOR="\"$major\"" -I"$OUT" -c tools/cuda/stand_in.c -o "$OUT/stand_in.o"
$CC -c "$OUT/symbols.S" -o "$OUT/symbols.o"

libraries=$CUDA_HOME/lib64
[ -f "$libraries/libcudart_static.a" ] || libraries=$CUDA_HOME/lib
# Candle's compiled kernels, which rustc leaves to whoever links.
kernels=$(ls -t "$target"/plugin/build/candle-kernels-*/out/libmoe.a | head -1)
# Only what is reached from the one symbol: no engine, no parsers.
$CC -shared -o "$OUT/plugin.so" -Wl,-soname,libinference_cuda.so,-z,nodelete,-z,relro,-z,now,-z,defs,--gc-sections,--strip-debug \
  -Wl,--version-script=tools/cuda/plugin.map -Wl,-u,inf_plugin_open "$target/plugin/libinference.a" "$kernels" "$OUT/stand_in.o" "$OUT/symbols.o" \
  "$libraries/libcudart_static.a" "$($CC -print-file-name=libstdc++.a)" -lgcc_s -lpthread -ldl -lrt -lm
strip --strip-unneeded "$OUT/plugin.so"
sources=$(sed -n 's/^cargo::rustc-env=INFERENCE_SOURCES=//p' "$(ls -t "$target"/plugin/build/inference-*/output | head -1)")
release=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
python3 tools/cuda/seal.py "$OUT/plugin.so" "$release-$sources"
mkdir -p "$(dirname "$output")"
mv "$OUT/plugin.so" "$output"
echo "cuda: $output, $(($(wc -c < "$output") / 1000000)) MB"
