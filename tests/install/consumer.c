#include <carry/carry.h>
#include <carry/carry_import.h>
#include <stdio.h>

int main(void)
{
    carry_model *model = NULL;
    void *imported = NULL;
    size_t bytes = 1;
    char sentence[200];
    int refused = carry_model_open_bytes(&model, "no model", 8, NULL) == CARRY_E_FORMAT;
    refused &= carry_import_bytes("no model", 8, &imported, &bytes, sentence,
                                  sizeof sentence) == CARRY_E_FORMAT;
    printf("carry %s refuses: %s; %s\n", carry_version(), carry_error(), sentence);
    return !(refused && !model && !imported && bytes == 0);
}
