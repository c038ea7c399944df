/* Stands before the compiler's <immintrin.h> when an AVX-512 source is built for AVX2: the same
 * intrinsics, made of narrower ones by SIMDe. */
#ifndef CY_TESTS_SIMDE_IMMINTRIN_H
#define CY_TESTS_SIMDE_IMMINTRIN_H

#include_next <immintrin.h>

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

#endif
