/* The dialect's conformance cases: which kernel, on what, launched how; and the machine that runs them, a GPU
 * or the emulator. */
#ifndef CY_TESTS_GPU_DUMP_CASES_H
#define CY_TESTS_GPU_DUMP_CASES_H

#include <stddef.h>
#include <stdint.h>
#include <string>
#include <vector>

namespace dump
{

struct Result {
    std::vector<uint32_t> words; /* empty: it did not run */
    std::string error;           /* "" or why */
    uint64_t input_hash;         /* that two machines were given the same */
};

size_t case_count();
const char *case_name(size_t index);
/* The functions of the dialect that it would show a mistake in, with spaces between. */
const char *case_covers(size_t index);
/* 90: compute capability 9.0 and up. */
int case_architecture(size_t index);
/* Informative: the order in which mma adds, and what PTX leaves open. It may differ. */
bool case_is_exact(size_t index);
Result run(size_t index);

/* ---- the machine: dump_machine_gpu.cpp or dump_machine_emu.cpp ---- */

/* `schedule`: of the emulator. False, and a sentence on stderr, without a device. */
bool machine_begin(unsigned schedule);
int machine_architecture();
std::string machine_name();
/* How mma adds here; a GPU has one way. */
size_t machine_numerics_count();
const char *machine_numerics(size_t index);
void machine_use_numerics(size_t index);

} // namespace dump

#endif
