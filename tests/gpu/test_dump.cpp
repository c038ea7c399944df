/* The conformance dump, without a GPU: the same words under every schedule; every function of the dialect is
 * covered by a case; and a mistake in a function shows in a case that covers it.
 *
 *     test_dump DEVICE.CUH DEVICE_PTX.CUH      the headers whose functions must be covered */
#include "dump_cases.h"
#include "dump_kernels.h"
#include "wrong_dialect.h"

#include <fstream>
#include <regex>
#include <set>
#include <sstream>
#include <stdio.h>

const char *dump_wrong = "";

namespace
{

unsigned failures;

void expect(bool good, const std::string &what)
{
    if (good) return;
    failures++;
    printf("FAILED %s\n", what.c_str());
}

std::vector<dump::Result> run_all(unsigned schedule)
{
    dump::machine_begin(schedule);
    std::vector<dump::Result> results;
    for (size_t i = 0; i < dump::case_count(); i++)
        results.push_back(dump::run(i));
    return results;
}

bool covers(size_t index, const std::string &function)
{
    std::istringstream words(dump::case_covers(index));
    for (std::string word; words >> word;)
        if (word == function) return true;
    return false;
}

/* Functions of a header's namespace dev, by their definitions; not what only serves others. */
void all_covered(const char *path)
{
    std::ifstream file(path);
    expect((bool)file, std::string(path) + " cannot be read");
    const std::set<std::string> helpers = {"register_kernel", "shared_address",
                                           "allow_shared"};
    const std::regex definition(
        "^(?:template <.*> )?(?:DEV_FUNCTION|__device__ __forceinline__|inline) "
        "[a-z0-9_ ]+[ *]([a-z0-9_]+)\\(.*");
    const std::regex template_body("^DEV_FUNCTION T ([a-z0-9_]+)\\(.*");
    unsigned functions = 0;
    for (std::string line; std::getline(file, line);) {
        std::smatch match;
        if (!std::regex_match(line, match, definition) &&
            !std::regex_match(line, match, template_body))
            continue;
        std::string name = match[1];
        functions++;
        if (helpers.count(name)) continue;
        bool covered = false;
        for (size_t i = 0; i < dump::case_count(); i++)
            covered = covered || covers(i, name);
        expect(covered, name + " of " + path + " is in no case of the dump");
    }
    expect(functions > 2, std::string(path) + ": no functions found");
    printf("%s: %u definitions\n", path, functions);
}

} // namespace

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        all_covered(argv[i]);
    expect(argc > 1, "no header to look at");

    const std::vector<dump::Result> first = run_all(1);
    for (size_t i = 0; i < first.size(); i++) {
        expect(!first[i].words.empty(),
               std::string(dump::case_name(i)) + ": " + first[i].error);
        for (unsigned schedule = 2; schedule < 6; schedule++) {
            dump::machine_begin(schedule);
            expect(dump::run(i).words == first[i].words,
                   std::string(dump::case_name(i)) + " depends on the schedule");
        }
    }
    printf("%zu cases under 5 schedules\n", first.size());

    for (const char *name : wrong_names) {
        dump_wrong = name;
        dump::machine_begin(7);
        std::string noticed;
        for (size_t i = 0; i < dump::case_count(); i++)
            if (covers(i, name) && dump::run(i).words != first[i].words)
                noticed += std::string(" ") + dump::case_name(i);
        expect(!noticed.empty(), std::string("a wrong ") + name + " is not noticed");
        printf("wrong %-26s shows in%s\n", name, noticed.c_str());
    }
    dump_wrong = "";
    printf("%u failures\n", failures);
    return failures != 0;
}
