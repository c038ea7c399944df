/* What the import tests share: golden files, archives made member by member, and an import whose outcome
 * is checked for good manners whatever it is. */
#ifndef CARRY_TESTS_IMPORT_SUPPORT_H
#define CARRY_TESTS_IMPORT_SUPPORT_H

#include <carry/carry_import.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct blob {
    unsigned char *data; /* malloc */
    size_t bytes;
} blob;

void blob_free(blob *b);
blob golden_read(const char *name); /* a file of tests/import/golden */

/* One member of a zip archive. Fields left 0 are what they should be; the others are lies. */
typedef struct zip_member {
    const char *name;
    const void *data; /* as stored: packed already if method is 8 */
    size_t bytes;
    uint16_t method;
    uint16_t flags;
    uint32_t crc_error;     /* added to the right checksum */
    uint32_t unpacked;      /* the claimed length; 0: bytes */
    uint32_t local_error;   /* added to the length in the local header */
    uint64_t zip64_lengths; /* claims both lengths through a zip64 field */
} zip_member;

blob zip_make(const zip_member *members, size_t count);

/* A stored member of an archive that zip_make or Keras wrote; false: none of this name. */
bool zip_find(blob archive, const char *name, blob *member);

/* A .keras of these three; a NULL blob leaves the member out. */
blob keras_make(const blob *metadata, const blob *config, const blob *weights);

typedef struct outcome {
    carry_status status;
    void *model; /* carry_import_free */
    size_t bytes;
    char sentence[1024];
} outcome;

/* Imports and checks: a success has a model that opens as a graph and no sentence; a failure has no model
 * and one line of text. `what` says in the complaint what was imported. Returns false after a complaint on
 * stderr. */
bool import_checked(const void *data, size_t bytes, const char *what, outcome *out);

#endif
