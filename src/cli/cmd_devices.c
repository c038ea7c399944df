/* carry devices: what carry can run on here. */
#include "commands.h"

#include "options.h"
#include "report.h"

#include <carry/carry.h>

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

static int print_text(void)
{
    carry_device_info device = {.size = sizeof device};
    for (size_t i = 0; carry_device_get_info(i, &device) == CARRY_OK; i++) {
        printf("%-7s %s", device.name, device.description);
        if (device.memory_bytes != 0)
            printf("; %" PRIu64 " bytes of memory, %" PRIu64 " free", device.memory_bytes,
                   device.free_bytes);
        if (!device.usable) printf("; %s", device.trouble);
        putchar('\n');
    }
    return cy_finish_stdout();
}

static int print_json(void)
{
    carry_device_info device = {.size = sizeof device};
    json_t *list = json_array();
    for (size_t i = 0; carry_device_get_info(i, &device) == CARRY_OK; i++)
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:I, s:I, s:b, s:s?}", "name", device.name,
                            "description", device.description, "memory_bytes",
                            (json_int_t)device.memory_bytes, "free_bytes",
                            (json_int_t)device.free_bytes, "usable", device.usable,
                            "trouble", device.trouble));
    int failed = list == NULL || json_dumpf(list, stdout, 0) != 0;
    json_decref(list);
    if (failed)
        return cy_report(CY_EXIT_FAILED, "the devices could not be written as JSON");
    putchar('\n');
    return cy_finish_stdout();
}

int cy_cmd_devices(int argc, char **argv)
{
    int json = 0;
    const cy_option options[] = {
        {"json", CY_OPTION_FLAG, &json, NULL, "a JSON array of objects instead of text",
         0, 0},
    };
    const cy_command_line line = {
        .command = "devices",
        .synopsis = "[--json]",
        .summary = "Lists what --device can name here, with its memory; and why a device "
                   "cannot be\nused. The CPU has no memory of its own.",
        .options = options,
        .option_count = 1,
    };
    int code = cy_command_line_read(&line, argc, argv);
    if (code >= 0) return code;
    return json ? print_json() : print_text();
}
