#include "import/config_json.h"

#include "base/mem.h"
#include "graph/json.h"

#include <stdio.h>
#include <string.h>
#if defined(__linux__)
#include <sys/auxv.h>
#endif

/* 4096 layers of the longest configs there are need 8 MiB; a parsed text takes some 30 times its size. */
#define MAX_JSON_BYTES ((size_t)16 * 1024 * 1024)

#define TWO_TO_53 9007199254740992.0

/* The library would open /dev/urandom to seed its tables, and an import opens no file. */
static void seed_tables(void)
{
#if defined(__linux__)
    size_t seed = 0;
    const void *random = (const void *)getauxval(AT_RANDOM);
    if (random) memcpy(&seed, random, sizeof seed);
    if (seed) json_object_seed(seed);
#endif
}

/* Copies, with the three words that are no JSON as null. Returns the bytes written: at most twice `bytes`. */
static size_t plain_json(char *out, const char *text, size_t bytes)
{
    static const char *const words[] = {"NaN", "Infinity", "-Infinity"};
    size_t used = 0;
    bool string = false;
    for (size_t i = 0; i < bytes;) {
        size_t skip = 0;
        for (size_t w = 0; !string && w < sizeof words / sizeof *words; w++) {
            size_t length = strlen(words[w]);
            if (bytes - i >= length && memcmp(text + i, words[w], length) == 0)
                skip = length;
        }
        if (skip) {
            memcpy(out + used, "null", 4);
            used += 4;
            i += skip;
            continue;
        }
        if (text[i] == '"') string = !string;
        if (string && text[i] == '\\' && i + 1 < bytes) out[used++] = text[i++];
        out[used++] = text[i++];
    }
    return used;
}

carry_status cy_config_load(json_t **root, const char *text, size_t bytes,
                            const char *what)
{
    *root = NULL;
    CY_CHECK(bytes <= MAX_JSON_BYTES, CARRY_E_FORMAT,
             "%s has %zu bytes; %zu are the most", what, bytes, MAX_JSON_BYTES);
    seed_tables();
    char *plain = cy_alloc(2 * bytes);
    CY_CHECK(plain, CARRY_E_MEMORY, "out of memory: %zu bytes for %s", 2 * bytes, what);
    carry_status status = cy_json_load(root, plain, plain_json(plain, text, bytes), what);
    cy_free(plain);
    return status;
}

cy_config_word cy_config_describe(const json_t *value)
{
    cy_config_word word;
    switch (value ? (int)json_typeof(value) : -1) {
    case JSON_OBJECT:
        snprintf(word.text, sizeof word.text, "an object");
        break;
    case JSON_ARRAY:
        snprintf(word.text, sizeof word.text, "a list of %zu", json_array_size(value));
        break;
    case JSON_STRING: {
        const char *text = json_string_value(value);
        size_t length = strlen(text), shown = length < 40 ? length : 40;
        while (shown < length && shown > 0 && ((unsigned char)text[shown] & 0xc0) == 0x80)
            shown--; /* not inside a character */
        snprintf(word.text, sizeof word.text, "\"%.*s%s\"", (int)shown, text,
                 shown < length ? "..." : "");
        break;
    }
    case JSON_INTEGER:
        snprintf(word.text, sizeof word.text, "%lld",
                 (long long)json_integer_value(value));
        break;
    case JSON_REAL:
        snprintf(word.text, sizeof word.text, "%g", json_real_value(value));
        break;
    case JSON_TRUE:
        snprintf(word.text, sizeof word.text, "true");
        break;
    case JSON_FALSE:
        snprintf(word.text, sizeof word.text, "false");
        break;
    case JSON_NULL:
        snprintf(word.text, sizeof word.text, "null");
        break;
    default:
        snprintf(word.text, sizeof word.text, "missing");
    }
    return word;
}

bool cy_config_whole(const json_t *value, uint64_t *whole)
{
    if (json_is_integer(value) && json_integer_value(value) >= 0) {
        *whole = (uint64_t)json_integer_value(value);
        return *whole <= (uint64_t)TWO_TO_53;
    }
    if (!json_is_real(value)) return false;
    double real = json_real_value(value);
    if (!(real >= 0 && real <= TWO_TO_53)) return false;
    *whole = (uint64_t)real;
    return (double)*whole == real;
}

carry_status cy_config_flag(const json_t *config, const char *owner, const char *key,
                            bool missing, bool *value)
{
    const json_t *found = json_object_get(config, key);
    uint64_t whole = 2;
    if (!found || json_is_null(found)) *value = missing;
    else if (json_is_boolean(found)) *value = json_is_true(found);
    else {
        CY_CHECK(cy_config_whole(found, &whole) && whole <= 1, CARRY_E_FORMAT,
                 "%s: %s is %s, expected true or false", owner, key,
                 cy_config_describe(found).text);
        *value = whole == 1;
    }
    return CARRY_OK;
}

carry_status cy_config_count(const json_t *config, const char *owner, const char *key,
                             uint64_t missing, uint64_t *value)
{
    const json_t *found = json_object_get(config, key);
    *value = missing;
    if (!found || json_is_null(found)) return CARRY_OK;
    CY_CHECK(cy_config_whole(found, value), CARRY_E_FORMAT,
             "%s: %s is %s, expected a whole number", owner, key,
             cy_config_describe(found).text);
    return CARRY_OK;
}
