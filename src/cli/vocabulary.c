/* The strings a character model speaks in. */
#include "vocabulary.h"

#include "model_source.h"
#include "report.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define TOKENS_MOST 10000000 /* the JSON of more would be gigabytes */

static int compare(const char *a, size_t a_bytes, const char *b, size_t b_bytes)
{
    int order = memcmp(a, b, a_bytes < b_bytes ? a_bytes : b_bytes);
    return order != 0 ? order : (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

typedef struct entry {
    const char *text;
    size_t bytes, token;
} entry;

static int compare_entries(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    return compare(x->text, x->bytes, y->text, y->bytes);
}

static int sort(cy_vocabulary *vocabulary, const char *path)
{
    size_t count = vocabulary->count;
    int code = CY_EXIT_OK;
    entry *entries = calloc(count, sizeof *entries);
    if (entries == NULL) return cy_report(CY_EXIT_FAILED, "%s: out of memory", path);
    for (size_t i = 0; i < count; i++)
        entries[i] = (entry){vocabulary->texts[i], vocabulary->bytes[i], i};
    qsort(entries, count, sizeof *entries, compare_entries);
    for (size_t i = 0; i < count && code == CY_EXIT_OK; i++) {
        vocabulary->sorted[i] = entries[i].token;
        if (i > 0 && compare_entries(&entries[i - 1], &entries[i]) == 0)
            code = cy_report(CY_EXIT_FAILED, "%s: strings %zu and %zu are the same", path,
                             entries[i - 1].token, entries[i].token);
    }
    free(entries);
    return code;
}

int cy_vocabulary_open(cy_vocabulary *vocabulary, const char *path)
{
    json_error_t error;
    void *data;
    size_t bytes;
    int mapped;
    memset(vocabulary, 0, sizeof *vocabulary);
    int code = cy_file_read(path, &data, &bytes, &mapped);
    if (code != CY_EXIT_OK) return code;
    json_t *json = json_loadb(data, bytes, JSON_ALLOW_NUL, &error);
    cy_file_release(data, bytes, mapped);
    vocabulary->json = json;
    if (json == NULL)
        return cy_report(CY_EXIT_FAILED,
                         "%s is not a JSON array of strings: %s in line %d", path,
                         error.text, error.line);
    size_t count = json_array_size(json);
    if (!json_is_array(json) || count == 0 || count > TOKENS_MOST)
        return cy_report(CY_EXIT_FAILED, "%s is not a JSON array of strings", path);
    vocabulary->count = count;
    vocabulary->texts = calloc(count, sizeof *vocabulary->texts);
    vocabulary->bytes = calloc(count, sizeof *vocabulary->bytes);
    vocabulary->sorted = calloc(count, sizeof *vocabulary->sorted);
    if (vocabulary->texts == NULL || vocabulary->bytes == NULL ||
        vocabulary->sorted == NULL)
        return cy_report(CY_EXIT_FAILED, "%s: out of memory", path);
    for (size_t i = 0; i < count; i++) {
        const json_t *text = json_array_get(json, i);
        if (!json_is_string(text) || json_string_length(text) == 0)
            return cy_report(CY_EXIT_FAILED,
                             "%s: entry %zu is not a string of at least one "
                             "character",
                             path, i);
        vocabulary->texts[i] = json_string_value(text);
        vocabulary->bytes[i] = json_string_length(text);
        if (vocabulary->bytes[i] > vocabulary->longest)
            vocabulary->longest = vocabulary->bytes[i];
    }
    return sort(vocabulary, path);
}

void cy_vocabulary_close(cy_vocabulary *vocabulary)
{
    free(vocabulary->texts);
    free(vocabulary->bytes);
    free(vocabulary->sorted);
    json_decref(vocabulary->json);
    memset(vocabulary, 0, sizeof *vocabulary);
}

/* The token whose string is exactly text[0 .. bytes-1], or -1. */
static int64_t find(const cy_vocabulary *vocabulary, const char *text, size_t bytes)
{
    size_t low = 0, high = vocabulary->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2, token = vocabulary->sorted[middle];
        int order =
            compare(text, bytes, vocabulary->texts[token], vocabulary->bytes[token]);
        if (order == 0) return (int64_t)token;
        if (order < 0) high = middle;
        else low = middle + 1;
    }
    return -1;
}

/* Bytes of the UTF-8 character a text begins with; 1 for a byte that begins none. */
static size_t character_bytes(const char *text)
{
    unsigned char first = (unsigned char)text[0];
    size_t bytes = first < 0xc2   ? 1
                   : first < 0xe0 ? 2
                   : first < 0xf0 ? 3
                   : first < 0xf5 ? 4
                                  : 1;
    for (size_t i = 1; i < bytes; i++)
        if (((unsigned char)text[i] & 0xc0) != 0x80) return 1;
    return bytes;
}

int cy_vocabulary_read(const cy_vocabulary *vocabulary, const char *text, int32_t *tokens,
                       size_t *count)
{
    size_t length = strlen(text), at = 0, position = 0;
    *count = 0;
    while (at < length) {
        size_t bytes =
            length - at < vocabulary->longest ? length - at : vocabulary->longest;
        int64_t token = -1;
        for (; bytes > 0 && token < 0; bytes--)
            token = find(vocabulary, text + at, bytes);
        if (token < 0) {
            size_t wide = character_bytes(text + at);
            unsigned char first = (unsigned char)text[at];
            if (first < 0x20 || (first >= 0x80 && wide == 1))
                return cy_report(CY_EXIT_FAILED,
                                 "byte 0x%02x, character %zu of the prompt, is not "
                                 "in the vocabulary",
                                 first, position + 1);
            return cy_report(
                CY_EXIT_FAILED,
                "'%.*s', character %zu of the prompt, is not in the vocabulary",
                (int)wide, text + at, position + 1);
        }
        tokens[(*count)++] = (int32_t)token;
        for (size_t end = at + bytes + 1; at < end; at++)
            position += ((unsigned char)text[at] & 0xc0) != 0x80;
    }
    return CY_EXIT_OK;
}
