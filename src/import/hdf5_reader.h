/* An HDF5 file in memory, read by path: text attributes, and datasets of floating-point numbers.
 *
 * The one place that names libhdf5. Nothing outside the bytes given is touched: soft and external links,
 * external storage, virtual datasets and filter plugins are refused, and the library prints nothing. It is
 * not proof against hostile bytes all the same: callers that read a stranger's file confine the process. */
#ifndef CY_IMPORT_HDF5_READER_H
#define CY_IMPORT_HDF5_READER_H

#include "base/arena.h"
#include "base/status.h"
#include "graph/tensor.h"

typedef struct cy_hdf5 cy_hdf5;

/* Opens `bytes` bytes at `data`, which must outlive the file; `what` names it in sentences. One file at a
 * time in a process, as libhdf5 has it. *file is NULL on failure. Errors: CARRY_E_FORMAT, CARRY_E_MEMORY. */
carry_status cy_hdf5_open(cy_hdf5 **file, const void *data, size_t bytes,
                          const char *what);
void cy_hdf5_close(cy_hdf5 **file);

typedef enum cy_hdf5_kind { CY_HDF5_NONE, CY_HDF5_GROUP, CY_HDF5_DATASET } cy_hdf5_kind;

/* What lies at a path ("layers/lstm/cell/vars"; "" is the root). A link that is no hard link is an error. */
carry_status cy_hdf5_find(cy_hdf5 *file, const char *path, cy_hdf5_kind *kind);

/* The text attribute `name` of the group at `path`: one string, or a list of them. No such attribute: NULL
 * and 0. A list of length 0 may be of any type, as NumPy writes it. Allocated in `arena`. */
carry_status cy_hdf5_text(cy_hdf5 *file, const char *path, const char *name,
                          cy_arena *arena, char **text);
carry_status cy_hdf5_texts(cy_hdf5 *file, const char *path, const char *name,
                           cy_arena *arena, char ***texts, size_t *count);

/* Reads the dataset at `path` as float32 into tensor->data, allocated in `arena`. It must have the
 * tensor's shape and be of float16, bfloat16, float32 or float64, in either byte order; `label` names it
 * in sentences. */
carry_status cy_hdf5_floats(cy_hdf5 *file, const char *path, const char *label,
                            cy_tensor *tensor, cy_arena *arena);

#endif
