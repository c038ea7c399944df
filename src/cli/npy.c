/* NumPy's .npy files, read in pieces. */
#include "npy.h"

#include "npy_header.h"
#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEADER_MOST 65536 /* NumPy itself stops at 10000 */

/* A file in Fortran order scatters every row over all of its length. Up to this size it is held in
 * memory; a longer one is read in stretches, each as long as the rows asked for lie together. */
#define WHOLE_BYTES ((uint64_t)64 << 20)
#define STRIP_BYTES ((size_t)1 << 20)

/* ---- files ------------------------------------------------------------------------------------ */

static int read_at(const cy_npy *npy, void *data, size_t bytes, uint64_t offset)
{
    char *at = data;
    while (bytes > 0) {
        ssize_t got = pread(npy->fd, at, bytes, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0)
            return cy_report(CY_EXIT_FAILED, "%s could not be read: %s", npy->path,
                             strerror(errno));
        if (got == 0)
            return cy_report(CY_EXIT_FAILED, "%s ends before its data do", npy->path);
        at += got, bytes -= (size_t)got, offset += (uint64_t)got;
    }
    return CY_EXIT_OK;
}

/* Pieces are read out of order, so a pipe has to be kept somewhere; not in memory. */
static int spool(cy_npy *npy)
{
    static char buffer[1 << 16];
    FILE *file = tmpfile();
    int copy = file == NULL ? -1 : fcntl(fileno(file), F_DUPFD_CLOEXEC, 3);
    if (file != NULL) fclose(file);
    if (copy < 0)
        return cy_report(CY_EXIT_FAILED, "%s: no temporary file to keep it in: %s",
                         npy->path, strerror(errno));
    int source = npy->fd, code = CY_EXIT_OK;
    npy->fd = copy;
    while (code == CY_EXIT_OK) {
        ssize_t got = read(source, buffer, sizeof buffer);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) {
            if (got < 0)
                code = cy_report(CY_EXIT_FAILED, "%s could not be read: %s", npy->path,
                                 strerror(errno));
            break;
        }
        for (ssize_t done = 0; done < got && code == CY_EXIT_OK;) {
            ssize_t wrote = write(copy, buffer + done, (size_t)(got - done));
            if (wrote > 0) done += wrote;
            else if (errno != EINTR)
                code = cy_report(CY_EXIT_FAILED,
                                 "%s: its temporary file could not be written: %s",
                                 npy->path, strerror(errno));
        }
    }
    close(source);
    return code;
}

static int open_checked(cy_npy *npy)
{
    struct stat info;
    npy->fd = open(npy->path, O_RDONLY | O_CLOEXEC);
    if (npy->fd < 0 || fstat(npy->fd, &info) != 0)
        return cy_report(CY_EXIT_FAILED, "%s could not be opened: %s", npy->path,
                         strerror(errno));
    if (S_ISDIR(info.st_mode))
        return cy_report(CY_EXIT_FAILED, "%s is a folder, not a file", npy->path);
    if (!S_ISREG(info.st_mode)) {
        int code = spool(npy);
        if (code != CY_EXIT_OK) return code;
        if (fstat(npy->fd, &info) != 0)
            return cy_report(CY_EXIT_FAILED, "%s: %s", npy->path, strerror(errno));
    }

    unsigned char head[12];
    uint64_t size = (uint64_t)info.st_size;
    if (size < sizeof head ||
        pread(npy->fd, head, sizeof head, 0) != (ssize_t)sizeof head ||
        memcmp(head, "\x93NUMPY", 6) != 0)
        return cy_report(CY_EXIT_FAILED, "%s is not a .npy file", npy->path);
    if (head[6] < 1 || head[6] > 3 || head[7] != 0)
        return cy_report(CY_EXIT_FAILED,
                         "%s is a .npy file of version %u.%u; 1.0 to 3.0 are read",
                         npy->path, head[6], head[7]);
    uint64_t header_at = head[6] == 1 ? 10 : 12;
    uint64_t header_bytes = head[8] | (uint64_t)head[9] << 8;
    if (head[6] > 1) header_bytes |= (uint64_t)head[10] << 16 | (uint64_t)head[11] << 24;
    if (header_bytes > HEADER_MOST)
        return cy_report(CY_EXIT_FAILED,
                         "%s has a header of %" PRIu64 " bytes; at most %d are read",
                         npy->path, header_bytes, HEADER_MOST);
    if (header_at + header_bytes > size)
        return cy_report(CY_EXIT_FAILED, "%s ends inside its header", npy->path);

    char *text = malloc(header_bytes + 1), why[160];
    if (text == NULL) return cy_report(CY_EXIT_FAILED, "%s: out of memory", npy->path);
    int code = read_at(npy, text, header_bytes, header_at);
    const char *wrong =
        code != CY_EXIT_OK ? NULL
                           : cy_npy_header_read(npy, text, header_bytes, why, sizeof why);
    free(text);
    if (code != CY_EXIT_OK) return code;
    if (wrong != NULL) return cy_report(CY_EXIT_FAILED, "%s %s", npy->path, wrong);

    npy->data_at = header_at + header_bytes;
    uint64_t expected = npy->data_at + npy->count * npy->bytes;
    if (size != expected)
        return cy_report(CY_EXIT_FAILED,
                         "%s is %" PRIu64
                         " bytes long, but its header speaks of %" PRIu64,
                         npy->path, size, expected);
    return CY_EXIT_OK;
}

int cy_npy_open(cy_npy *npy, const char *path)
{
    *npy = (cy_npy)CY_NPY_CLOSED;
    npy->path = strdup(path);
    int code = npy->path == NULL ? cy_report(CY_EXIT_FAILED, "%s: out of memory", path)
                                 : open_checked(npy);
    if (code != CY_EXIT_OK) cy_npy_close(npy);
    return code;
}

void cy_npy_close(cy_npy *npy)
{
    if (npy->fd >= 0) close(npy->fd);
    free(npy->path);
    free(npy->whole);
    free(npy->piece);
    free(npy->strip);
    *npy = (cy_npy)CY_NPY_CLOSED;
}

/* ---- pieces ----------------------------------------------------------------------------------- */

static int read_c_order(cy_npy *npy, const cy_npy_view *view, uint64_t row, size_t rows,
                        uint64_t step, size_t steps)
{
    uint64_t width_bytes = view->width * npy->bytes;
    if (steps == view->steps)
        return read_at(npy, npy->piece, rows * steps * width_bytes,
                       npy->data_at + row * steps * width_bytes);
    for (size_t r = 0; r < rows; r++) {
        uint64_t at = ((row + r) * view->steps + step) * width_bytes;
        int code = read_at(npy, npy->piece + r * steps * width_bytes, steps * width_bytes,
                           npy->data_at + at);
        if (code != CY_EXIT_OK) return code;
    }
    return CY_EXIT_OK;
}

/* `count` numbers that lie together, to places `stride` numbers apart. */
static void scatter(unsigned char *to, const unsigned char *from, size_t count,
                    size_t stride, unsigned bytes)
{
    switch (bytes) {
    case 4:
        for (size_t i = 0; i < count; i++)
            memcpy(to + i * stride * 4, from + i * 4, 4);
        break;
    case 8:
        for (size_t i = 0; i < count; i++)
            memcpy(to + i * stride * 8, from + i * 8, 8);
        break;
    default:
        for (size_t i = 0; i < count; i++)
            memcpy(to + i * stride * bytes, from + i * bytes, bytes);
    }
}

static int read_fortran_order(cy_npy *npy, const cy_npy_view *view, uint64_t row,
                              size_t rows, uint64_t step, size_t steps)
{
    size_t bytes = npy->bytes, strip_rows = STRIP_BYTES / bytes;
    if (npy->whole == NULL && npy->count * bytes <= WHOLE_BYTES) {
        npy->whole = malloc(npy->count * bytes);
        if (npy->whole == NULL)
            return cy_report(CY_EXIT_FAILED, "%s: out of memory", npy->path);
        int code = read_at(npy, npy->whole, npy->count * bytes, npy->data_at);
        if (code != CY_EXIT_OK) return code;
    }
    if (npy->whole == NULL && npy->strip == NULL) {
        npy->strip = malloc(STRIP_BYTES);
        if (npy->strip == NULL)
            return cy_report(CY_EXIT_FAILED, "%s: out of memory", npy->path);
    }
    /* Whole columns of a few rows lie together: read as many steps at once as the strip holds. */
    size_t steps_together = 1;
    if (rows == view->rows && rows < strip_rows) steps_together = strip_rows / rows;
    for (uint64_t k = 0; k < view->width; k++) {
        for (size_t t = 0; t < steps; t += steps_together) {
            size_t together = steps - t < steps_together ? steps - t : steps_together;
            for (size_t r = 0; r < rows; r += strip_rows) {
                size_t part = rows - r < strip_rows ? rows - r : strip_rows;
                uint64_t at = row + r + view->rows * (step + t + view->steps * k);
                const unsigned char *from = npy->strip;
                if (npy->whole != NULL) from = npy->whole + at * bytes;
                else {
                    int code = read_at(npy, npy->strip, part * together * bytes,
                                       npy->data_at + at * bytes);
                    if (code != CY_EXIT_OK) return code;
                }
                for (size_t s = 0; s < together; s++)
                    scatter(npy->piece + ((r * steps + t + s) * view->width + k) * bytes,
                            from + s * part * bytes, part, steps * view->width,
                            (unsigned)bytes);
            }
        }
    }
    return CY_EXIT_OK;
}

int cy_npy_read(cy_npy *npy, const cy_npy_view *view, uint64_t row, size_t rows,
                uint64_t step, size_t steps)
{
    size_t needed = rows * steps * view->width * npy->bytes;
    if (needed > npy->piece_bytes) {
        free(npy->piece);
        npy->piece = malloc(needed);
        npy->piece_bytes = npy->piece == NULL ? 0 : needed;
        if (npy->piece == NULL)
            return cy_report(CY_EXIT_FAILED, "%s: out of memory for a piece of %zu bytes",
                             npy->path, needed);
    }
    if (npy->fortran) return read_fortran_order(npy, view, row, rows, step, steps);
    return read_c_order(npy, view, row, rows, step, steps);
}

int cy_npy_rows_first(const cy_npy *npy)
{
    return npy->fortran && npy->count * npy->bytes > WHOLE_BYTES;
}

/* ---- numbers ---------------------------------------------------------------------------------- */

static float half_to_f32(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = half >> 10 & 31,
             fraction = half & 1023, bits;
    float value;
    if (exponent == 31) bits = 0x7f800000 | fraction << 13;
    else if (exponent != 0) bits = (exponent + 112) << 23 | fraction << 13;
    else {
        value = (float)fraction * 0x1p-24f;
        memcpy(&bits, &value, 4);
    }
    bits |= sign;
    memcpy(&value, &bits, 4);
    return value;
}

/* The bytes of number `index` in this machine's order. */
static void fetch(const cy_npy *npy, size_t index, void *number)
{
    const unsigned char *from = npy->piece + index * npy->bytes;
    if (!npy->swapped) {
        memcpy(number, from, npy->bytes);
        return;
    }
    for (unsigned i = 0; i < npy->bytes; i++)
        ((unsigned char *)number)[i] = from[npy->bytes - 1 - i];
}

/* One loop per type of the file; `type` is read as it lies, then converted once. */
#define CONVERT(type, convert)           \
    for (size_t i = 0; i < count; i++) { \
        type number;                     \
        fetch(npy, first + i, &number);  \
        out[i] = convert(number);        \
    }                                    \
    return

#define NEAREST(number)  ((float)(number))
#define NOT_ZERO(number) ((number) != 0 ? 1.0f : 0.0f)

void cy_npy_to_f32(const cy_npy *npy, size_t first, size_t count, float *out)
{
    if (npy->kind == 'f' && npy->bytes == 4 && !npy->swapped) {
        memcpy(out, npy->piece + first * 4, count * 4);
        return;
    }
    switch (npy->kind << 8 | (int)npy->bytes) {
    case 'b' << 8 | 1:
        CONVERT(uint8_t, NOT_ZERO);
    case 'i' << 8 | 1:
        CONVERT(int8_t, NEAREST);
    case 'i' << 8 | 2:
        CONVERT(int16_t, NEAREST);
    case 'i' << 8 | 4:
        CONVERT(int32_t, NEAREST);
    case 'i' << 8 | 8:
        CONVERT(int64_t, NEAREST);
    case 'u' << 8 | 1:
        CONVERT(uint8_t, NEAREST);
    case 'u' << 8 | 2:
        CONVERT(uint16_t, NEAREST);
    case 'u' << 8 | 4:
        CONVERT(uint32_t, NEAREST);
    case 'u' << 8 | 8:
        CONVERT(uint64_t, NEAREST);
    case 'f' << 8 | 2:
        CONVERT(uint16_t, half_to_f32);
    case 'f' << 8 | 4:
        CONVERT(float, NEAREST);
    case 'f' << 8 | 8:
        CONVERT(double, NEAREST);
    case 'f' << 8 | 16:
        CONVERT(long double, NEAREST);
    }
}

static long double to_real(const cy_npy *npy, size_t index)
{
    union {
        uint16_t f2;
        float f4;
        double f8;
        long double f16;
    } number;
    fetch(npy, index, &number);
    switch (npy->bytes) {
    case 2:
        return half_to_f32(number.f2);
    case 4:
        return number.f4;
    case 8:
        return number.f8;
    default:
        return number.f16;
    }
}

int cy_npy_to_whole(const cy_npy *npy, size_t index, int64_t *value)
{
    if (npy->kind == 'f') {
        long double real = to_real(npy, index);
        if (!(real >= -0x1p62L && real <= 0x1p62L) || real != truncl(real)) return 0;
        *value = (int64_t)real;
        return 1;
    }
    uint64_t bits = 0;
    unsigned char number[8];
    fetch(npy, index, number);
    for (unsigned i = 0; i < npy->bytes; i++) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
        bits |= (uint64_t)number[i] << (8 * i);
#else
        bits = bits << 8 | number[i];
#endif
    }
    if (npy->kind == 'i' && npy->bytes < 8 && (bits >> (8 * npy->bytes - 1) & 1) != 0)
        bits |= UINT64_MAX << (8 * npy->bytes);
    if (npy->kind == 'b') bits = bits != 0;
    if (npy->kind == 'u' && bits > INT64_MAX) return 0;
    memcpy(value, &bits, 8);
    return 1;
}

const char *cy_npy_to_text(const cy_npy *npy, size_t index, char *text, size_t bytes)
{
    int64_t whole;
    if (cy_npy_to_whole(npy, index, &whole)) snprintf(text, bytes, "%" PRId64, whole);
    else if (npy->kind == 'f') snprintf(text, bytes, "%.9Lg", to_real(npy, index));
    else {
        uint64_t number = 0; /* only uint64 does not fit */
        fetch(npy, index, &number);
        snprintf(text, bytes, "%" PRIu64, number);
    }
    return text;
}

/* ---- shapes and headers ----------------------------------------------------------------------- */

const char *cy_shape_text(char text[CY_SHAPE_TEXT], const uint64_t *shape, int rank)
{
    size_t length = 0;
    for (int i = 0; i < rank; i++)
        length += (size_t)snprintf(text + length, CY_SHAPE_TEXT - length, "%s%" PRIu64,
                                   i == 0 ? "[" : ", ", shape[i]);
    snprintf(text + length, CY_SHAPE_TEXT - length, "]");
    return text;
}

size_t cy_npy_header(char header[CY_NPY_HEADER], const uint64_t *shape, int rank)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    static const char head[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (";
#else
    static const char head[] = "{'descr': '>f4', 'fortran_order': False, 'shape': (";
#endif
    size_t length = 10;
    length += (size_t)snprintf(header + length, CY_NPY_HEADER - length, "%s", head);
    for (int i = 0; i < rank; i++)
        length += (size_t)snprintf(header + length, CY_NPY_HEADER - length, "%s%" PRIu64,
                                   i == 0 ? "" : ", ", shape[i]);
    length += (size_t)snprintf(header + length, CY_NPY_HEADER - length, "%s), }",
                               rank == 1 ? "," : "");
    while ((length + 1) % 64 != 0)
        header[length++] = ' ';
    header[length++] = '\n';
    memcpy(header, "\x93NUMPY\x01\x00", 8);
    header[8] = (char)((length - 10) & 255);
    header[9] = (char)((length - 10) >> 8);
    return length;
}
