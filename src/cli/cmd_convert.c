/* carry convert: a model file as carry's own. */
#include "commands.h"

#include "model_source.h"
#include "options.h"
#include "out_file.h"
#include "report.h"

#include <string.h>
#include <sys/stat.h>

/* Both names lead to one file. */
static int is_same_file(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev &&
           x.st_ino == y.st_ino && S_ISREG(x.st_mode);
}

int cy_cmd_convert(int argc, char **argv)
{
    const char *model_path = NULL, *out_path = NULL;
    const cy_argument arguments[] = {{"MODEL", &model_path}, {"OUT", &out_path}};
    const cy_command_line line = {
        .command = "convert",
        .synopsis = "MODEL OUT",
        .summary =
            "Writes MODEL as carry's own file, which opens fast and which a program\n"
            "linked with libcarry alone can open. A carry file is copied.",
        .arguments = arguments,
        .argument_count = 2,
    };
    int code = cy_command_line_read(&line, argc, argv);
    if (code >= 0) return code;

    cy_model_source source;
    cy_out_file out = CY_OUT_CLOSED;
    carry_model *model = NULL;
    carry_model_options on_cpu = {.size = sizeof on_cpu, .device = "cpu"};
    code = cy_model_source_open(&source, model_path);
    /* A training framework's file cannot be made again out of ours. */
    if (code == CY_EXIT_OK && strcmp(source.format, "carry") != 0 &&
        is_same_file(model_path, out_path))
        code =
            cy_report(CY_EXIT_FAILED,
                      "%s is MODEL itself; give its conversion another name", out_path);
    /* Opened once, so that nothing is written which the runtime would refuse. */
    if (code == CY_EXIT_OK &&
        carry_model_open_bytes(&model, source.data, source.bytes, &on_cpu) != CARRY_OK)
        code = cy_report(CY_EXIT_FAILED, "%s: %s", model_path, carry_error());
    carry_model_close(&model);
    if (code == CY_EXIT_OK) code = cy_out_open(&out, out_path);
    if (code == CY_EXIT_OK) code = cy_out_append(&out, source.data, source.bytes);
    if (code == CY_EXIT_OK) code = cy_out_commit(&out);
    cy_out_discard(&out);
    cy_model_source_close(&source);
    return code;
}
