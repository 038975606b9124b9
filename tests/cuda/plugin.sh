#!/bin/sh
# plugin.sh BUILD MODEL [KERNELS]: the plugin for GPUs, on a machine without one: what it exports, what it needs, and what it says where there is no driver, or one
# that cannot be used. Each time the model on the CPU beside it generates the same tokens: tests/c/device.c.
set -eu
build=$1 model=$2 kernels=${3:-scalar}
plugin=$build/libinference_cuda.so
[ -f "$plugin" ] || { echo "  the plugin for GPUs is not built (make cuda): skipped its tests"; exit 0; }

fail() {
    echo "  $*"
    exit 1
}

exports=$(nm -D --defined-only "$plugin" | awk '{ print $3 }')
[ "$exports" = inf_plugin_open ] || fail "$plugin exports $exports"
# The system's own libraries, and nothing of NVIDIA's.
for needed in $(readelf -d "$plugin" "$build"/libinference.so.0 | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'); do
    case $needed in
    libc.so.* | libm.so.* | libgcc_s.so.* | libdl.so.* | libpthread.so.* | librt.so.* | ld-linux*) ;;
    *) fail "something needs $needed" ;;
    esac
done
readelf -d "$plugin" | grep -q NODELETE || fail "$plugin can be unloaded"
size=$(wc -c <"$plugin")
[ "$size" -le 60000000 ] || fail "$plugin has $size bytes"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# What the device says with the driver $1 (- = none).
says() {
    if [ "$1" = - ]; then
        ! ldconfig -p 2>/dev/null | grep -q libcuda.so.1 || { echo "  this machine has a driver: skipped what is said without"; return; }
    else
        ${CC:-cc} -shared -fPIC -Wall -Wextra -Werror -D"$1" -Wl,-soname,libcuda.so.1 -o "$work/libcuda.so.1" tests/cuda/driver.c
    fi
    LD_LIBRARY_PATH=$work "$build/tests/device" "$model" "$kernels" "$plugin" "$2" || fail "driver $1: expected $2"
}

says - "no driver: libcuda.so.1"
says EMPTY "the driver is too old: it has CUDA an unknown version"
says OLD "the driver is too old: it has CUDA 12.2"
says NONE "the driver has no GPU"
says BROKEN "its context cannot be made"
echo "  $plugin, $((size / 1000000)) MB: one export, no library of NVIDIA's; no driver, an empty, an old, a broken one, and one without a GPU each have their reason"
