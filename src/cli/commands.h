/* The commands: each reads its own command line and returns the exit code. */
#ifndef CY_CLI_COMMANDS_H
#define CY_CLI_COMMANDS_H

int cy_cmd_devices(int argc, char **argv);
int cy_cmd_info(int argc, char **argv);
int cy_cmd_run(int argc, char **argv);
int cy_cmd_bench(int argc, char **argv);
int cy_cmd_convert(int argc, char **argv);
int cy_cmd_generate(int argc, char **argv);

#endif
