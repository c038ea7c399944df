/* The kernels for AVX-512 F and DQ: tiles of 6 rows x 4 vectors of 16 floats.
 * What they compute and why so: the templates. Compiled with the instruction set's own flags, called
 * only where cpu_dispatch.c found the processor and the system to have it. */
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/vec_avx512.h"

/* One case for each size of tile. */
#define TILES(T) T(1) T(2) T(3) T(4) T(5) T(6)

#include "kernels/cpu/gates_tmpl.h"
#include "kernels/cpu/tile_tmpl.h"

#include "kernels/cpu/dense_tmpl.h"
#include "kernels/cpu/lstm_tmpl.h"

const cy_cpu_kernels cy_cpu_kernels_avx512 = {
    .isa = "avx512",
    .lanes = V_LANES,
    .dense = dense,
    .lstm_step = lstm_step,
    .lstm_accumulate = lstm_accumulate,
};
