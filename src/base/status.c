#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char sentence[CY_SENTENCE_BYTES];

carry_status cy_fail(carry_status code, const char *format, ...)
{
    char
        text[CY_SENTENCE_BYTES]; /* first here: the arguments may point into `sentence` */
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    /* Names in a sentence come from model files: one sentence stays one line of a log. */
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = '?';
    memcpy(sentence, text, sizeof text);
    return code;
}

const char *cy_error(void)
{
    return sentence;
}
