/* A config as Python's json module writes it, and how to ask it for values. */
#ifndef CY_IMPORT_CONFIG_JSON_H
#define CY_IMPORT_CONFIG_JSON_H

#include "base/status.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* Python writes NaN, Infinity and -Infinity, which are no JSON: they are read as null. Otherwise as
 * cy_json_load. Errors: CARRY_E_FORMAT, CARRY_E_MEMORY. */
carry_status cy_config_load(json_t **root, const char *text, size_t bytes,
                            const char *what);

/* A value in a few words, for sentences: 12, "tanh", null, a list, an object. */
typedef struct cy_config_word {
    char text[64];
} cy_config_word;
cy_config_word cy_config_describe(const json_t *value);

/* The value of `key`, which the sentence calls `owner`'s; a missing or null one gives `missing`.
 * Counts are whole numbers from 0 up to 2^53, also written 20.0; flags also 0 and 1. */
carry_status cy_config_flag(const json_t *config, const char *owner, const char *key,
                            bool missing, bool *value);
carry_status cy_config_count(const json_t *config, const char *owner, const char *key,
                             uint64_t missing, uint64_t *value);

/* A whole number of any spelling; false: it is none. */
bool cy_config_whole(const json_t *value, uint64_t *whole);

#endif
