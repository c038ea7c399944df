/* Every CPU kernel, in every variant this machine runs, against the oracle and against each other.
 *
 *     check_kernels [--isa NAME] [--bench]
 *
 * NAME: reference, avx2, avx512, avx512-emulated (the AVX-512 source compiled for AVX2 through SIMDe, so
 * that it is executed on every machine). Without --isa: all there are. */
#include "check.h"

#include "cpu/cpu_control.h"
#include "cpu/cpu_dispatch.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#ifdef CY_EMULATED_AVX512 /* set by CMake where SIMDe is installed */
extern const cy_cpu_kernels cy_cpu_kernels_avx512_emulated;
#endif

static const struct check {
    const char *name;
    void (*run)(const subject *s);
} checks[] = {
    {"pack", check_pack},
    {"dense", check_dense},
    {"lstm_accumulate", check_lstm_accumulate},
    {"lstm_step", check_lstm_step},
    {"gates", check_gates},
    {"cell", check_cell},
    {"activations", check_activations},
    {"graph: accuracy", check_accuracy},
    {"graph: operations", check_operations},
    {"graph: activations", check_pairs},
    {"same bits: company", check_company},
    {"same bits: cuts", check_cuts},
    {"same bits: capacity", check_capacity},
    {"same bits: threads", check_threads},
    {"same bits: variants", check_variants_agree},
    {"nan stays in its row", check_nan},
    {"control word", check_control_word},
};

static size_t comparisons, failures;
static struct {
    char what[48];
    double value;
} figure;

bool expect(bool good, const char *format, ...)
{
    comparisons++;
    if (good) return true;
    if (++failures <= 20) {
        va_list arguments;
        va_start(arguments, format);
        printf("    ");
        vprintf(format, arguments);
        printf("\n");
        va_end(arguments);
    }
    return false;
}

void measured(const char *what, double value)
{
    if (figure.what[0] && value <= figure.value) return;
    snprintf(figure.what, sizeof figure.what, "%s", what);
    figure.value = value;
}

bool expect_bits(const float *got, const float *expected, size_t count, const char *what)
{
    for (size_t i = 0; i < count; i++) {
        bool both_nan = isnan(got[i]) && isnan(expected[i]);
        if (!both_nan && memcmp(&got[i], &expected[i], sizeof(float)) != 0)
            return expect(false, "%s: number %zu of %zu is %a, expected %a", what, i,
                          count, got[i], expected[i]);
    }
    return expect(true, "%s", what);
}

/* check: the name of one of the checks; NULL: all */
static int check_subject(const subject *s, const char *check)
{
    size_t failed = 0, ran = 0;
    uint64_t control = cy_cpu_control_set(); /* kernels run as the backend runs them */
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) {
        if (check && strcmp(check, checks[i].name) != 0) continue;
        ran++;
        comparisons = failures = 0;
        figure.what[0] = '\0';
        checks[i].run(s);
        if (comparisons == 0) expect(false, "nothing was compared");
        printf("%-4s %-16s %-22s %8zu comparisons", failures ? "FAIL" : "ok", s->name,
               checks[i].name, comparisons);
        if (figure.what[0]) printf("   %s %.3g", figure.what, figure.value);
        printf("\n");
        fflush(stdout);
        failed += failures > 0;
    }
    cy_cpu_control_restore(control);
    if (ran == 0) {
        fprintf(stderr, "there is no check '%s'\n", check);
        return 1;
    }
    return (int)failed;
}

int main(int argc, char **argv)
{
    const char *only = NULL, *check = NULL;
    bool bench = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--isa") == 0 && i + 1 < argc) only = argv[++i];
        else if (strcmp(argv[i], "--check") == 0 && i + 1 < argc) check = argv[++i];
        else if (strcmp(argv[i], "--bench") == 0) bench = true;
        else {
            fprintf(stderr,
                    "usage: check_kernels [--isa NAME] [--check NAME] [--bench]\n");
            return 2;
        }
    }
    subject subjects[8];
    size_t count = 0;
    for (const cy_cpu_kernels *k; (k = cy_cpu_kernels_at(count)); count++)
        subjects[count] = (subject){k->isa, k};
#ifdef CY_EMULATED_AVX512
    if (count > 1) /* it is made of AVX2 */
        subjects[count++] = (subject){"avx512-emulated", &cy_cpu_kernels_avx512_emulated};
#endif
    int failed = 0, run = 0;
    for (size_t i = 0; i < count; i++) {
        if (only && strcmp(only, subjects[i].name) != 0) continue;
        run++;
        if (bench) bench_kernels(&subjects[i]);
        else failed += check_subject(&subjects[i], check);
    }
    if (run == 0) {
        fprintf(stderr, "this machine or build has no kernels '%s'\n", only);
        return 1;
    }
    return failed ? 1 : 0;
}
