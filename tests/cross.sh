#!/bin/sh
# The library on other platforms, as far as this one can tell: cross.sh [windows] [aarch64] [macos]; all of them without an argument.
#
# Windows: built with MinGW, its C tests and hello run under Wine. aarch64: the same under QEMU, and the tests of the kernels. macOS: type-checked for both processors.
# Every target builds all dependencies anew, with debug assertions; nothing is optimised much, as building takes longest. What is missing is installed with apt where that is
# allowed, or skipped.
set -eu
cd "$(dirname "$0")/.."
model=$PWD/models/demo.gguf
# gemm-f16 has assembly that only inlining brings into functions with the right features.
profile="--config 'profile.dev.package.\"*\".opt-level=0' --config profile.dev.package.gemm-f16.opt-level=3 --config profile.dev.opt-level=1 --config profile.dev.debug=0"
report=""

# True if the tool $1 of Debian's packages $2 is there, or can be.
have() {
    command -v "$1" >/dev/null && return
    # shellcheck disable=SC2086
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $2; } >/dev/null 2>&1 || true
    fi
    command -v "$1" >/dev/null || { echo "  $1 is not installed (Debian: $2): skipped"; return 1; }
}

have_target() {
    rustup target add "$1" >/dev/null 2>&1 || { echo "  rustup cannot add $1: skipped"; return 1; }
}

# Builds for the triple $1 with the compiler $2, and runs the C tests and hello with $3.
build_and_run() {
    triple=$1 compiler=$2 runner=$3
    make --no-print-directory test-c "TARGET=$triple" PROFILE=debug "CC=$compiler" "RUN=$runner" "CARGO_FLAGS=$profile" CARGO="${CARGO:-cargo}"
    make --no-print-directory test-hello "TARGET=$triple" PROFILE=debug "CC=$compiler" "RUN=$runner" "CARGO_FLAGS=$profile"
    report="$report $triple (C tests, hello)"
}

windows() {
    have_target x86_64-pc-windows-gnu && have x86_64-w64-mingw32-gcc gcc-mingw-w64-x86-64 || return 0
    have wine "wine wine64" || return 0
    # A DLL is looked for on PATH.
    WINEPATH=$(winepath_of build/x86_64-pc-windows-gnu) WINEPREFIX=$PWD/build/wine WINEDEBUG=-all
    export WINEPATH WINEPREFIX WINEDEBUG
    mkdir -p "$WINEPREFIX" build/x86_64-pc-windows-gnu
    x86_64-w64-mingw32-gcc -shared -o build/x86_64-pc-windows-gnu/bcryptprimitives.dll tests/wine_random.c -ladvapi32
    wine cmd /c exit >/dev/null 2>&1 || { echo "  wine does not start: skipped"; return 0; }
    build_and_run x86_64-pc-windows-gnu x86_64-w64-mingw32-gcc wine
    installs x86_64-pc-windows-gnu x86_64-w64-mingw32-gcc
}

# A folder here, as Windows calls it.
winepath_of() {
    mkdir -p "$1"
    echo "Z:$(cd "$1" && pwd)" | tr / '\\'
}

# The layout that MinGW expects: the DLL in bin, its import library in lib; a program links with what pkg-config says.
installs() {
    prefix="$PWD/build/$1/a prefix"
    make --no-print-directory install "TARGET=$1" PROFILE=debug "CARGO_FLAGS=$profile" "PREFIX=$prefix" >/dev/null
    eval "$2 examples-c/hello.c -o build/$1/installed.exe $(PKG_CONFIG_PATH="$prefix/lib/pkgconfig" pkg-config --cflags --libs inference)"
    cp "build/$1/bcryptprimitives.dll" "$prefix/bin/"
    WINEPATH=$(winepath_of "$prefix/bin") wine "build/$1/installed.exe" "$model" | grep -q '[a-z]'
    report="$report, installed"
}

aarch64() {
    have_target aarch64-unknown-linux-gnu && have aarch64-linux-gnu-gcc "gcc-aarch64-linux-gnu libc6-dev-arm64-cross" && have qemu-aarch64 qemu-user || return 0
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER
    build_and_run aarch64-unknown-linux-gnu aarch64-linux-gnu-gcc "qemu-aarch64 -L /usr/aarch64-linux-gnu"
    sets_of max neon-i8mm neon-dotprod scalar
    sets_of cortex-a76 neon-dotprod scalar
    sets_of cortex-a53 scalar
    # The NEON kernels against the reference, on a processor that has everything.
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -cpu max -L /usr/aarch64-linux-gnu"
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER
    eval "${CARGO:-cargo} test --locked --lib --target aarch64-unknown-linux-gnu $profile kernels::"
    report="$report, kernel tests"
}

# That the emulated processor $1 gets the kernel sets that follow, and no other: each can be forced where its instructions are, and only there.
sets_of() {
    cpu=$1 got=""
    shift
    for set in neon-i8mm neon-dotprod scalar; do
        if qemu-aarch64 -cpu "$cpu" -L /usr/aarch64-linux-gnu build/aarch64-unknown-linux-gnu/tests/tokenizer "$model" $set >/dev/null 2>&1; then got="$got $set"; fi
    done
    [ "$got" = " $*" ] || { echo "  $cpu has the kernel sets$got, expected $*"; exit 1; }
}

# Nothing is linked, so what build scripts compile may be empty.
macos() {
    mkdir -p build/no-compiler
    cat >build/no-compiler/cc <<'CC'
#!/bin/sh
while [ $# -gt 0 ]; do [ "$1" != -o ] || : >"$2"; shift; done
CC
    chmod +x build/no-compiler/cc
    for triple in x86_64-apple-darwin aarch64-apple-darwin; do
        have_target $triple || return 0
        name=$(echo $triple | tr - _)
        env SDKROOT=/ "CC_$name=$PWD/build/no-compiler/cc" "AR_$name=ar" "${CARGO:-cargo}" check --locked --lib --target $triple
        report="$report $triple (checked)"
    done
}

for target in ${*:-windows aarch64 macos}; do $target; done
echo "  other platforms:$report"
