#!/bin/bash
# Installs the build into an empty prefix, moves it, and builds a small consumer against it: by pkg-config and
# by find_package, with the shared and with the static libraries; compiles the headers as C11 and C++17.
#   install_test.sh BUILD_DIR CC CXX [FLAGS of a sanitizer build...]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
build=$1 cc=$2 cxx=$3
shift 3
flags=("$@")
work=$(mktemp -d "${TMPDIR:-/tmp}/carry-install.XXXXXX")
trap 'rm -rf "$work"' EXIT

cmake --install "$build" --prefix "$work/first" >"$work/install.log" || {
    cat "$work/install.log"
    exit 1
}
mv "$work/first" "$work/moved" # nothing installed may know where it was installed to
prefix=$work/moved
libdir=$(dirname "$(find "$prefix" -name libcarry.so)")
export PKG_CONFIG_PATH=$libdir/pkgconfig
strict=(-Wall -Wextra -Wpedantic -Werror)
read -ra packages_cflags <<<"$(pkg-config --cflags carry carry-import)"

echo "headers: C11 and C++17"
"$cc" -std=c11 "${strict[@]}" -Wstrict-prototypes -I"$prefix/include" -fsyntax-only "$here/headers.c"
"$cxx" -x c++ -std=c++17 "${strict[@]}" -I"$prefix/include" -fsyntax-only "$here/headers.c"

run() { # how it was built, the program
    local needed
    echo "$1: $("$2")"
    needed=$(readelf -d "$2" | grep -c 'NEEDED.*libcarry' || true)
    case $1 in
    *static) [ "$needed" -eq 0 ] || { echo "$1 still needs the shared libcarry" && exit 1; } ;;
    *shared) [ "$needed" -eq 2 ] || { echo "$1 needs $needed shared libraries of carry, expected 2" && exit 1; } ;;
    esac
}

read -ra libs <<<"$(pkg-config --libs carry carry-import)"
"$cc" "${flags[@]}" -std=c11 "${strict[@]}" "${packages_cflags[@]}" "$here/consumer.c" \
    -o "$work/pc_shared" "${libs[@]}" -Wl,-rpath,"$libdir"
run "pkg-config, shared" "$work/pc_shared"

read -ra libs <<<"$(pkg-config --static --libs carry carry-import |
    sed 's/-lcarry_import\b/-l:libcarry_import.a/; s/-lcarry\b/-l:libcarry.a/')"
"$cc" "${flags[@]}" -std=c11 "${strict[@]}" "${packages_cflags[@]}" "$here/consumer.c" \
    -o "$work/pc_static" "${libs[@]}"
run "pkg-config, static" "$work/pc_static"

mkdir "$work/consumer"
cp "$here/consumer.c" "$work/consumer/"
cp "$here/CMakeLists.consumer.txt" "$work/consumer/CMakeLists.txt"
cmake -G Ninja -S "$work/consumer" -B "$work/consumer/build" -DCMAKE_PREFIX_PATH="$prefix" \
    -DCMAKE_C_COMPILER="$cc" -DCMAKE_C_FLAGS="${flags[*]}" >"$work/cmake.log" 2>&1 &&
    cmake --build "$work/consumer/build" >>"$work/cmake.log" 2>&1 || {
    cat "$work/cmake.log"
    exit 1
}
run "find_package, shared" "$work/consumer/build/consumer_shared"
run "find_package, static" "$work/consumer/build/consumer_static"

echo "the installed command: $("$prefix/bin/carry" --version | head -n 1)"
echo "the installed tree can be used both ways"
