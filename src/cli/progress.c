/* A bar with rate and time left on stderr. */
#include "progress.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define QUIET_SECONDS 1.0 /* shorter runs draw nothing */
#define DRAW_SECONDS  0.1
#define BAR_WIDTH     30

static struct {
    uint64_t total;
    const char *unit;
    double start, drawn; /* seconds */
    int active, visible;
} bar;

double cy_clock_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void cy_progress_start(uint64_t total, const char *unit)
{
    bar.total = total;
    bar.unit = unit;
    bar.start = cy_clock_seconds();
    bar.drawn = bar.start + QUIET_SECONDS - DRAW_SECONDS;
    bar.active = total > 0 && isatty(STDERR_FILENO);
    bar.visible = 0;
}

/* 1234567 as "1.23M": three digits tell a rate. */
static void format_rate(double rate, char *text, size_t bytes)
{
    const char *suffix[] = {"", "k", "M", "G", "T"};
    size_t i = 0;
    while (rate >= 1000 && i < 4)
        rate /= 1000, i++;
    snprintf(text, bytes, "%.*f%s", rate < 10 ? 2 : rate < 100 ? 1 : 0, rate, suffix[i]);
}

void cy_progress_set(uint64_t done)
{
    if (!bar.active) return;
    double now = cy_clock_seconds();
    if (now - bar.drawn < DRAW_SECONDS || done == 0) return;
    bar.drawn = now;
    bar.visible = 1;

    char marks[BAR_WIDTH + 1], rate_text[16];
    double part = (double)done / (double)bar.total;
    double rate = (double)done / (now - bar.start);
    uint64_t left = (uint64_t)((double)(bar.total - done) / rate + 0.5);
    for (int i = 0; i < BAR_WIDTH; i++)
        marks[i] = i < (int)(part * BAR_WIDTH) ? '#' : '.';
    marks[BAR_WIDTH] = 0;
    format_rate(rate, rate_text, sizeof rate_text);
    if (left >= 3600)
        fprintf(stderr, "\r[%s] %3d%%  %s %s/s  ETA %llu:%02u:%02u \033[K", marks,
                (int)(part * 100), rate_text, bar.unit, (unsigned long long)(left / 3600),
                (unsigned)(left / 60 % 60), (unsigned)(left % 60));
    else
        fprintf(stderr, "\r[%s] %3d%%  %s %s/s  ETA %u:%02u \033[K", marks,
                (int)(part * 100), rate_text, bar.unit, (unsigned)(left / 60),
                (unsigned)(left % 60));
    fflush(stderr);
}

void cy_progress_clear(void)
{
    if (bar.visible) fprintf(stderr, "\r\033[K");
    bar.active = bar.visible = 0;
}
