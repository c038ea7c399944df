/* carry: the table of commands, --help, --version. */
#include "commands.h"
#include "confined.h"
#include "options.h"
#include "out_file.h"
#include "report.h"

#include <carry/carry.h>
#include <carry/carry_import.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} commands[] = {
    {"info", cy_cmd_info, "show a model: layers, weights, inputs, outputs, state"},
    {"run", cy_cmd_run, "run a model over an array: what Keras' predict returns"},
    {"bench", cy_cmd_bench,
     "measure it stateful, in stateless windows, and by round trips"},
    {"convert", cy_cmd_convert, "turn a model file into carry's own"},
    {"generate", cy_cmd_generate, "let a character model continue a text"},
    {"devices", cy_cmd_devices, "list what carry can run on here"},
};
enum { COMMAND_COUNT = sizeof commands / sizeof commands[0] };

static int print_help(void)
{
    printf("usage: carry COMMAND ...\n\n"
           "Runs trained recurrent networks, with a memory that lives on between calls.\n"
           "MODEL is a Keras file (.keras, or a whole-model .h5) or carry's own.\n\n"
           "commands:\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        printf("  %-9s %s\n", commands[i].name, commands[i].summary);
    printf("\n  carry COMMAND --help  the options of a command\n"
           "  carry --version       version, devices, instruction set, importers\n\n"
           "exit: 0 done, 2 a wrong command line, 1 any other failure\n");
    return cy_finish_stdout();
}

static int print_version(void)
{
    printf("carry %s\ndevices:", carry_version());
    for (size_t i = 0; carry_backend_name(i) != NULL; i++)
        printf("%s %s", i ? "," : "", carry_backend_name(i));
    printf("\ninstruction set: %s\nimporters:", carry_cpu_isa());
    for (size_t i = 0; carry_importer_name(i) != NULL; i++)
        printf("%s %s", i ? "," : "", carry_importer_name(i));
    if (carry_importer_name(0) == NULL) printf(" none");
    printf("\nimports confined by: %s\n", cy_confined_means());
    return cy_finish_stdout();
}

static int unknown_command(const char *word)
{
    const char *names[COMMAND_COUNT];
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        names[i] = commands[i].name;
    if (word[0] == '-') {
        static const char *const options[] = {"help", "version"};
        const char *near = cy_nearest(word + strspn(word, "-"), options, 2);
        if (near != NULL)
            return cy_report(CY_EXIT_USAGE, "unknown option %s; did you mean --%s?", word,
                             near);
        return cy_report(CY_EXIT_USAGE, "unknown option %s; see carry --help", word);
    }
    const char *near = cy_nearest(word, names, COMMAND_COUNT);
    if (near != NULL)
        return cy_report(CY_EXIT_USAGE, "unknown command %s; did you mean %s?", word,
                         near);
    return cy_report(CY_EXIT_USAGE, "unknown command %s; see carry --help", word);
}

/* A caller may have closed 0, 1 or 2. The next files opened would take these numbers, and what is printed
 * would go into them. Opened the wrong way round, they still fail as closed ones do. */
static void standard_descriptors_hold(void)
{
    static const int wrong_way[] = {O_WRONLY, O_RDONLY, O_RDONLY};
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", wrong_way[fd]) != fd)
            _exit(CY_EXIT_FAILED); /* and no place to say so */
}

int main(int argc, char **argv)
{
    standard_descriptors_hold();
    cy_out_signals_install();
    if (argc < 2) return cy_report(CY_EXIT_USAGE, "no command given; see carry --help");
    const char *word = argv[1];
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(word, commands[i].name) == 0)
            return commands[i].run(argc - 2, argv + 2);
    int help = strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
    if (!help && strcmp(word, "--version") != 0) return unknown_command(word);
    if (argc > 2)
        return cy_report(CY_EXIT_USAGE, "unexpected argument %s after %s", argv[2], word);
    return help ? print_help() : print_version();
}
