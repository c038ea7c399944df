/* One sentence on stderr, and the exit code for it. */
#include "report.h"

#include "progress.h"

#include <errno.h>
#include <stdarg.h>
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
    char sentence[2048];
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

int cy_finish_stdout(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout)) return CY_EXIT_OK;
    return cy_report(CY_EXIT_FAILED, "standard output could not be written: %s",
                     strerror(errno));
}
