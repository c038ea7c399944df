#include <carry/carry.h>
#include <carry/carry_import.h>
#include <stdio.h>
#include <string.h>

int main(void)
{
    carry_model *model = NULL;
    int refused = carry_model_open_bytes(&model, "no model", 8, NULL) == CARRY_E_FORMAT;
    printf("carry %s, %s, %s: %s\n", carry_version(), carry_backend_name(0),
           carry_importer_name(0), carry_error());
    return !(refused && !model && strcmp(carry_importer_name(0), "keras") == 0);
}
