/* The command line of one command, as a table: long options, arguments in order, help. */
#ifndef CY_CLI_OPTIONS_H
#define CY_CLI_OPTIONS_H

#include <stddef.h>
#include <stdint.h>

typedef enum cy_option_type {
    CY_OPTION_STRING, /* value: const char **, not empty */
    CY_OPTION_TEXT,   /* value: const char **, may be empty */
    CY_OPTION_UINT,   /* value: uint64_t *, least .. most */
    CY_OPTION_FLOAT,  /* value: double *, finite and at least 0 */
    CY_OPTION_LIST,   /* value: cy_uint_list *, commas between, each least .. most */
    CY_OPTION_FLAG    /* value: int *, set to 1 */
} cy_option_type;

#define CY_LIST_MAX 64

typedef struct cy_uint_list {
    size_t count;
    uint64_t items[CY_LIST_MAX];
} cy_uint_list;

typedef struct cy_option {
    const char *name; /* without the dashes */
    cy_option_type type;
    void *value;          /* holds the default before, the given value afterwards */
    const char *argument; /* its name in the help; NULL for a flag */
    const char *help;     /* one line */
    uint64_t least, most; /* UINT and LIST */
} cy_option;

typedef struct cy_argument {
    const char *name; /* "MODEL" */
    const char **value;
} cy_argument;

typedef struct cy_command_line {
    const char *command;  /* "run" */
    const char *synopsis; /* what follows "usage: carry run " */
    const char *summary;  /* one or more lines */
    const cy_argument *arguments;
    size_t argument_count; /* all of them required */
    const cy_option *options;
    size_t option_count;
    const char *notes; /* lines after the options, or NULL */
} cy_command_line;

/* Reads argv[0 .. argc-1], what follows the command's name: --name value, --name=value, "--" ends the
 * options. Returns -1 to go on; otherwise the exit code to leave with (help was printed, or a
 * sentence says what is wrong, an option whose value is given twice included: the user meant both). */
int cy_command_line_read(const cy_command_line *line, int argc, char **argv);

/* The one of `names` nearest to `word`, or NULL when none is near enough to be a slip. */
const char *cy_nearest(const char *word, const char *const *names, size_t count);

#endif
