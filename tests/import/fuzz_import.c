/* libFuzzer's door to the importers: cmake -DCMAKE_C_COMPILER=clang -DCARRY_FUZZ=ON, then
 *     fuzz_import CORPUS tests/import/golden
 * libhdf5 itself falls over damaged files; what counts is a finding in carry's own frames. */
#include <carry/carry_import.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t bytes);

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t bytes)
{
    void *model;
    size_t model_bytes;
    char sentence[256];
    if (carry_import_bytes(data, bytes, &model, &model_bytes, sentence,
                           sizeof sentence) == CARRY_OK)
        carry_import_free(model);
    return 0;
}
