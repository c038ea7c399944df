#include "import/zip_reader.h"

#include "base/mem.h"

#include <stdbool.h>
#include <string.h>
#include <zip.h>

#define FREE_BYTES ((zip_uint64_t)256 * 1024 * 1024)
#define MAX_GROWTH 100

struct cy_zip {
    zip_t *zip;
    size_t bytes;
};

carry_status cy_zip_open(cy_zip **archive, const void *data, size_t bytes)
{
    *archive = cy_alloc(sizeof **archive);
    CY_CHECK(*archive, CARRY_E_MEMORY, "out of memory opening the archive");
    (*archive)->bytes = bytes;
    zip_error_t error;
    zip_error_init(&error);
    zip_source_t *source = zip_source_buffer_create(data, bytes, 0, &error);
    if (source) {
        /* No ZIP_CHECKCONS: it refuses what Info-ZIP writes into a pipe. The directory is believed, as
         * Python does; lengths and checksums are held against the data. */
        (*archive)->zip = zip_open_from_source(source, ZIP_RDONLY, &error);
        if (!(*archive)->zip) zip_source_free(source);
    }
    carry_status status = CARRY_OK;
    if (!(*archive)->zip) {
        status = cy_fail(CARRY_E_FORMAT, "the archive is damaged or truncated: %s",
                         zip_error_strerror(&error));
        cy_zip_close(archive);
    }
    zip_error_fini(&error);
    return status;
}

void cy_zip_close(cy_zip **archive)
{
    if (!*archive) return;
    if ((*archive)->zip) zip_discard((*archive)->zip);
    cy_free(*archive);
    *archive = NULL;
}

/* The index of the one member of this name; -1: none. */
static carry_status find(cy_zip *archive, const char *name, zip_int64_t *index)
{
    *index = -1;
    zip_int64_t count = zip_get_num_entries(archive->zip, 0);
    for (zip_int64_t i = 0; i < count; i++) {
        const char *member = zip_get_name(archive->zip, (zip_uint64_t)i, ZIP_FL_ENC_RAW);
        if (!member || strcmp(member, name) != 0) continue;
        CY_CHECK(*index < 0, CARRY_E_FORMAT,
                 "the archive has two members of one name: '%s'", name);
        *index = i;
    }
    return CARRY_OK;
}

static carry_status check_member(const cy_zip *archive, const char *name,
                                 const zip_stat_t *about)
{
    const zip_uint64_t needed = ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE |
                                ZIP_STAT_COMP_METHOD | ZIP_STAT_ENCRYPTION_METHOD;
    CY_CHECK((about->valid & needed) == needed, CARRY_E_FORMAT,
             "the archive's member '%s' is damaged", name);
    CY_CHECK(about->encryption_method == ZIP_EM_NONE, CARRY_E_UNSUPPORTED,
             "the archive's member '%s' is encrypted", name);
    CY_CHECK(about->comp_method == ZIP_CM_STORE || about->comp_method == ZIP_CM_DEFLATE,
             CARRY_E_UNSUPPORTED,
             "the archive's member '%s' is packed with method %u; store and deflate are "
             "supported",
             name, about->comp_method);
    CY_CHECK(about->comp_size <= archive->bytes, CARRY_E_FORMAT,
             "the archive's member '%s' claims %llu bytes, in an archive of %zu", name,
             (unsigned long long)about->comp_size, archive->bytes);
    CY_CHECK(about->size <= FREE_BYTES || about->size / MAX_GROWTH <= about->comp_size,
             CARRY_E_FORMAT,
             "the archive's member '%s' claims to grow from %llu bytes to %llu", name,
             (unsigned long long)about->comp_size, (unsigned long long)about->size);
    return CARRY_OK;
}

/* Reads on to the member's end: only there does libzip compare the checksum. */
static bool read_whole(zip_file_t *member, unsigned char *data, zip_uint64_t bytes)
{
    zip_uint64_t used = 0;
    while (used < bytes) {
        zip_int64_t got = zip_fread(member, data + used, bytes - used);
        if (got <= 0) return false;
        used += (zip_uint64_t)got;
    }
    unsigned char beyond;
    return zip_fread(member, &beyond, 1) == 0;
}

carry_status cy_zip_read(cy_zip *archive, const char *name, void **data, size_t *bytes)
{
    zip_int64_t index;
    zip_stat_t about;
    *data = NULL;
    *bytes = 0;
    CY_TRY(find(archive, name, &index));
    if (index < 0) return CARRY_OK;
    CY_CHECK(zip_stat_index(archive->zip, (zip_uint64_t)index, 0, &about) == 0,
             CARRY_E_FORMAT, "the archive's member '%s' is damaged", name);
    CY_TRY(check_member(archive, name, &about));
    void *block = cy_alloc(about.size);
    CY_CHECK(block, CARRY_E_MEMORY, "out of memory: %llu bytes for '%s'",
             (unsigned long long)about.size, name);
    zip_file_t *member = zip_fopen_index(archive->zip, (zip_uint64_t)index, 0);
    carry_status status = CARRY_OK;
    if (!member)
        status = cy_fail(CARRY_E_FORMAT, "the archive's member '%s' cannot be read: %s",
                         name, zip_error_strerror(zip_get_error(archive->zip)));
    else if (!read_whole(member, block, about.size))
        status = cy_fail(CARRY_E_FORMAT,
                         "the archive's member '%s' is damaged: its length or checksum "
                         "is wrong",
                         name);
    if (member) zip_fclose(member);
    if (status != CARRY_OK) {
        cy_free(block);
        return status;
    }
    *data = block;
    *bytes = (size_t)about.size;
    return CARRY_OK;
}
