/* The public face of libcarry_import: the table of importers, chosen by what the bytes are. */
#define _POSIX_C_SOURCE 200809L /* fileno */

#include "import/import.h"

#include "base/mem.h"
#include "graph/graph_file.h"
#include "import_table.h"

#include <carry/carry_import.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static bool is_zip(const unsigned char *head, size_t bytes)
{
    return bytes >= 4 && memcmp(head, "PK\x03\x04", 4) == 0;
}

/* An HDF5 file may begin with a block of the user's own: 512 bytes, or any doubling of that. */
static bool is_hdf5(const unsigned char *head, size_t bytes)
{
    for (size_t at = 0; at + 8 <= bytes; at = at ? 2 * at : 512) {
        if (memcmp(head + at, "\x89HDF\r\n\x1a\n", 8) == 0) return true;
        if (at > SIZE_MAX / 4) break;
    }
    return false;
}

typedef struct importer {
    const char *name;
    bool (*probe)(const unsigned char *head, size_t bytes);
    cy_import_read *read;
} importer;

/* The build writes the list: an importer whose libraries are missing is not in it. */
static const importer importers[] = {
#define ROW(name, probe, read) {name, probe, read},
    CY_IMPORTER_LIST(ROW)
#undef ROW
        {NULL, NULL, NULL}};

static const importer *find(const void *data, size_t bytes)
{
    for (const importer *i = importers; i->name; i++)
        if (i->probe(data, bytes)) return i;
    return NULL;
}

const char *carry_importer_name(size_t index)
{
    return index < sizeof importers / sizeof *importers ? importers[index].name : NULL;
}

const char *carry_importer_probe(const void *head, size_t bytes)
{
    const importer *found = head ? find(head, bytes) : NULL;
    return found ? found->name : NULL;
}

/* Nothing in the table wants these bytes: say what they look like. */
static carry_status refuse_unknown(const unsigned char *data, size_t bytes)
{
    if (is_zip(data, bytes))
        return cy_fail(CARRY_E_UNSUPPORTED,
                       "this is a zip archive (.keras), and this build of carry has no "
                       "importer for it: it was built without libzip or HDF5");
    if (is_hdf5(data, bytes))
        return cy_fail(CARRY_E_UNSUPPORTED,
                       "this is an HDF5 file (.h5), and this build of carry has no "
                       "importer for it: it was built without HDF5");
    if (bytes >= 9 && data[8] == '{')
        return cy_fail(CARRY_E_FORMAT,
                       "this is a safetensors file: weights without a model to import "
                       "(carry's own files need no import)");
    return cy_fail(CARRY_E_FORMAT,
                   "no known model format: expected a Keras archive (.keras) or a "
                   "whole-model HDF5 file (.h5)");
}

static carry_status import_bytes(const void *data, size_t bytes, void **model,
                                 size_t *model_bytes)
{
    CY_CHECK(model && model_bytes, CARRY_E_ARGUMENT, "model or model_bytes is NULL");
    *model = NULL;
    *model_bytes = 0;
    CY_CHECK(data, CARRY_E_ARGUMENT, "data is NULL");
    CY_CHECK(bytes, CARRY_E_FORMAT, "the file is empty");
    const importer *found = find(data, bytes);
    if (!found) return refuse_unknown(data, bytes);

    cy_graph *graph = NULL;
    CY_TRY(cy_graph_open(&graph));
    graph->source = found->name;
    carry_status status = found->read(graph, data, bytes);
    if (status == CARRY_OK) status = cy_graph_finish(graph);
    if (status == CARRY_OK) status = cy_graph_write(graph, model, model_bytes);
    cy_graph_close(&graph);
    return status;
}

static carry_status read_file(const char *path, void **data, size_t *bytes)
{
    *data = NULL;
    CY_CHECK(path, CARRY_E_ARGUMENT, "path is NULL");
    FILE *file = fopen(path, "rb");
    CY_CHECK(file, CARRY_E_FILE, "%s: %s", path, strerror(errno));
    carry_status status = CARRY_OK;
    struct stat about;
    if (fstat(fileno(file), &about) != 0) {
        status = cy_fail(CARRY_E_FILE, "%s: %s", path, strerror(errno));
    } else if (S_ISDIR(about.st_mode)) {
        status = cy_fail(CARRY_E_FILE, "%s is a directory, expected a file", path);
    } else if (!S_ISREG(about.st_mode)) {
        status = cy_fail(CARRY_E_FILE, "%s is not a regular file", path);
    } else {
        *bytes = (size_t)about.st_size;
        *data = cy_alloc(*bytes);
        if (!*data)
            status =
                cy_fail(CARRY_E_MEMORY, "out of memory: %zu bytes for %s", *bytes, path);
        else if (fread(*data, 1, *bytes, file) != *bytes)
            status =
                cy_fail(CARRY_E_FILE, "%s: could not read its %zu bytes", path, *bytes);
    }
    fclose(file);
    return status;
}

/* Failures of this library reach the caller here: it has no carry_error of its own to ask. */
static carry_status tell(carry_status status, char *sentence, size_t sentence_bytes)
{
    if (sentence && sentence_bytes)
        snprintf(sentence, sentence_bytes, "%s", status == CARRY_OK ? "" : cy_error());
    return status;
}

carry_status carry_import_bytes(const void *data, size_t bytes, void **model,
                                size_t *model_bytes, char *sentence,
                                size_t sentence_bytes)
{
    return tell(import_bytes(data, bytes, model, model_bytes), sentence, sentence_bytes);
}

carry_status carry_import_file(const char *path, void **model, size_t *model_bytes,
                               char *sentence, size_t sentence_bytes)
{
    void *data = NULL;
    size_t bytes = 0;
    if (model) *model = NULL;
    if (model_bytes) *model_bytes = 0;
    carry_status status = read_file(path, &data, &bytes);
    if (status == CARRY_OK) status = import_bytes(data, bytes, model, model_bytes);
    cy_free(data);
    return tell(status, sentence, sentence_bytes);
}

void carry_import_free(void *model)
{
    cy_free(model);
}
