/* JSON from a stranger: bounded depth, no duplicate keys, one sentence when it is wrong. */
#ifndef CY_GRAPH_JSON_H
#define CY_GRAPH_JSON_H

#include "base/status.h"

#include <jansson.h>

/* The library's parser recurses 2048 deep; configs nest 5 to 20. */
#define CY_JSON_MAX_DEPTH 64

/* Parses `bytes` bytes at `text`; `what` names it in the sentence ("config.json"). The caller owns *root
 * (json_decref); NULL on failure. Errors: CARRY_E_FORMAT. */
carry_status cy_json_load(json_t **root, const char *text, size_t bytes,
                          const char *what);

#endif
