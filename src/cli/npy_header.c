/* The header of a .npy file: the text of a Python dictionary, read strictly. */
#include "npy_header.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

typedef struct reader {
    const char *at, *end;
    char *why;
    size_t why_bytes;
} reader;

static const char *wrong(reader *in, const char *text)
{
    snprintf(in->why, in->why_bytes, "%s", text);
    return in->why;
}

static void skip_blanks(reader *in)
{
    while (in->at < in->end && strchr(" \t\r\n", *in->at) != NULL && *in->at != 0)
        in->at++;
}

static bool take(reader *in, char c)
{
    skip_blanks(in);
    if (in->at == in->end || *in->at != c) return false;
    in->at++;
    return true;
}

static bool take_word(reader *in, const char *word)
{
    size_t length = strlen(word);
    skip_blanks(in);
    if ((size_t)(in->end - in->at) < length || memcmp(in->at, word, length) != 0)
        return false;
    in->at += length;
    return true;
}

/* A quoted string without escapes, which no header needs. */
static bool take_string(reader *in, const char **text, size_t *length)
{
    skip_blanks(in);
    if (in->at == in->end || (*in->at != '\'' && *in->at != '"')) return false;
    const char *end = memchr(in->at + 1, *in->at, (size_t)(in->end - in->at - 1));
    if (end == NULL || memchr(in->at, '\\', (size_t)(end - in->at)) != NULL) return false;
    *text = in->at + 1;
    *length = (size_t)(end - in->at - 1);
    in->at = end + 1;
    return true;
}

static const char *read_descr(cy_npy *npy, reader *in)
{
    const char *text;
    size_t length;
    char order = '=';
    skip_blanks(in);
    if (in->at < in->end && (*in->at == '[' || *in->at == '{'))
        return wrong(in, "holds records; only plain numbers are read");
    if (!take_string(in, &text, &length) || length == 0 || length > 20)
        return wrong(in, "has a 'descr' that is not a type of numbers");
    snprintf(in->why, in->why_bytes,
             "holds data of type '%.*s'; bool, int, uint and float "
             "are read",
             (int)length, text);
    if (strchr("<>=|", *text) != NULL) order = *text++, length--;
    if (length < 2 || length > 3) return in->why;
    unsigned bytes = 0;
    for (size_t i = 1; i < length; i++) {
        if (text[i] < '0' || text[i] > '9') return in->why;
        bytes = bytes * 10 + (unsigned)(text[i] - '0');
    }
    bool known = false;
    switch (text[0]) {
    case 'b':
        known = bytes == 1;
        break;
    case 'i':
    case 'u':
        known = bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8;
        break;
    case 'f':
        /* '<f16' is whatever long double is where it was written; read where that is the same. */
        known = bytes == 2 || bytes == 4 || bytes == 8 ||
                (bytes == 16 && sizeof(long double) == 16);
        break;
    }
    if (!known) return in->why;
    npy->kind = text[0];
    npy->bytes = bytes;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    npy->swapped = order == '>' && bytes > 1;
#else
    npy->swapped = order == '<' && bytes > 1;
#endif
    return NULL;
}

static const char *read_shape(cy_npy *npy, reader *in)
{
    static const char *const not_a_tuple = "has a 'shape' that is not a tuple of lengths";
    int rank = 0;
    bool comma = true;
    if (!take(in, '(')) return wrong(in, not_a_tuple);
    while (!take(in, ')')) {
        uint64_t length = 0;
        if (!comma || in->at == in->end || *in->at < '0' || *in->at > '9')
            return wrong(in, not_a_tuple);
        for (; in->at < in->end && *in->at >= '0' && *in->at <= '9'; in->at++) {
            if (length > (INT64_MAX - 9) / 10)
                return wrong(in, "has a 'shape' with a length beyond 64 bits");
            length = length * 10 + (uint64_t)(*in->at - '0');
        }
        if (in->at < in->end && *in->at == 'L') in->at++; /* written by Python 2 */
        if (rank == CY_NPY_RANK) return wrong(in, "has more than eight axes");
        npy->shape[rank++] = length;
        comma = take(in, ',');
    }
    if (rank == 1 && !comma) return wrong(in, not_a_tuple);
    if (rank == 0) return wrong(in, "is a single number, not an array");
    npy->rank = rank;
    npy->count = 1;
    for (int i = 0; i < rank; i++)
        if (npy->shape[i] == 0) npy->count = 0;
    for (int i = 0; i < rank && npy->count != 0; i++)
        if (__builtin_mul_overflow(npy->count, npy->shape[i], &npy->count) ||
            npy->count > INT64_MAX / 16)
            return wrong(in, "has a 'shape' beyond what any file can hold");
    return NULL;
}

const char *cy_npy_header_read(cy_npy *npy, const char *text, size_t bytes, char *why,
                               size_t why_bytes)
{
    reader in = {text, text + bytes, why, why_bytes};
    unsigned seen = 0;
    bool comma = true;
    if (!take(&in, '{')) return wrong(&in, "has a header that is not a dictionary");
    while (!take(&in, '}')) {
        static const char *const keys[] = {"descr", "fortran_order", "shape"};
        const char *key, *failed = NULL;
        size_t length;
        unsigned which = 0;
        if (!comma || !take_string(&in, &key, &length) || !take(&in, ':'))
            return wrong(&in, "has a header that is not a dictionary of three entries");
        while (which < 3 &&
               (strlen(keys[which]) != length || memcmp(keys[which], key, length)))
            which++;
        if (which == 3 || (seen >> which & 1) != 0)
            return wrong(&in, "has a header with a key that is unknown or given twice");
        seen |= 1u << which;
        if (which == 0) failed = read_descr(npy, &in);
        else if (which == 2) failed = read_shape(npy, &in);
        else if (take_word(&in, "True")) npy->fortran = 1;
        else if (take_word(&in, "False")) npy->fortran = 0;
        else failed = wrong(&in, "has a 'fortran_order' that is neither True nor False");
        if (failed != NULL) return failed;
        comma = take(&in, ',');
    }
    skip_blanks(&in);
    if (seen != 7)
        return wrong(&in, "has a header without one of descr, fortran_order, shape");
    if (in.at != in.end)
        return wrong(&in, "has a header that goes on after its dictionary");
    if (npy->rank == 1) npy->fortran = 0; /* both orders are the same */
    return NULL;
}
