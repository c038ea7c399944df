#include "bench_shapes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A value of one axis, and how much later than the first ones it is measured. */
typedef struct choice {
    unsigned value, rank;
} choice;

static const choice units[] = {{512, 0}, {1024, 0}, {256, 1},
                               {768, 1}, {128, 2},  {2048, 2}};
static const choice rows[] = {{1, 0}, {16, 0}, {64, 1}, {4, 1}, {256, 2}, {1024, 3}};
static const choice steps[] = {{1, 0}, {256, 0}, {16, 1}, {1024, 2}};
static const choice layers[] = {{1, 0}, {2, 1}, {4, 2}};
static const choice precisions[] = {{CARRY_COMPUTE_BF16, 0},
                                    {CARRY_COMPUTE_FP32, 0},
                                    {CARRY_COMPUTE_FP16, 1},
                                    {CARRY_COMPUTE_TF32, 2}};
#define COUNT(array) (sizeof(array) / sizeof *(array))

static const char *const names[] = {"fp32", "tf32", "bf16", "fp16"};

const char *bench_precision_name(carry_precision precision)
{
    return names[precision];
}

int bench_precision_parse(const char *name, carry_precision *precision)
{
    for (unsigned i = 0; i < COUNT(names); i++)
        if (strcmp(name, names[i]) == 0) {
            *precision = (carry_precision)i;
            return 1;
        }
    return 0;
}

static bench_shape *room_for(size_t count)
{
    bench_shape *shapes = malloc((count ? count : 1) * sizeof *shapes);
    if (!shapes) {
        fprintf(stderr, "bench: out of memory: %zu shapes\n", count);
        exit(1);
    }
    return shapes;
}

size_t bench_shapes_all(bench_shape **shapes)
{
    const unsigned last = 2 + 3 + 2 + 2 + 2;
    bench_shape *all = room_for(COUNT(units) * COUNT(rows) * COUNT(steps) *
                                COUNT(layers) * COUNT(precisions));
    size_t count = 0;
    /* Shapes of one model stay together within a rank: it is opened once for them. */
    for (unsigned rank = 0; rank <= last; rank++)
        for (size_t p = 0; p < COUNT(precisions); p++)
            for (size_t l = 0; l < COUNT(layers); l++)
                for (size_t u = 0; u < COUNT(units); u++)
                    for (size_t r = 0; r < COUNT(rows); r++)
                        for (size_t s = 0; s < COUNT(steps); s++)
                            if (precisions[p].rank + layers[l].rank + units[u].rank +
                                    rows[r].rank + steps[s].rank ==
                                rank)
                                all[count++] =
                                    (bench_shape){units[u].value, rows[r].value,
                                                  steps[s].value, layers[l].value,
                                                  (carry_precision)precisions[p].value};
    *shapes = all;
    return count;
}

size_t bench_shapes_read(const char *path, bench_shape **shapes)
{
    enum { MOST = 4096 };
    FILE *file = fopen(path, "r");
    if (!file) {
        fprintf(stderr, "bench: %s cannot be read\n", path);
        exit(1);
    }
    bench_shape *all = room_for(MOST);
    size_t count = 0;
    char line[128], name[8];
    while (fgets(line, sizeof line, file)) {
        bench_shape s;
        if (line[0] == '#' || line[0] == '\n') continue;
        if (count == MOST ||
            sscanf(line, "%u %u %u %u %7s", &s.units, &s.rows, &s.steps, &s.layers,
                   name) != 5 ||
            !bench_precision_parse(name, &s.precision) || !s.units || !s.rows ||
            !s.steps || !s.layers) {
            fprintf(stderr, "bench: %s has a line that is no shape: %s\n", path, line);
            exit(1);
        }
        all[count++] = s;
    }
    fclose(file);
    *shapes = all;
    return count;
}

void bench_shapes_print(const bench_shape *shapes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        printf("%u %u %u %u %s\n", shapes[i].units, shapes[i].rows, shapes[i].steps,
               shapes[i].layers, bench_precision_name(shapes[i].precision));
}
