/* The header of a .npy file: the text of a Python dictionary, read strictly. */
#ifndef CY_CLI_NPY_HEADER_H
#define CY_CLI_NPY_HEADER_H

#include "npy.h"

/* Fills kind, bytes, swapped, fortran, rank, shape and count from the dictionary's text. Returns
 * NULL, or what is wrong with it, to complete "X.npy ..."; `why` is room for it. */
const char *cy_npy_header_read(cy_npy *npy, const char *text, size_t bytes, char *why,
                               size_t why_bytes);

#endif
