/* What each function of the dialect does, bit for bit, as a file; and whether this machine does the same.
 *
 *     dialect_dump --write FILE [--schedule N]                   N: seed of the emulator's schedules
 *     dialect_dump --compare FILE [--schedule N] [--repeat N] [--need-all]
 *
 * One line for each case: agrees, DIFFERS, FAILED, or not run (the architecture lacks it). Exits 1 where one
 * differs or failed, with --need-all also where one was not run. How mma adds up is information: no case
 * that can fail depends on it. */
#include "dump_cases.h"

#include <map>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

namespace
{

typedef std::vector<uint32_t> Words;

struct Entry {
    uint64_t input_hash;
    Words words;
};

/* By "name" or, informative ones, "name, numerics". */
typedef std::map<std::string, Entry> Dump;

[[noreturn]] void usage()
{
    fprintf(stderr, "usage: dialect_dump --write FILE | --compare FILE [--repeat N] "
                    "[--need-all] [--schedule N]\n");
    exit(2);
}

void write_entry(FILE *file, const std::string &name, const dump::Result &result)
{
    fprintf(file, "case %zu %016llx %s", result.words.size(),
            (unsigned long long)result.input_hash, name.c_str());
    for (size_t i = 0; i < result.words.size(); i++)
        fprintf(file, "%s%08x", i % 8 ? " " : "\n", result.words[i]);
    fprintf(file, "\n");
}

int write(const char *path)
{
    FILE *file = fopen(path, "w");
    if (!file) {
        fprintf(stderr, "dialect_dump: %s cannot be written\n", path);
        return 1;
    }
    unsigned failed = 0;
    for (size_t i = 0; i < dump::case_count(); i++) {
        if (dump::case_architecture(i) > dump::machine_architecture()) continue;
        size_t ways = dump::case_is_exact(i) ? 1 : dump::machine_numerics_count();
        for (size_t way = 0; way < ways; way++) {
            dump::machine_use_numerics(way);
            std::string name = dump::case_name(i);
            if (!dump::case_is_exact(i))
                name += std::string(", ") + dump::machine_numerics(way);
            dump::Result result = dump::run(i);
            if (result.words.empty()) {
                printf("%-26s FAILED   %s\n", name.c_str(), result.error.c_str());
                failed++;
            }
            write_entry(file, name, result);
        }
    }
    bool good = !ferror(file);
    if (fclose(file) || !good) {
        fprintf(stderr, "dialect_dump: %s could not be written\n", path);
        return 1;
    }
    return failed != 0;
}

bool read(const char *path, Dump *all)
{
    FILE *file = fopen(path, "r");
    if (!file) {
        fprintf(stderr, "dialect_dump: %s cannot be read\n", path);
        return false;
    }
    char name[128];
    size_t count;
    unsigned long long hash;
    bool good = true;
    while (good && fscanf(file, " case %zu %llx %127[^\n]", &count, &hash, name) == 3) {
        Entry entry = {hash, Words()};
        for (size_t i = 0; i < count && good; i++) {
            unsigned word;
            good = fscanf(file, "%8x", &word) == 1;
            entry.words.push_back(word);
        }
        (*all)[name] = entry;
    }
    good = good && feof(file);
    fclose(file);
    if (!good) fprintf(stderr, "dialect_dump: %s is no dump, or damaged\n", path);
    return good;
}

float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* How far an informative case is from each numerics of the other machine. */
void inform(size_t index, const Dump &expected)
{
    std::string name = dump::case_name(index);
    dump::Result result = dump::run(index);
    if (result.words.empty()) {
        printf("%-26s information: did not run: %s\n", name.c_str(),
               result.error.c_str());
        return;
    }
    for (auto entry = expected.lower_bound(name + ", ");
         entry != expected.end() && entry->first.compare(0, name.size(), name) == 0;
         ++entry) {
        const Words &words = entry->second.words;
        size_t same = 0;
        double worst = 0;
        for (size_t i = 0; i < words.size() && i < result.words.size(); i++) {
            same += words[i] == result.words[i];
            double a = float_of(result.words[i]), b = float_of(words[i]);
            double difference = fabs(a - b) / fmax(fabs(b), 0x1p-126);
            if (!(difference <= worst)) worst = difference;
        }
        printf("%-26s information: %zu of %zu words are those of '%s'; relative "
               "difference up to %.3g\n",
               name.c_str(), same, words.size(), entry->first.c_str() + name.size() + 2,
               worst);
    }
}

enum class Outcome { AGREES, WRONG, NOT_RUN };

Outcome compare_case(size_t index, const Dump &expected, unsigned repeat)
{
    const char *name = dump::case_name(index);
    auto entry = expected.find(name);
    if (entry == expected.end() || entry->second.words.empty()) {
        printf("%-26s FAILED   the file has no such case\n", name);
        return Outcome::WRONG;
    }
    const Words &words = entry->second.words;
    for (unsigned i = 0; i < repeat; i++) {
        dump::Result result = dump::run(index);
        if (result.words.empty()) {
            printf("%-26s FAILED   %s\n", name, result.error.c_str());
            return Outcome::WRONG;
        }
        if (result.input_hash != entry->second.input_hash ||
            result.words.size() != words.size()) {
            printf("%-26s FAILED   the file was made by another version\n", name);
            return Outcome::WRONG;
        }
        size_t first = words.size(), count = 0;
        for (size_t w = words.size(); w-- > 0;)
            if (result.words[w] != words[w]) first = w, count++;
        if (count == 0) continue;
        printf(
            "%-26s DIFFERS  %zu of %zu words, first %zu: %08x, expected %08x (run %u)\n",
            name, count, words.size(), first, result.words[first], words[first], i + 1);
        return Outcome::WRONG;
    }
    printf("%-26s agrees   %zu words, %u runs\n", name, words.size(), repeat);
    return Outcome::AGREES;
}

struct Options {
    const char *write = nullptr, *compare = nullptr;
    unsigned schedule = 1, repeat = 1;
    bool need_all = false;
};

int compare(const Options &options)
{
    Dump expected;
    if (!read(options.compare, &expected)) return 1;
    printf("%s, compute capability %d.%d\n", dump::machine_name().c_str(),
           dump::machine_architecture() / 10, dump::machine_architecture() % 10);
    unsigned counts[3] = {0, 0, 0};
    for (size_t i = 0; i < dump::case_count(); i++) {
        if (dump::case_architecture(i) > dump::machine_architecture()) {
            printf("%-26s not run  needs sm_%d\n", dump::case_name(i),
                   dump::case_architecture(i));
            if (dump::case_is_exact(i)) counts[(int)Outcome::NOT_RUN]++;
        } else if (dump::case_is_exact(i)) {
            counts[(int)compare_case(i, expected, options.repeat)]++;
        } else {
            inform(i, expected);
        }
        fflush(stdout);
    }
    printf("%u agree, %u do not, %u not run\n", counts[0], counts[1], counts[2]);
    bool good = counts[1] == 0 && counts[0] > 0 && (!options.need_all || counts[2] == 0);
    return !good;
}

} // namespace

int main(int argc, char **argv)
{
    Options options;
    for (int i = 1; i < argc; i++) {
        std::string name = argv[i];
        if (name == "--need-all") options.need_all = true;
        else if (i + 1 == argc) usage();
        else if (name == "--write") options.write = argv[++i];
        else if (name == "--compare") options.compare = argv[++i];
        else if (name == "--schedule") options.schedule = (unsigned)atoi(argv[++i]);
        else if (name == "--repeat") options.repeat = (unsigned)atoi(argv[++i]);
        else usage();
    }
    if (!options.write == !options.compare || options.repeat == 0) usage();
    if (!dump::machine_begin(options.schedule)) return 1;
    return options.write ? write(options.write) : compare(options);
}
