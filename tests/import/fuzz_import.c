/* libFuzzer's door to the importers: cmake -DCMAKE_C_COMPILER=clang -DCARRY_FUZZ=ON, then
 *     fuzz_import CORPUS tests/import/golden
 * from the root of the repository. A text that begins with '{' is tried as the config of an archive, where
 * no checksum stands in its way; all else as a file. libhdf5 itself falls over damaged files: what counts is
 * a finding in carry's own frames. */
#include "import_support.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t bytes);

static void import(const unsigned char *data, size_t bytes)
{
    void *model;
    size_t model_bytes;
    char sentence[256];
    if (carry_import_bytes(data, bytes, &model, &model_bytes, sentence,
                           sizeof sentence) == CARRY_OK)
        carry_import_free(model);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t bytes)
{
    static blob golden, metadata, weights;
    if (!golden.data) {
        golden = golden_read("k3_functional.keras");
        if (!zip_find(golden, "metadata.json", &metadata) ||
            !zip_find(golden, "model.weights.h5", &weights))
            return 0;
    }
    if (bytes && data[0] == '{') {
        blob config = {(unsigned char *)data, bytes};
        blob file = keras_make(&metadata, &config, &weights);
        import(file.data, file.bytes);
        blob_free(&file);
    } else {
        import(data, bytes);
    }
    return 0;
}
