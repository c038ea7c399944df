#include "commands.h"
int cy_cmd_generate(int argc, char **argv)
{
    (void)argc, (void)argv;
    return 1;
}
