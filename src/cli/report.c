/* One sentence on stderr, and the exit code for it. */
#include "report.h"

#include "progress.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* C0 controls and DEL; a byte above 0x7f is part of UTF-8, except the C1 controls U+0080..U+009F
 * (0xc2 0x80..0x9f), which some terminals obey. */
static void blank_controls(char *text)
{
    unsigned char *byte = (unsigned char *)text;
    for (; *byte != 0; byte++) {
        if (*byte < 0x20 || *byte == 0x7f) *byte = '?';
        else if (*byte == 0xc2 && byte[1] >= 0x80 && byte[1] <= 0x9f)
            byte[0] = byte[1] = '?';
    }
}

int cy_report(int code, const char *format, ...)
{
    char sentence[8192]; /* the longest path and what is said about it */
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    blank_controls(sentence);
    cy_progress_clear();
    fprintf(stderr, "carry: %s\n", sentence);
    return code;
}

void cy_print_text(FILE *stream, const char *text)
{
    const unsigned char *byte = (const unsigned char *)text;
    for (; *byte != 0; byte++) {
        int c1 = *byte == 0xc2 && byte[1] >= 0x80 && byte[1] <= 0x9f;
        fputc(*byte < 0x20 || *byte == 0x7f || c1 ? '?' : *byte, stream);
        if (c1) byte++;
    }
}

/* Bytes of the character at `at`, which ends in a 0; 0 if none is there. */
static size_t utf8_length(const unsigned char *at)
{
    static const struct {
        unsigned char first, last, low, high; /* of the first byte; of the second */
        size_t bytes;
    } forms[] = {{0x01, 0x7f, 0x00, 0xff, 1}, {0xc2, 0xdf, 0x80, 0xbf, 2},
                 {0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
                 {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
                 {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4},
                 {0xf4, 0xf4, 0x80, 0x8f, 4}};
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        if (*at < forms[i].first || *at > forms[i].last) continue;
        if (at[1] < forms[i].low || at[1] > forms[i].high) return 0;
        for (size_t k = 2; k < forms[i].bytes; k++)
            if (at[k] < 0x80 || at[k] > 0xbf) return 0;
        return forms[i].bytes;
    }
    return 0;
}

char *cy_utf8_text(const char *text)
{
    static const char unknown[] = "\xef\xbf\xbd";
    char *valid = malloc(strlen(text) * (sizeof unknown - 1) + 1), *to = valid;
    if (valid == NULL) return NULL;
    while (*text != 0) {
        size_t bytes = utf8_length((const unsigned char *)text);
        memcpy(to, bytes == 0 ? unknown : text, bytes == 0 ? sizeof unknown - 1 : bytes);
        to += bytes == 0 ? sizeof unknown - 1 : bytes;
        text += bytes == 0 ? 1 : bytes;
    }
    *to = 0;
    return valid;
}

int cy_finish_stdout(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout)) return CY_EXIT_OK;
    return cy_report(CY_EXIT_FAILED, "standard output could not be written: %s",
                     strerror(errno));
}
