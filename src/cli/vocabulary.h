/* The strings a character model speaks in: token i is string i. */
#ifndef CY_CLI_VOCABULARY_H
#define CY_CLI_VOCABULARY_H

#include <stddef.h>
#include <stdint.h>

typedef struct cy_vocabulary {
    size_t count;
    const char **texts; /* UTF-8, in the order of the file */
    size_t *bytes;
    size_t longest; /* bytes of the longest text */
    size_t *sorted; /* token numbers, by text */
    void *json;
} cy_vocabulary;

/* Opens a file that holds a JSON array of different strings, none empty. CY_EXIT_OK, or
 * CY_EXIT_FAILED after a sentence. Close it in either case. */
int cy_vocabulary_open(cy_vocabulary *vocabulary, const char *path);
void cy_vocabulary_close(cy_vocabulary *vocabulary);

/* Tokens of a text, at each place the longest string that fits. *tokens (one for each byte of the
 * text is room enough) is the caller's. CY_EXIT_OK, or CY_EXIT_FAILED after a sentence that names the
 * first character that begins no string. */
int cy_vocabulary_read(const cy_vocabulary *vocabulary, const char *text, int32_t *tokens,
                       size_t *count);

#endif
