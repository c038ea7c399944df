# What the GPU scripts share: the machine's header of their results, and where CUDA's libraries lie. To be sourced in the
# repository's root; $bundle, $command and $dry are the script's.

quoted() { printf '"%s"' "$(tr -d '\n' <<<"$1" | sed 's/[\\"]/\\&/g')"; }
asked() { nvidia-smi --query-gpu="$1" --format=csv,noheader 2>/dev/null | head -n 1; }

commit() { git rev-parse --short HEAD 2>/dev/null || cat "$bundle/commit" 2>/dev/null; }

machine_json() {
    printf '{"kind":"machine","gpu":%s,"driver":%s,"compute_capability":%s,"memory":%s,' "$(quoted "$(asked name)")" \
        "$(quoted "$(asked driver_version)")" "$(quoted "$(asked compute_cap)")" "$(quoted "$(asked memory.total)")"
    printf '"sm_clock":%s,"sm_clock_most":%s,"memory_clock":%s,"power_limit":%s,' "$(quoted "$(asked clocks.sm)")" \
        "$(quoted "$(asked clocks.max.sm)")" "$(quoted "$(asked clocks.mem)")" "$(quoted "$(asked power.limit)")"
    printf '"toolkit":%s,"cpu":%s,"system":%s,"date":%s,"commit":%s,"command":%s,"dry_run":%s}\n' \
        "$(quoted "$(cat "$bundle/toolkit" 2>/dev/null)")" \
        "$(quoted "$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo 2>/dev/null | head -n 1)")" \
        "$(quoted "$(uname -sr)")" "$(quoted "$(date -u +%Y-%m-%dT%H:%M:%SZ)")" "$(quoted "$(commit)")" \
        "$(quoted "$command")" "$([ -n "$dry" ] && echo true || echo false)"
}

# Folders of CUDA's shared libraries: the toolkit's, and those of Python's nvidia packages.
cuda_folders() {
    local folder
    for folder in "${CUDA_HOME:-/usr/local/cuda}/lib64" "${CUDA_HOME:-/usr/local/cuda}/lib"; do
        compgen -G "$folder/libcublas.so*" >/dev/null && echo "$folder"
    done
    command -v python3 >/dev/null && python3 - <<'PYTHON' 2>/dev/null
import glob, importlib.util, os
spec = importlib.util.find_spec("nvidia")
for root in spec.submodule_search_locations if spec else []:
    for folder in sorted(glob.glob(os.path.join(root, "*", "lib"))):
        if glob.glob(os.path.join(folder, "*.so*")):
            print(folder)
PYTHON
}
