/* libcarry_import: other frameworks' model files, turned into carry's own.
 *
 * A separate library, so that a serving process links no parser of a foreign format. These parsers
 * (HDF5, zip) are not proof against hostile files: import in a confined process what you do not trust,
 * as the `carry` command does, or convert once and ship the result.
 *
 * Reads, told apart by content and never by the file's name:
 *   keras     Keras 3 archives (.keras)
 *   keras-h5  whole-model HDF5 files of Keras 2 and 3 (.h5)
 *
 * Threads: one import at a time in a process (the HDF5 library is not thread-safe as distributed).
 */
#ifndef CARRY_CARRY_IMPORT_H
#define CARRY_CARRY_IMPORT_H

#include <carry/carry.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The importers of this build by index from 0 ("keras", "keras-h5"); NULL past the end. */
CARRY_API const char *carry_importer_name(size_t index);

/* The importer that takes these first bytes of a file (16 are enough): its name, or NULL for none. */
CARRY_API const char *carry_importer_probe(const void *head, size_t bytes);

/* Imports a model: `bytes` bytes at `data` become a file of carry's own format in memory, fit for
 * carry_model_open_bytes or to be written as it is. Allocates, blocks, reads no file and writes none.
 *   *model, *model_bytes  the result, owned by the caller: carry_import_free. NULL and 0 on failure.
 *   sentence              receives why it failed in one sentence, cut to sentence_bytes and always
 *                         terminated; may be NULL with sentence_bytes = 0
 * Errors: E_ARGUMENT; E_FORMAT (no known format, or damaged); E_UNSUPPORTED (the sentence names layer,
 * class or key, and what is supported); E_MEMORY. */
CARRY_API carry_status carry_import_bytes(const void *data, size_t bytes, void **model,
                                          size_t *model_bytes, char *sentence,
                                          size_t sentence_bytes);

/* The same for a file. Errors: also E_FILE. */
CARRY_API carry_status carry_import_file(const char *path, void **model,
                                         size_t *model_bytes, char *sentence,
                                         size_t sentence_bytes);

CARRY_API void carry_import_free(void *model);

#ifdef __cplusplus
}
#endif

#endif
