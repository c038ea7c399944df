/* The kernels for AVX2 with FMA: tiles of 3 rows x 4 vectors of 8 floats.
 * What they compute and why so: the templates. Compiled with the instruction set's own flags, called
 * only where cpu_dispatch.c found the processor and the system to have it. */
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/vec_avx2.h"

/* One case for each size of tile. */
#define TILES(T) T(1) T(2) T(3)

#include "kernels/cpu/gates_tmpl.h"
#include "kernels/cpu/tile_tmpl.h"

#include "kernels/cpu/dense_tmpl.h"
#include "kernels/cpu/lstm_tmpl.h"

const cy_cpu_kernels cy_cpu_kernels_avx2 = {
    .isa = "avx2",
    .lanes = V_LANES,
    .dense = dense,
    .lstm_step = lstm_step,
    .lstm_accumulate = lstm_accumulate,
};
