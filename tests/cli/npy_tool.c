/* Arrays for the transcripts: makes them in every type and order, compares, cuts and shows them. Shares
 * no code with the command, so that one can tell on the other.
 *
 *   npy make FILE TYPE ORDER SHAPE SEED LOW HIGH   whole numbers LOW .. HIGH, by SEED and place alone;
 *                                                  TYPE: '<f4', '>i2' ...; ORDER: C or F; SHAPE: 2,5,3
 *   npy show FILE                                  type, shape and numbers of a '<f4' file in C order
 *   npy shape FILE                                 type and shape alone
 *   npy same A B                                   the same bits? Or says where not, and exits with 1
 *   npy near A B TOLERANCE                         |a - b| <= TOLERANCE * max(1, |b|)? Likewise
 *   npy cut FILE OUT AXIS FROM TO                  part of axis 0 or 1
 *   npy join A B OUT AXIS                          A and then B along axis 0 or 1
 *   npy zero FILE OUT L,L,...                      OUT is FILE with zeros from step L of each row on
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct array {
    uint64_t shape[3]; /* padded with 1 */
    int rank;
    uint64_t count;
    float *data;
} array;

static _Noreturn void fail(const char *path, const char *why)
{
    printf("npy: %s: %s\n", path, why);
    exit(1);
}

/* Memory until the program ends, so that a leak checker has nothing to say. */
static void *blocks[64];
static size_t block_count;

static void free_blocks(void)
{
    while (block_count > 0)
        free(blocks[--block_count]);
}

static void *zeroed(size_t count, size_t bytes)
{
    void *block = block_count == 64 ? NULL : calloc(count, bytes);
    if (block == NULL) fail("memory", "there is none");
    return blocks[block_count++] = block;
}

static void read_shape(const char *text, array *a)
{
    a->rank = 0, a->count = 1;
    a->shape[0] = a->shape[1] = a->shape[2] = 1;
    while (a->rank < 3 && *text >= '0' && *text <= '9') {
        char *end;
        a->shape[a->rank] = strtoull(text, &end, 10);
        a->count *= a->shape[a->rank++];
        text = end + strspn(end, ", ");
    }
}

static void write_header(FILE *file, const char *type, int fortran, const array *a)
{
    char text[246] = "";
    int length =
        snprintf(text, sizeof text, "{'descr': '%s', 'fortran_order': %s, 'shape': (",
                 type, fortran ? "True" : "False");
    for (int i = 0; i < a->rank; i++)
        length += snprintf(text + length, sizeof text - (size_t)length, "%" PRIu64 ",%s",
                           a->shape[i], i + 1 < a->rank ? " " : "");
    length += snprintf(text + length, sizeof text - (size_t)length, "), }");
    while ((length + 11) % 64 != 0)
        text[length++] = ' ';
    text[length++] = '\n';
    fwrite("\x93NUMPY\x01\x00", 1, 8, file);
    fputc(length & 255, file);
    fputc(length >> 8, file);
    fwrite(text, 1, (size_t)length, file);
}

/* Only what this program and NumPy write for float32 in C order. */
static array load(const char *path)
{
    array a;
    unsigned char head[10];
    FILE *file = fopen(path, "rb");
    if (file == NULL) fail(path, "cannot be opened");
    if (fread(head, 1, 10, file) != 10 || memcmp(head, "\x93NUMPY\x01", 7) != 0)
        fail(path, "is no .npy file");
    size_t length = head[8] + 256u * head[9];
    char *text = zeroed(length + 1, 1);
    if (fread(text, 1, length, file) != length) fail(path, "has no header");
    const char *shape = strstr(text, "'shape': (");
    if (strstr(text, "'descr': '<f4'") == NULL || strstr(text, "False") == NULL ||
        shape == NULL)
        fail(path, "is not float32 in C order");
    read_shape(shape + strlen("'shape': ("), &a);
    a.data = zeroed(a.count + 1, sizeof *a.data);
    if (fread(a.data, 4, a.count + 1, file) != a.count) fail(path, "has another length");
    fclose(file);
    return a;
}

static void save(const char *path, const array *a)
{
    FILE *file = fopen(path, "wb");
    if (file == NULL) fail(path, "cannot be made");
    write_header(file, "<f4", 0, a);
    fwrite(a->data, 4, a->count, file);
    if (fclose(file) != 0) fail(path, "cannot be written");
}

/* ---- make ------------------------------------------------------------------------------------- */

static uint64_t mixed(uint64_t x)
{
    x = (x ^ x >> 31) * UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 29) * UINT64_C(0xbf58476d1ce4e5b9);
    return x ^ x >> 32;
}

static uint16_t half_of(int64_t value) /* |value| <= 2048: exact */
{
    uint16_t sign = value < 0 ? 0x8000 : 0;
    uint64_t magnitude = (uint64_t)(value < 0 ? -value : value);
    if (magnitude == 0) return sign;
    int exponent = 63 - __builtin_clzll(magnitude);
    return (uint16_t)(sign | (exponent + 15) << 10 |
                      (((exponent > 10 ? magnitude >> (exponent - 10)
                                       : magnitude << (10 - exponent)) &
                        1023)));
}

static void put(FILE *file, const char *type, int64_t value)
{
    unsigned char bytes[16] = {0};
    int size = atoi(type + 2);
    float f4 = (float)value;
    double f8 = (double)value;
    long double f16 = (long double)value;
    uint16_t f2 = half_of(value);
    if (type[1] != 'f') memcpy(bytes, &value, 8);
    else if (size == 2) memcpy(bytes, &f2, 2);
    else if (size == 4) memcpy(bytes, &f4, 4);
    else if (size == 8) memcpy(bytes, &f8, 8);
    else memcpy(bytes, &f16, sizeof f16);
    for (int i = 0; i < size; i++)
        fputc(bytes[type[0] == '>' ? size - 1 - i : i], file);
}

static int make(char **argv)
{
    array a;
    const char *path = argv[0], *type = argv[1];
    int fortran = argv[2][0] == 'F';
    uint64_t seed = strtoull(argv[4], NULL, 10);
    int64_t low = strtoll(argv[5], NULL, 10), high = strtoll(argv[6], NULL, 10);
    read_shape(argv[3], &a);
    FILE *file = fopen(path, "wb");
    if (file == NULL) fail(path, "cannot be made");
    write_header(file, type, fortran, &a);
    for (uint64_t i = 0; i < a.count; i++) {
        uint64_t place = i;
        if (fortran) {
            uint64_t x = i % a.shape[0], y = i / a.shape[0] % a.shape[1],
                     z = i / a.shape[0] / a.shape[1];
            place = (x * a.shape[1] + y) * a.shape[2] + z;
        }
        put(file, type,
            low + (int64_t)(mixed(place + 1000003 * seed) % (uint64_t)(high - low + 1)));
    }
    return fclose(file) != 0;
}

/* ---- look and compare ------------------------------------------------------------------------- */

static int show(const char *path, int numbers)
{
    array a = load(path);
    printf("float32");
    for (int i = 0; i < a.rank; i++)
        printf("%s%" PRIu64, i == 0 ? " [" : ", ", a.shape[i]);
    printf("]\n");
    uint64_t width = a.shape[a.rank - 1];
    for (uint64_t i = 0; numbers && i < a.count; i++)
        printf("%s%.6g%s", i % width == 0 ? "  " : " ", a.data[i],
               (i + 1) % width == 0 ? "\n" : "");
    return 0;
}

static int compare(const char *left, const char *right, double tolerance)
{
    array a = load(left), b = load(right);
    if (a.rank != b.rank || memcmp(a.shape, b.shape, sizeof a.shape) != 0) {
        printf("npy: %s and %s have different shapes\n", left, right);
        return 1;
    }
    for (uint64_t i = 0; i < a.count; i++) {
        double apart = fabs((double)a.data[i] - b.data[i]);
        double scale = fabs((double)b.data[i]) > 1 ? fabs((double)b.data[i]) : 1;
        int differ = tolerance == 0 ? memcmp(&a.data[i], &b.data[i], 4) != 0
                                    : !(apart <= tolerance * scale);
        if (!differ) continue;
        printf("npy: number %" PRIu64 ": %s has %.9g, %s has %.9g\n", i, left, a.data[i],
               right, b.data[i]);
        return 1;
    }
    return 0;
}

/* ---- cut, join, zero -------------------------------------------------------------------------- */

static int cut(char **argv)
{
    array a = load(argv[0]);
    int axis = atoi(argv[2]);
    uint64_t from = strtoull(argv[3], NULL, 10), to = strtoull(argv[4], NULL, 10), at = 0;
    uint64_t inner = axis == 0 ? a.shape[1] * a.shape[2] : a.shape[2];
    uint64_t outer = axis == 0 ? 1 : a.shape[0], length = a.shape[axis];
    for (uint64_t o = 0; o < outer; o++)
        for (uint64_t i = from * inner; i < to * inner; i++)
            a.data[at++] = a.data[o * length * inner + i];
    a.shape[axis] = to - from;
    a.count = at;
    save(argv[1], &a);
    return 0;
}

static int join(char **argv)
{
    array a = load(argv[0]), b = load(argv[1]), both = a;
    int axis = atoi(argv[3]);
    uint64_t outer = axis == 0 ? 1 : a.shape[0];
    both.shape[axis] += b.shape[axis];
    both.count += b.count;
    both.data = zeroed(both.count + 1, sizeof *both.data);
    float *to = both.data;
    for (uint64_t o = 0; o < outer; o++) {
        memcpy(to, a.data + o * (a.count / outer), a.count / outer * 4);
        to += a.count / outer;
        memcpy(to, b.data + o * (b.count / outer), b.count / outer * 4);
        to += b.count / outer;
    }
    save(argv[2], &both);
    return 0;
}

static int zero(char **argv)
{
    array a = load(argv[0]);
    const char *at = argv[2];
    for (uint64_t r = 0; r < a.shape[0]; r++) {
        char *end;
        uint64_t length = strtoull(at, &end, 10);
        for (uint64_t i = length * a.shape[2]; i < a.shape[1] * a.shape[2]; i++)
            a.data[r * a.shape[1] * a.shape[2] + i] = 0;
        at = *end == ',' ? end + 1 : end;
    }
    save(argv[1], &a);
    return 0;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    atexit(free_blocks);
    argv += 2, argc -= 2;
    if (strcmp(what, "make") == 0 && argc == 7) return make(argv);
    if (strcmp(what, "show") == 0 && argc == 1) return show(argv[0], 1);
    if (strcmp(what, "shape") == 0 && argc == 1) return show(argv[0], 0);
    if (strcmp(what, "same") == 0 && argc == 2) return compare(argv[0], argv[1], 0);
    if (strcmp(what, "near") == 0 && argc == 3)
        return compare(argv[0], argv[1], atof(argv[2]));
    if (strcmp(what, "cut") == 0 && argc == 5) return cut(argv);
    if (strcmp(what, "join") == 0 && argc == 4) return join(argv);
    if (strcmp(what, "zero") == 0 && argc == 3) return zero(argv);
    printf("npy: see the head of npy_tool.c\n");
    return 2;
}
