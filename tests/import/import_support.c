#include "import_support.h"

#include "graph/graph_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void blob_free(blob *b)
{
    free(b->data);
    *b = (blob){0};
}

blob golden_read(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "tests/import/golden/%s", name);
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        abort();
    }
    fseek(file, 0, SEEK_END);
    blob b = {.bytes = (size_t)ftell(file)};
    rewind(file);
    b.data = malloc(b.bytes + 1);
    if (!b.data || fread(b.data, 1, b.bytes, file) != b.bytes) abort();
    b.data[b.bytes] = 0;
    fclose(file);
    return b;
}

/* ---- zip ---------------------------------------------------------------------------------------- */

static uint32_t crc32_of(const unsigned char *data, size_t bytes)
{
    static uint32_t table[256];
    for (uint32_t i = 0; !table[255] && i < 256; i++) {
        uint32_t entry = i;
        for (int bit = 0; bit < 8; bit++)
            entry = entry >> 1 ^ (entry & 1 ? 0xedb88320 : 0);
        table[i] = entry;
    }
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < bytes; i++)
        crc = crc >> 8 ^ table[(crc ^ data[i]) & 0xff];
    return ~crc;
}

static void put(blob *out, const void *data, size_t bytes)
{
    if (bytes == 0) return;
    out->data = realloc(out->data, out->bytes + bytes);
    if (!out->data) abort();
    memcpy(out->data + out->bytes, data, bytes);
    out->bytes += bytes;
}

static void put_number(blob *out, uint64_t value, int bytes)
{
    unsigned char little[8];
    for (int i = 0; i < bytes; i++)
        little[i] = (unsigned char)(value >> 8 * i);
    put(out, little, (size_t)bytes);
}

/* The fields that local header and directory share, from version to the length of the extra field. */
static void put_header(blob *out, const zip_member *member, uint32_t length_error)
{
    uint32_t packed = member->zip64_lengths ? UINT32_MAX : (uint32_t)member->bytes;
    uint32_t unpacked = member->zip64_lengths ? UINT32_MAX
                        : member->unpacked    ? member->unpacked
                                              : (uint32_t)member->bytes;
    put_number(out, member->zip64_lengths ? 45 : 20, 2);
    put_number(out, member->flags, 2);
    put_number(out, member->method, 2);
    put_number(out, 0x58210000, 4); /* a time and a day */
    put_number(out, crc32_of(member->data, member->bytes) + member->crc_error, 4);
    put_number(out, packed, 4);
    put_number(out, unpacked + length_error, 4);
    put_number(out, strlen(member->name), 2);
    put_number(out, member->zip64_lengths ? 20 : 0, 2);
}

static void put_name(blob *out, const zip_member *member)
{
    put(out, member->name, strlen(member->name));
    if (!member->zip64_lengths) return;
    put_number(out, 1, 2);
    put_number(out, 16, 2);
    put_number(out, member->zip64_lengths, 8);
    put_number(out, member->zip64_lengths, 8);
}

blob zip_make(const zip_member *members, size_t count)
{
    blob out = {0}, directory = {0};
    for (size_t i = 0; i < count; i++) {
        size_t at = out.bytes;
        put_number(&out, 0x04034b50, 4);
        put_header(&out, &members[i], members[i].local_error);
        put_name(&out, &members[i]);
        put(&out, members[i].data, members[i].bytes);
        put_number(&directory, 0x02014b50, 4);
        put_number(&directory, 45, 2);
        put_header(&directory, &members[i], 0);
        put_number(&directory, 0, 2 + 2 + 2); /* comment, disk, internal */
        put_number(&directory, 0, 4);
        put_number(&directory, at, 4);
        put_name(&directory, &members[i]);
    }
    size_t at = out.bytes;
    put(&out, directory.data, directory.bytes);
    put_number(&out, 0x06054b50, 4);
    put_number(&out, 0, 4);
    put_number(&out, count, 2);
    put_number(&out, count, 2);
    put_number(&out, directory.bytes, 4);
    put_number(&out, at, 4);
    put_number(&out, 0, 2);
    free(directory.data);
    return out;
}

static uint32_t get_number(const unsigned char *at, int bytes)
{
    uint32_t value = 0;
    for (int i = 0; i < bytes; i++)
        value |= (uint32_t)at[i] << 8 * i;
    return value;
}

bool zip_find(blob archive, const char *name, blob *member)
{
    const unsigned char *end = archive.data + archive.bytes - 22;
    const unsigned char *entry = archive.data + get_number(end + 16, 4);
    for (uint32_t i = get_number(end + 10, 2); i; i--) {
        uint32_t length = get_number(entry + 28, 2);
        if (length == strlen(name) && memcmp(entry + 46, name, length) == 0) {
            unsigned char *local = archive.data + get_number(entry + 42, 4);
            member->data =
                local + 30 + get_number(local + 26, 2) + get_number(local + 28, 2);
            member->bytes = get_number(entry + 24, 4);
            return get_number(entry + 10, 2) == 0;
        }
        entry += 46 + length + get_number(entry + 30, 2) + get_number(entry + 32, 2);
    }
    return false;
}

blob keras_make(const blob *metadata, const blob *config, const blob *weights)
{
    zip_member members[3];
    size_t count = 0;
    if (metadata)
        members[count++] = (zip_member){
            "metadata.json", metadata->data, metadata->bytes, 0, 0, 0, 0, 0, 0};
    if (config)
        members[count++] =
            (zip_member){"config.json", config->data, config->bytes, 0, 0, 0, 0, 0, 0};
    if (weights)
        members[count++] = (zip_member){
            "model.weights.h5", weights->data, weights->bytes, 0, 0, 0, 0, 0, 0};
    return zip_make(members, count);
}

/* ---- imports ------------------------------------------------------------------------------------ */

static bool is_line(const char *text)
{
    if (!*text) return false;
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f) return false;
    return true;
}

bool import_checked(const void *data, size_t bytes, const char *what, outcome *out)
{
    memset(out->sentence, 'x', sizeof out->sentence);
    out->model = (void *)data; /* anything but NULL: failures must reset it */
    out->bytes = 1;
    out->status = carry_import_bytes(data, bytes, &out->model, &out->bytes, out->sentence,
                                     sizeof out->sentence);
    if (!memchr(out->sentence, '\0', sizeof out->sentence)) {
        fprintf(stderr, "%s: the sentence has no end\n", what);
        return false;
    }
    if (out->status == CARRY_OK) {
        cy_graph *graph = NULL;
        bool good = out->model && out->bytes && !out->sentence[0] &&
                    cy_graph_read(&graph, out->model, out->bytes) == CARRY_OK;
        if (!good)
            fprintf(stderr, "%s: success, but: %s %s\n", what, out->sentence,
                    graph ? "" : cy_error());
        cy_graph_close(&graph);
        return good;
    }
    bool good = !out->model && !out->bytes && is_line(out->sentence) &&
                (out->status == CARRY_E_FORMAT || out->status == CARRY_E_UNSUPPORTED ||
                 out->status == CARRY_E_MEMORY);
    if (!good)
        fprintf(stderr, "%s: failed badly with %s: '%s'\n", what,
                carry_status_name(out->status), out->sentence);
    return good;
}
