#include "graph/json.h"

#include <stdbool.h>

/* Before parsing: a text of nothing but '[' must not choose how deep the parser recurses. */
static carry_status check_depth(const char *json, size_t bytes, const char *what)
{
    size_t depth = 0;
    bool string = false;
    for (size_t i = 0; i < bytes; i++) {
        if (string) {
            if (json[i] == '\\') i++;
            else if (json[i] == '"') string = false;
        } else if (json[i] == '"') {
            string = true;
        } else if (json[i] == '{' || json[i] == '[') {
            CY_CHECK(++depth <= CY_JSON_MAX_DEPTH, CARRY_E_FORMAT,
                     "%s nests deeper than %d", what, CY_JSON_MAX_DEPTH);
        } else if ((json[i] == '}' || json[i] == ']') && depth) {
            depth--;
        }
    }
    return CARRY_OK;
}

carry_status cy_json_load(json_t **root, const char *text, size_t bytes, const char *what)
{
    *root = NULL;
    CY_TRY(check_depth(text, bytes, what));
    json_error_t error;
    *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    CY_CHECK(*root, CARRY_E_FORMAT, "%s is not JSON: %s (byte %d)", what, error.text,
             error.position);
    return CARRY_OK;
}
