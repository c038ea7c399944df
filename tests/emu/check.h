/* What the emulated tests share: expectations, and scenarios run under many schedules.
 *
 * EMU_SEED=n       the first schedule's seed; without it one is taken from the clock and printed
 * EMU_SCHEDULES=n  how many schedules of each scenario; EMU_SEED=n EMU_SCHEDULES=1 replays one */
#ifndef CY_TESTS_EMU_CHECK_H
#define CY_TESTS_EMU_CHECK_H

#include "emu.h"

#include <functional>
#include <math.h>
#include <random>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <time.h>
#include <vector>

namespace check
{

inline unsigned failures;

inline void report(bool good, const char *file, int line, const std::string &what)
{
    if (good) return;
    failures++;
    printf("FAILED %s:%d: %s (seed %llu)\n", file, line, what.c_str(),
           (unsigned long long)emu::options.seed);
    if (emu::last_error()[0]) printf("    %s\n", emu::last_error());
}

#define CHECK(condition) check::report(condition, __FILE__, __LINE__, #condition)
#define CHECK_SAID(words) \
    check::report(strstr(emu::last_error(), words) != nullptr, __FILE__, __LINE__, words)

inline unsigned long long number_from(const char *name, unsigned long long otherwise)
{
    const char *text = getenv(name);
    return text && *text ? strtoull(text, nullptr, 10) : otherwise;
}

inline unsigned long long first_seed()
{
    static unsigned long long seed =
        number_from("EMU_SEED", (unsigned long long)time(nullptr) * 1000);
    return seed;
}

/* Sanitizers are slow, and TSan sees a race in whichever schedule. */
inline unsigned schedules(unsigned otherwise)
{
#if defined(EMU_TSAN) || defined(EMU_ASAN)
    otherwise = otherwise < 4 ? 1 : otherwise / 4;
#endif
    return (unsigned)number_from("EMU_SCHEDULES", otherwise);
}

/* For the scenarios: `return WRONG;` is false, and tells where. */
#define WRONG check::wrong_at(__FILE__, __LINE__)
inline std::string where_wrong;

inline bool wrong_at(const char *file, int line)
{
    const char *name = strrchr(file, '/');
    where_wrong =
        std::string("wrong at ") + (name ? name + 1 : file) + ":" + std::to_string(line);
    return false;
}

inline std::string reason()
{
    return emu::last_error()[0] ? emu::last_error() : where_wrong;
}

/* Something that launches kernels and says whether all was right: no error, right results. */
struct Scenario {
    const char *name;
    std::function<bool()> good;
};

/* True if the scenario went well and nobody raced. */
inline bool went_well(const Scenario &scenario)
{
    unsigned races = emu::races();
    return scenario.good() && emu::races() == races;
}

inline void under_schedules(const std::vector<Scenario> &scenarios, unsigned count)
{
    count = schedules(count);
    emu::Options before = emu::options;
    for (const Scenario &s : scenarios) {
        bool good = true;
        for (unsigned i = 0; i < count && good; i++) {
            emu::options = before;
            emu::options.seed = first_seed() + i;
            emu::options.numerics = emu::options.seed / 2 % 2 ? emu::Numerics::TRUNCATING
                                                              : emu::Numerics::EXACT;
            if (went_well(s)) continue;
            failures++;
            printf("FAILED %s: replay with EMU_SEED=%llu EMU_SCHEDULES=1\n", s.name,
                   (unsigned long long)emu::options.seed);
            printf("    %s\n", reason().c_str());
            good = false;
        }
        if (good) printf("ok     %-28s %u schedules\n", s.name, count);
    }
    emu::options = before;
}

/* Drops every sync site that the scenarios come to, one at a time; each must be noticed by one of them
 * under one of `count` schedules, with fixed seeds: this asks about the test, not about luck. Sites of kind
 * `for_tsan` are left to TSan: there is nothing else to see where an operation of the whole warp follows, which
 * makes lanes wait for each other here but promises no order of memory. */
inline void every_site_matters(const std::vector<Scenario> &scenarios, unsigned count,
                               emu::Kind for_tsan = emu::NONE)
{
#ifdef EMU_TSAN
    for_tsan = emu::NONE;
#endif
    struct Fate {
        emu::Site site;
        unsigned noticed, tried;
        std::string how;
    };
    if (!emu::emulated) {
        printf("no site dropped: not in emulation\n");
        return;
    }
    std::vector<Fate> fates;
    emu::Options before = emu::options;
    for (const Scenario &s : scenarios) {
        emu::sites_clear();
        emu::options.seed = 2;
        s.good();
        std::vector<emu::Site> sites;
        for (size_t i = 0; i < emu::sites_count(); i++)
            if (emu::droppable(emu::site_at(i).kind) &&
                (for_tsan == emu::NONE || emu::site_at(i).kind != for_tsan))
                sites.push_back(emu::site_at(i));
        for (const emu::Site &site : sites) {
            Fate *fate = nullptr;
            for (Fate &f : fates)
                if (f.site.line == site.line && f.site.kind == site.kind &&
                    !strcmp(f.site.file, site.file))
                    fate = &f;
            if (!fate) {
                fates.push_back({site, 0, 0, ""});
                fate = &fates.back();
            }
            if (fate->noticed) continue;
            for (unsigned i = 0; i < count && !fate->noticed; i++) {
                emu::options.seed = 1000 + i;
                emu::options.drop = site;
                fate->tried++;
                if (went_well(s)) continue;
                fate->noticed++;
                fate->how = reason();
            }
            emu::options = before;
        }
    }
    unsigned missed = 0;
    for (const Fate &f : fates) {
        const char *file = strrchr(f.site.file, '/');
        printf("%s %s:%d %-15s after %2u schedules  %.60s\n",
               f.noticed ? "noticed" : "MISSED ", file ? file + 1 : f.site.file,
               f.site.line, emu::kind_name(f.site.kind), f.tried, f.how.c_str());
        missed += !f.noticed;
    }
    if (fates.empty()) {
        printf("FAILED no sync site was found\n");
        failures++;
    }
    failures += missed;
    printf("%zu sites dropped, %u not noticed\n", fates.size(), missed);
}

inline int summary()
{
    printf("%u failures; first seed %llu\n", failures, first_seed());
    return failures != 0;
}

inline std::vector<float> random_floats(size_t count, unsigned seed, float low,
                                        float high)
{
    std::mt19937 generator(seed);
    std::uniform_real_distribution<float> in_range(low, high);
    std::vector<float> values(count);
    for (float &value : values)
        value = in_range(generator);
    return values;
}

/* The largest |a - b| / max(1, |b|); NaN where only one is NaN counts as infinite. */
inline double worst(const std::vector<float> &a, const std::vector<double> &b)
{
    double worst = 0;
    for (size_t i = 0; i < b.size(); i++) {
        if (isnan(b[i]) && isnan(a[i])) continue;
        double error = fabs(a[i] - b[i]) / fmax(1, fabs(b[i]));
        if (a[i] == b[i]) error = 0;
        if (!(error <= worst)) worst = isnan(error) ? INFINITY : error;
    }
    return worst;
}

} // namespace check

#endif
