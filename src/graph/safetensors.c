#include "graph/safetensors.h"

#include "base/mem.h"
#include "graph/graph.h"
#include "graph/json.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MAX_HEADER_BYTES UINT64_C(100000000) /* the format's own bound */
#define MAX_DEPTH        32
#define CHECKSUM_BLANK   "xxh3-64:0000000000000000"

static uint64_t get_u64(const unsigned char *p)
{
    uint64_t value = 0;
    for (int i = 7; i >= 0; i--)
        value = value << 8 | p[i];
    return value;
}

static void put_u64(unsigned char *p, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        p[i] = (unsigned char)(value >> 8 * i);
}

/* 0: not a dtype whose size is a whole number of bytes */
static uint64_t dtype_bytes(const char *dtype)
{
    static const struct {
        const char *name;
        uint64_t bytes;
    } known[] = {{"F32", 4},  {"F64", 8},     {"F16", 2},     {"BF16", 2},
                 {"I64", 8},  {"I32", 4},     {"I16", 2},     {"I8", 1},
                 {"U64", 8},  {"U32", 4},     {"U16", 2},     {"U8", 1},
                 {"BOOL", 1}, {"F8_E5M2", 1}, {"F8_E4M3", 1}, {"C64", 8}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(dtype, known[i].name) == 0) return known[i].bytes;
    return 0;
}

static carry_status get_offset(const char *name, const json_t *array, size_t index,
                               uint64_t *value)
{
    const json_t *item = json_array_get(array, index);
    CY_CHECK(json_is_integer(item) && json_integer_value(item) >= 0, CARRY_E_FORMAT,
             "tensor '%s': data_offsets must be two whole numbers", name);
    *value = (uint64_t)json_integer_value(item);
    return CARRY_OK;
}

typedef struct span {
    uint64_t begin, end;
} span;

static carry_status parse_tensor(const char *name, const json_t *entry,
                                 cy_st_tensor *tensor, span *place)
{
    CY_CHECK(json_is_object(entry), CARRY_E_FORMAT,
             "tensor '%s' is not described by an object", name);
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    CY_CHECK(dtype && dtype_bytes(dtype), CARRY_E_FORMAT, "tensor '%s' has dtype '%s'",
             name, dtype ? dtype : "(none)");
    const json_t *shape = json_object_get(entry, "shape");
    CY_CHECK(json_is_array(shape) && json_array_size(shape) <= CY_ST_MAX_RANK,
             CARRY_E_FORMAT, "tensor '%s' has no shape of up to %d axes", name,
             CY_ST_MAX_RANK);
    *tensor = (cy_st_tensor){.name = name, .dtype = dtype};
    tensor->rank = (uint32_t)json_array_size(shape);
    tensor->bytes = dtype_bytes(dtype);
    for (uint32_t i = 0; i < tensor->rank; i++) {
        const json_t *axis = json_array_get(shape, i);
        CY_CHECK(json_is_integer(axis) && json_integer_value(axis) >= 0, CARRY_E_FORMAT,
                 "tensor '%s': axis %u of its shape is not a whole number", name, i);
        tensor->shape[i] = (uint64_t)json_integer_value(axis);
        CY_CHECK(!__builtin_mul_overflow(tensor->bytes, tensor->shape[i], &tensor->bytes),
                 CARRY_E_FORMAT, "tensor '%s' is larger than memory", name);
    }
    const json_t *offsets = json_object_get(entry, "data_offsets");
    CY_CHECK(json_is_array(offsets) && json_array_size(offsets) == 2, CARRY_E_FORMAT,
             "tensor '%s': data_offsets must be two whole numbers", name);
    CY_TRY(get_offset(name, offsets, 0, &place->begin));
    CY_TRY(get_offset(name, offsets, 1, &place->end));
    CY_CHECK(place->end >= place->begin && place->end - place->begin == tensor->bytes,
             CARRY_E_FORMAT,
             "tensor '%s' takes bytes %" PRIu64 " to %" PRIu64
             ", but its shape needs %" PRIu64,
             name, place->begin, place->end, tensor->bytes);
    return CARRY_OK;
}

typedef struct placed {
    cy_st_tensor tensor;
    span place;
} placed;

static int compare_placed(const void *left, const void *right)
{
    const placed *a = left, *b = right;
    if (a->place.begin != b->place.begin) return a->place.begin < b->place.begin ? -1 : 1;
    if (a->place.end != b->place.end) return a->place.end < b->place.end ? -1 : 1;
    return strcmp(a->tensor.name, b->tensor.name); /* empty tensors share a place */
}

static int compare_names(const void *left, const void *right)
{
    const cy_st_tensor *const *a = left, *const *b = right;
    return strcmp((*a)->name, (*b)->name);
}

static carry_status parse_metadata(cy_safetensors *file)
{
    json_t *metadata = json_object_get(file->root, "__metadata__");
    if (!metadata) return CARRY_OK;
    CY_CHECK(json_is_object(metadata), CARRY_E_FORMAT, "__metadata__ is not an object");
    const char *key;
    json_t *value;
    json_object_foreach(metadata, key, value) CY_CHECK(
        json_is_string(value), CARRY_E_FORMAT, "__metadata__/%s is not a string", key);
    file->metadata = metadata;
    return CARRY_OK;
}

static carry_status place_tensors(cy_safetensors *file, placed *list, uint64_t data_begin,
                                  uint64_t data_bytes)
{
    const char *name;
    json_t *entry;
    size_t count = 0;
    json_object_foreach(file->root, name, entry)
    {
        if (strcmp(name, "__metadata__") == 0) continue;
        CY_TRY(parse_tensor(name, entry, &list[count].tensor, &list[count].place));
        count++;
    }
    qsort(list, count, sizeof *list, compare_placed);
    uint64_t end = 0;
    for (size_t i = 0; i < count; i++) {
        CY_CHECK(list[i].place.begin == end, CARRY_E_FORMAT,
                 "tensor '%s' begins at byte %" PRIu64 ", expected %" PRIu64
                 ": a hole or an overlap",
                 list[i].tensor.name, list[i].place.begin, end);
        end = list[i].place.end;
        CY_CHECK(end <= data_bytes, CARRY_E_FORMAT,
                 "tensor '%s' ends at byte %" PRIu64 " of %" PRIu64
                 ": the file is cut off",
                 list[i].tensor.name, end, data_bytes);
        list[i].tensor.offset = data_begin + list[i].place.begin;
        file->tensors[i] = list[i].tensor;
    }
    CY_CHECK(end == data_bytes, CARRY_E_FORMAT,
             "%" PRIu64 " bytes stand behind the last tensor", data_bytes - end);
    file->count = count;
    for (size_t i = 0; i < count; i++)
        file->by_name[i] = &file->tensors[i];
    qsort(file->by_name, count, sizeof *file->by_name, compare_names);
    return CARRY_OK;
}

carry_status cy_safetensors_header_bytes(const void *first, uint64_t file_bytes,
                                         size_t *bytes)
{
    CY_CHECK(file_bytes >= 8, CARRY_E_FORMAT, "%" PRIu64 " bytes are no safetensors file",
             file_bytes);
    uint64_t json_bytes = get_u64(first);
    CY_CHECK(json_bytes <= file_bytes - 8, CARRY_E_FORMAT,
             "not a safetensors file, or cut off: the header should have %" PRIu64
             " bytes, %" PRIu64 " are there",
             json_bytes, file_bytes - 8);
    CY_CHECK(json_bytes <= MAX_HEADER_BYTES, CARRY_E_FORMAT,
             "the safetensors header has %" PRIu64 " bytes, at most %" PRIu64 " are read",
             json_bytes, MAX_HEADER_BYTES);
    *bytes = 8 + (size_t)json_bytes;
    return CARRY_OK;
}

static carry_status parse(cy_safetensors *file, const unsigned char *header, size_t bytes,
                          uint64_t file_bytes)
{
    const char *json = (const char *)header + 8;
    CY_TRY(cy_json_load(&file->root, json, bytes - 8, "the safetensors header"));
    CY_CHECK(json_is_object(file->root), CARRY_E_FORMAT,
             "the safetensors header is not a JSON object");
    CY_TRY(parse_metadata(file));
    size_t count = json_object_size(file->root) - (file->metadata ? 1 : 0);
    file->tensors = cy_alloc(count * sizeof *file->tensors);
    file->by_name = cy_alloc(count * sizeof *file->by_name);
    placed *list = cy_alloc(count * sizeof *list);
    carry_status status =
        file->tensors && file->by_name && list
            ? place_tensors(file, list, bytes, file_bytes - bytes)
            : cy_fail(CARRY_E_MEMORY, "out of memory listing %zu tensors", count);
    cy_free(list);
    return status;
}

carry_status cy_safetensors_open_header(cy_safetensors *file, const void *header,
                                        size_t bytes, uint64_t file_bytes)
{
    *file = (cy_safetensors){0};
    carry_status status = parse(file, header, bytes, file_bytes);
    if (status != CARRY_OK) cy_safetensors_close(file);
    return status;
}

carry_status cy_safetensors_open(cy_safetensors *file, const void *data, size_t bytes)
{
    *file = (cy_safetensors){0};
    size_t header_bytes = 0;
    CY_TRY(cy_safetensors_header_bytes(data, bytes, &header_bytes));
    CY_TRY(cy_safetensors_open_header(file, data, header_bytes, bytes));
    for (size_t i = 0; i < file->count; i++)
        file->tensors[i].data = (const unsigned char *)data + file->tensors[i].offset;
    return CARRY_OK;
}

void cy_safetensors_close(cy_safetensors *file)
{
    json_decref(file->root);
    cy_free(file->by_name);
    cy_free(file->tensors);
    *file = (cy_safetensors){0};
}

const cy_st_tensor *cy_safetensors_find(const cy_safetensors *file, const char *name)
{
    /* By halves: a stranger's file may name a million tensors for thousands of layers. */
    const cy_st_tensor wanted = {.name = name}, *key = &wanted;
    const cy_st_tensor **found = file->count
                                     ? bsearch(&key, file->by_name, file->count,
                                               sizeof *file->by_name, compare_names)
                                     : NULL;
    return found ? *found : NULL;
}

const char *cy_safetensors_metadata(const cy_safetensors *file, const char *key)
{
    return json_string_value(json_object_get(file->metadata, key));
}

static void add_text(cy_checksum *sum, const char *text)
{
    cy_checksum_add(sum, text, strlen(text) + 1);
}

uint64_t cy_safetensors_hash_metadata(cy_checksum_kind kind, json_t *metadata)
{
    /* Entries are mixed by addition: the order of a JSON object means nothing. */
    uint64_t value = 0;
    const char *key;
    json_t *text;
    json_object_foreach(metadata, key, text)
    {
        if (strcmp(key, CY_ST_CHECKSUM) == 0) continue;
        cy_checksum sum;
        cy_checksum_begin(&sum, kind);
        add_text(&sum, key);
        add_text(&sum, json_string_value(text));
        value += cy_checksum_value(&sum);
    }
    return value;
}

void cy_safetensors_hash_begin(cy_checksum *sum, cy_checksum_kind kind,
                               const cy_st_tensor *tensor)
{
    cy_checksum_begin(sum, kind);
    add_text(sum, tensor->name);
    add_text(sum, tensor->dtype);
    for (uint32_t axis = 0; axis < tensor->rank; axis++) {
        unsigned char bytes[8];
        put_u64(bytes, tensor->shape[axis]);
        cy_checksum_add(sum, bytes, sizeof bytes);
    }
}

static uint64_t hash_file(const cy_safetensors *file, cy_checksum_kind kind)
{
    uint64_t value = cy_safetensors_hash_metadata(kind, file->metadata);
    for (size_t i = 0; i < file->count; i++) {
        cy_checksum sum;
        cy_safetensors_hash_begin(&sum, kind, &file->tensors[i]);
        cy_checksum_add(&sum, file->tensors[i].data, file->tensors[i].bytes);
        value += cy_checksum_value(&sum);
    }
    return value;
}

carry_status cy_safetensors_stated(const cy_safetensors *file, bool *stated,
                                   cy_checksum_kind *kind)
{
    const char *text = cy_safetensors_metadata(file, CY_ST_CHECKSUM);
    *stated = text != NULL;
    CY_CHECK(!text || cy_checksum_find_kind(text, kind), CARRY_E_FORMAT,
             "damaged: the file states the checksum '%.40s', which is of no known kind",
             text);
    return CARRY_OK;
}

carry_status cy_safetensors_compare(const cy_safetensors *file, uint64_t value)
{
    bool stated;
    cy_checksum_kind kind;
    char text[CY_CHECKSUM_TEXT_BYTES];
    CY_TRY(cy_safetensors_stated(file, &stated, &kind));
    if (!stated) return CARRY_OK;
    cy_checksum_print(kind, value, text);
    const char *wanted = cy_safetensors_metadata(file, CY_ST_CHECKSUM);
    CY_CHECK(strcmp(wanted, text) == 0, CARRY_E_FORMAT,
             "damaged: the checksum is %s, the file states %s", text, wanted);
    return CARRY_OK;
}

carry_status cy_safetensors_verify(const cy_safetensors *file)
{
    bool stated;
    cy_checksum_kind kind;
    CY_TRY(cy_safetensors_stated(file, &stated, &kind));
    return stated ? cy_safetensors_compare(file, hash_file(file, kind)) : CARRY_OK;
}

/* ---- writing -------------------------------------------------------------------------------- */

static json_t *header_of(json_t *metadata, cy_st_tensor *tensors, size_t count)
{
    json_t *root = json_object();
    bool ok = root != NULL;
    ok = ok &&
         json_object_set_new(metadata, CY_ST_CHECKSUM, json_string(CHECKSUM_BLANK)) == 0;
    ok = ok && json_object_set(root, "__metadata__", metadata) == 0;
    uint64_t offset = 0;
    for (size_t i = 0; ok && i < count; i++) {
        uint64_t bytes = dtype_bytes(tensors[i].dtype);
        json_t *shape = json_array();
        for (uint32_t axis = 0; axis < tensors[i].rank; axis++) {
            ok = ok && json_array_append_new(
                           shape, json_integer((json_int_t)tensors[i].shape[axis])) == 0;
            bytes *= tensors[i].shape[axis];
        }
        json_t *entry =
            json_pack("{s:s, s:o, s:[I, I]}", "dtype", tensors[i].dtype, "shape", shape,
                      "data_offsets", (json_int_t)offset, (json_int_t)(offset + bytes));
        ok = ok && entry && json_object_set_new(root, tensors[i].name, entry) == 0;
        tensors[i].bytes = bytes;
        tensors[i].offset =
            offset; /* in the data: how long the header is, nobody knows */
        offset += bytes;
    }
    if (ok) return root;
    json_decref(root);
    return NULL;
}

carry_status cy_safetensors_header(json_t *metadata, cy_st_tensor *tensors, size_t count,
                                   unsigned char **header, size_t *bytes)
{
    *header = NULL;
    json_t *root = header_of(metadata, tensors, count);
    char *json = root ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    CY_CHECK(json, CARRY_E_FORMAT,
             "a name is not valid UTF-8, or memory ran out, writing the "
             "header of %zu tensors",
             count);
    /* Spaces behind the JSON, so that the data begins aligned as memory does. */
    size_t json_bytes = strlen(json);
    *bytes = cy_round_up(8 + json_bytes);
    *header = cy_alloc(*bytes);
    if (*header) {
        put_u64(*header, *bytes - 8);
        memcpy(*header + 8, json, json_bytes);
        memset(*header + 8 + json_bytes, ' ', *bytes - 8 - json_bytes);
    }
    free(json);
    CY_CHECK(*header, CARRY_E_MEMORY,
             "out of memory: %zu bytes for the header of a safetensors file", *bytes);
    for (size_t i = 0; i < count; i++)
        tensors[i].offset += *bytes;
    return CARRY_OK;
}

carry_status cy_safetensors_enter(unsigned char *header, size_t bytes, uint64_t value)
{
    const char key[] = "\"" CY_ST_CHECKSUM "\":\"" CHECKSUM_BLANK;
    const size_t key_bytes = sizeof key - 1;
    for (size_t i = 8; i + key_bytes < bytes; i++)
        if (memcmp(header + i, key, key_bytes) == 0) {
            char text[CY_CHECKSUM_TEXT_BYTES];
            cy_checksum_print(CY_ST_KIND, value, text);
            memcpy(header + i + key_bytes - strlen(text), text, strlen(text));
            return CARRY_OK;
        }
    return cy_fail(CARRY_E_FORMAT, "the header lost its checksum");
}

carry_status cy_safetensors_layout(cy_st_writer *writer, json_t *metadata,
                                   cy_st_tensor *tensors, size_t count)
{
    *writer = (cy_st_writer){0};
    unsigned char *header;
    size_t header_bytes;
    CY_TRY(cy_safetensors_header(metadata, tensors, count, &header, &header_bytes));
    writer->bytes = header_bytes;
    for (size_t i = 0; i < count; i++)
        writer->bytes += tensors[i].bytes;
    writer->block = cy_alloc(writer->bytes);
    if (writer->block) memcpy(writer->block, header, header_bytes);
    cy_free(header);
    CY_CHECK(writer->block, CARRY_E_MEMORY,
             "out of memory: %zu bytes for a safetensors file", writer->bytes);
    for (size_t i = 0; i < count; i++)
        tensors[i].data = writer->block + tensors[i].offset;
    return CARRY_OK;
}

carry_status cy_safetensors_seal(cy_st_writer *writer)
{
    /* Read back what was written: the checksum is then that of the reader, and a file that our own
     * reader would refuse is never written. */
    cy_safetensors file;
    CY_TRY(cy_safetensors_open(&file, writer->block, writer->bytes));
    uint64_t value = hash_file(&file, CY_ST_KIND);
    cy_safetensors_close(&file);
    return cy_safetensors_enter(writer->block, (size_t)get_u64(writer->block) + 8, value);
}
