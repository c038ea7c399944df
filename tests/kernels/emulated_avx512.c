/* The AVX-512 kernels under another name, on whatever simde/immintrin.h makes of the intrinsics. */
#define cy_cpu_kernels_avx512 cy_cpu_kernels_avx512_emulated
#include "kernels/cpu/kernels_avx512.c"
