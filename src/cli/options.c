/* One table-driven reader of long options for every command. */
#include "options.h"

#include "report.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORD_MAX     64 /* a longer word is no slip of anything */
#define OPTIONS_MOST 63 /* of a command, --help not counted */

/* Insertions, deletions, replacements and swapped neighbours that lead from one word to the other. */
static size_t edit_distance(const char *a, size_t a_length, const char *b,
                            size_t b_length)
{
    size_t table[WORD_MAX + 1][WORD_MAX + 1];
    for (size_t i = 0; i <= a_length; i++)
        table[i][0] = i;
    for (size_t j = 0; j <= b_length; j++)
        table[0][j] = j;
    for (size_t i = 1; i <= a_length; i++) {
        for (size_t j = 1; j <= b_length; j++) {
            size_t best = table[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (table[i - 1][j] + 1 < best) best = table[i - 1][j] + 1;
            if (table[i][j - 1] + 1 < best) best = table[i][j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                table[i - 2][j - 2] + 1 < best)
                best = table[i - 2][j - 2] + 1;
            table[i][j] = best;
        }
    }
    return table[a_length][b_length];
}

const char *cy_nearest(const char *word, const char *const *names, size_t count)
{
    size_t length = strlen(word), best_distance = SIZE_MAX;
    const char *best = NULL;
    if (length == 0 || length > WORD_MAX) return NULL;
    for (size_t i = 0; i < count; i++) {
        size_t name_length = strlen(names[i]);
        if (name_length > WORD_MAX) continue;
        size_t distance = edit_distance(word, length, names[i], name_length);
        /* A beginning of the name ("out") is as good as one slip. */
        if (length >= 2 && strncmp(word, names[i], length) == 0 && distance > 1)
            distance = 1;
        if (distance < best_distance) best_distance = distance, best = names[i];
    }
    size_t allowed = length / 3 > 2 ? length / 3 : 2;
    return best_distance <= allowed && best_distance < length ? best : NULL;
}

static int unknown_option(const cy_command_line *line, const char *name, size_t length)
{
    if (length == 4 && memcmp(name, "help", 4) == 0) /* alone it was taken before */
        return cy_report(CY_EXIT_USAGE, "--help takes no value");
    char word[WORD_MAX + 1] = "";
    const char *names[1 + OPTIONS_MOST] = {"help"};
    size_t count = 1;
    for (size_t i = 0; i < line->option_count; i++)
        names[count++] = line->options[i].name;
    if (length <= WORD_MAX) memcpy(word, name, length), word[length] = 0;
    const char *near = cy_nearest(word, names, count);
    if (near != NULL)
        return cy_report(CY_EXIT_USAGE, "unknown option --%.*s; did you mean --%s?",
                         (int)length, name, near);
    return cy_report(CY_EXIT_USAGE, "unknown option --%.*s; see carry %s --help",
                     (int)length, name, line->command);
}

/* Decimal digits up to `end` and nothing else; false on anything else and on overflow. */
static bool read_uint(const char *text, const char *end, uint64_t *value)
{
    if (text == end) return false;
    *value = 0;
    for (; text != end; text++) {
        if (*text < '0' || *text > '9') return false;
        uint64_t digit = (uint64_t)(*text - '0');
        if (*value > (UINT64_MAX - digit) / 10) return false;
        *value = *value * 10 + digit;
    }
    return true;
}

static int malformed_uint(const cy_option *option, const char *text, const char *what,
                          const char *how)
{
    if (option->most > INT64_MAX)
        return cy_report(CY_EXIT_USAGE, "--%s takes %s of at least %llu%s, not '%s'",
                         option->name, what, (unsigned long long)option->least, how,
                         text);
    return cy_report(CY_EXIT_USAGE, "--%s takes %s from %llu to %llu%s, not '%s'",
                     option->name, what, (unsigned long long)option->least,
                     (unsigned long long)option->most, how, text);
}

static int read_value(const cy_option *option, const char *text)
{
    switch (option->type) {
    case CY_OPTION_TEXT:
        *(const char **)option->value = text;
        return -1;
    case CY_OPTION_STRING:
        if (*text == 0)
            return cy_report(CY_EXIT_USAGE, "--%s needs a value (%s)", option->name,
                             option->argument);
        *(const char **)option->value = text;
        return -1;
    case CY_OPTION_UINT: {
        uint64_t value;
        if (!read_uint(text, text + strlen(text), &value) || value < option->least ||
            value > option->most)
            return malformed_uint(option, text, "a whole number", "");
        *(uint64_t *)option->value = value;
        return -1;
    }
    case CY_OPTION_FLOAT: {
        char *end;
        double value = strtod(text, &end);
        /* strtod also takes leading blanks, hexadecimal, "inf" and "nan": no number we mean. */
        if (end == text || *end != 0 || strspn(text, "0123456789.eE+-") != strlen(text) ||
            !isfinite(value) || value < 0)
            return cy_report(CY_EXIT_USAGE, "--%s takes a number of at least 0, not '%s'",
                             option->name, text);
        *(double *)option->value = value;
        return -1;
    }
    case CY_OPTION_LIST: {
        cy_uint_list list = {0};
        const char *at = text;
        for (;;) {
            const char *end = at + strcspn(at, ",");
            uint64_t value;
            if (list.count == CY_LIST_MAX)
                return cy_report(CY_EXIT_USAGE,
                                 "--%s takes at most %d numbers with commas between",
                                 option->name, CY_LIST_MAX);
            if (!read_uint(at, end, &value) || value < option->least ||
                value > option->most)
                return malformed_uint(option, text, "whole numbers",
                                      " with commas between");
            list.items[list.count++] = value;
            if (*end == 0) break;
            at = end + 1;
        }
        *(cy_uint_list *)option->value = list;
        return -1;
    }
    case CY_OPTION_FLAG:
        break;
    }
    return -1;
}

/* `*at` is the index of "--name"; moves it past a value that stands alone. `seen` has a byte for each option. */
static int read_option(const cy_command_line *line, int argc, char **argv, int *at,
                       unsigned char *seen)
{
    const char *name = argv[*at] + 2;
    size_t length = strcspn(name, "=");
    const cy_option *option = NULL;
    for (size_t i = 0; i < line->option_count; i++)
        if (strlen(line->options[i].name) == length &&
            memcmp(line->options[i].name, name, length) == 0)
            option = &line->options[i];
    if (option == NULL) return unknown_option(line, name, length);

    if (option->type == CY_OPTION_FLAG) {
        if (name[length] == '=')
            return cy_report(CY_EXIT_USAGE, "--%s takes no value", option->name);
        *(int *)option->value = 1; /* as often as wanted: twice says what once says */
        return -1;
    }
    if (seen[option - line->options]++ != 0)
        return cy_report(CY_EXIT_USAGE, "--%s is given twice", option->name);
    const char *text;
    if (name[length] == '=') text = name + length + 1;
    else if (*at + 1 < argc && strncmp(argv[*at + 1], "--", 2) != 0) text = argv[++*at];
    else
        return cy_report(CY_EXIT_USAGE, "--%s needs a value (%s)", option->name,
                         option->argument);
    return read_value(option, text);
}

static void print_help(const cy_command_line *line)
{
    printf("usage: carry %s %s\n\n%s\n", line->command, line->synopsis, line->summary);
    size_t width = strlen("--help");
    for (size_t i = 0; i < line->option_count; i++) {
        const cy_option *option = &line->options[i];
        size_t length = 2 + strlen(option->name) +
                        (option->argument ? 1 + strlen(option->argument) : 0);
        if (length > width) width = length;
    }
    printf("\noptions:\n");
    for (size_t i = 0; i < line->option_count; i++) {
        const cy_option *option = &line->options[i];
        char left[80];
        snprintf(left, sizeof left, "--%s%s%s", option->name, option->argument ? " " : "",
                 option->argument ? option->argument : "");
        printf("  %-*s  %s\n", (int)width, left, option->help);
    }
    printf("  %-*s  %s\n", (int)width, "--help", "this text");
    if (line->notes != NULL) printf("\n%s\n", line->notes);
}

int cy_command_line_read(const cy_command_line *line, int argc, char **argv)
{
    size_t given = 0;
    bool options_ended = false;
    unsigned char seen[OPTIONS_MOST] = {0};
    assert(line->option_count <= OPTIONS_MOST);
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];
        if (!options_ended && strcmp(word, "--") == 0) {
            options_ended = true;
        } else if (!options_ended &&
                   (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)) {
            print_help(line);
            return cy_finish_stdout();
        } else if (!options_ended && strncmp(word, "--", 2) == 0) {
            int code = read_option(line, argc, argv, &i, seen);
            if (code >= 0) return code;
        } else if (!options_ended && word[0] == '-' && word[1] != 0) {
            return cy_report(
                CY_EXIT_USAGE,
                "unknown option %s; options begin with two dashes, see carry %s "
                "--help",
                word, line->command);
        } else if (given == line->argument_count) {
            return cy_report(CY_EXIT_USAGE, "unexpected argument %s; see carry %s --help",
                             word, line->command);
        } else if (*word == 0) {
            return cy_report(CY_EXIT_USAGE, "%s is empty", line->arguments[given].name);
        } else {
            *line->arguments[given++].value = word;
        }
    }
    if (given < line->argument_count)
        return cy_report(CY_EXIT_USAGE, "%s is missing; see carry %s --help",
                         line->arguments[given].name, line->command);
    return -1;
}
