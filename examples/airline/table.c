/* Prints Keras' and carry's predictions side by side and compares them.
 *
 *     table keras-predictions.csv scale.json Y.npy
 *
 * Y.npy is what `carry run` wrote: float32 [N, 1], in the scaled units the network works in.
 * Exit 0 if every prediction agrees with Keras' to 1e-5 of its value, 1 if not or on bad input.
 * The table is also gnuplot's input: index, month, passengers, keras, carry, difference. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define MAX_ROWS 1000
#define LIMIT    1e-5

static int fail(const char *path, const char *what)
{
    fprintf(stderr, "table: %s: %s\n", path, what);
    return -1;
}

/* Reads a little-endian float32 .npy of shape (N, 1). Returns N, or -1. */
static int read_npy(const char *path, float *values, int capacity)
{
    FILE *file = fopen(path, "rb");
    if (!file) return fail(path, "cannot be opened");
    unsigned char start[10];
    char header[1024] = "";
    int rows = 0, end = 0, count = -1; /* end: set where the whole pattern fits */
    if (fread(start, 1, 10, file) == 10 && memcmp(start, "\x93NUMPY\x01", 7) == 0) {
        size_t length = start[8] | (size_t)start[9] << 8;
        if (length < sizeof header && fread(header, 1, length, file) == length) {
            const char *shape = strstr(header, "'shape': (");
            if (shape && strstr(header, "'<f4'") && !strstr(header, "True") &&
                sscanf(shape, "'shape': (%d, 1)%n", &rows, &end) == 1 && end > 0 &&
                rows > 0 && rows <= capacity &&
                fread(values, sizeof *values, (size_t)rows, file) == (size_t)rows)
                count = rows;
        }
    }
    fclose(file);
    return count < 0 ? fail(path, "is not a float32 .npy of shape (N, 1)") : count;
}

static int read_scale(const char *path, double *low, double *high)
{
    FILE *file = fopen(path, "r");
    if (!file) return fail(path, "cannot be opened");
    int found = fscanf(file, " { \"min\" : %lf , \"max\" : %lf", low, high);
    fclose(file);
    return found == 2 ? 0 : fail(path, "has no {\"min\": ..., \"max\": ...}");
}

int main(int argc, char **argv)
{
    static float y[MAX_ROWS];
    double low, high, worst = 0.0;
    if (argc != 4) {
        fprintf(stderr, "usage: table keras-predictions.csv scale.json Y.npy\n");
        return 2;
    }
    int rows = read_npy(argv[3], y, MAX_ROWS);
    if (rows < 0 || read_scale(argv[2], &low, &high) < 0) return 1;
    FILE *csv = fopen(argv[1], "r");
    if (!csv) return fail(argv[1], "cannot be opened") < 0;

    char line[256], month[16];
    int n = 0, bad = 0, index, worst_row = 0;
    double truth, keras;
    printf("# %3s  %-7s  %10s  %12s  %12s  %12s\n", "row", "month", "passengers", "Keras",
           "carry", "difference");
    while (fgets(line, sizeof line, csv)) {
        if (sscanf(line, "%d,%15[^,],%lf,%lf", &index, month, &truth, &keras) != 4)
            continue; /* the heading */
        if (n < rows) {
            double carry = y[n] * (high - low) + low;
            double relative = fabs(carry - keras) / fabs(keras);
            if (!(relative <= LIMIT)) bad++; /* so written, a NaN is bad too */
            if (relative > worst) worst = relative, worst_row = n;
            printf("  %3d  %-7s  %10.0f  %12.6f  %12.6f  %12.6f\n", index, month, truth,
                   keras, carry, carry - keras);
        }
        n++;
    }
    fclose(csv);
    if (n != rows) {
        fprintf(stderr, "table: Keras made %d predictions, carry %d\n", n, rows);
        return 1;
    }
    printf(
        "# largest relative difference %.1e (row %d), allowed %.0e, rows beyond it: %d\n",
        worst, worst_row, LIMIT, bad);
    return bad ? 1 : 0;
}
