/* How many threads this process may really use: its affinity mask, cut to the cgroup's quota. */
#define _GNU_SOURCE
#include "base/cpu_limit.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* cgroup v2: "max 100000" or "QUOTA PERIOD" in cpu.max of our group and of every group above it. */
static long quota_of(const char *path)
{
    FILE *file = fopen(path, "re");
    if (!file) return 0;
    long quota = 0, period = 0;
    int fields = fscanf(file, "%ld %ld", &quota, &period);
    fclose(file);
    if (fields != 2 || quota <= 0 || period <= 0) return 0;
    return (quota + period - 1) / period;
}

static long cgroup_limit(void)
{
    char path[1024] = "/sys/fs/cgroup", line[900] = "";
    FILE *file = fopen("/proc/self/cgroup", "re");
    if (file) {
        while (fgets(line, sizeof line, file))
            if (strncmp(line, "0::", 3) == 0) {
                line[strcspn(line, "\n")] = 0;
                snprintf(path + strlen(path), sizeof path - strlen(path), "%s", line + 3);
                break;
            }
        fclose(file);
    }
    long limit = 0;
    for (;;) {
        char name[1100];
        snprintf(name, sizeof name, "%s/cpu.max", path);
        long quota = quota_of(name);
        if (quota > 0 && (limit == 0 || quota < limit)) limit = quota;
        char *slash = strrchr(path, '/');
        if (!slash || strlen(path) <= strlen("/sys/fs/cgroup")) return limit;
        *slash = 0;
    }
}

uint32_t cy_cpu_limit(void)
{
    long count = 1;
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) count = CPU_COUNT(&set);
    else if (sysconf(_SC_NPROCESSORS_ONLN) > 0) count = sysconf(_SC_NPROCESSORS_ONLN);
    long quota = cgroup_limit();
    if (quota > 0 && quota < count) count = quota;
    return count < 1 ? 1 : (uint32_t)count;
}
