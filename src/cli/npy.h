/* NumPy's .npy files, read in pieces whatever their length, type, byte order and layout. */
#ifndef CY_CLI_NPY_H
#define CY_CLI_NPY_H

#include <stddef.h>
#include <stdint.h>

#define CY_NPY_RANK 8 /* arrays with more axes are refused */

typedef struct cy_npy {
    char *path;
    int fd;
    char kind;      /* 'b' bool, 'i' signed, 'u' unsigned, 'f' float */
    unsigned bytes; /* of one number */
    int swapped;    /* 1: the other byte order than this machine's */
    int fortran;    /* 1: first axis fastest */
    int rank;       /* 1 .. CY_NPY_RANK */
    uint64_t shape[CY_NPY_RANK];
    uint64_t count;   /* numbers in all */
    uint64_t data_at; /* offset of the first one in the file */

    unsigned char
        *whole; /* all the data, of small files in Fortran order; otherwise NULL */
    unsigned char *piece; /* what cy_npy_read brought, numbers as they are in the file */
    size_t piece_bytes;
    unsigned char
        *strip; /* a stretch of a file in Fortran order, on its way into `piece` */
} cy_npy;

#define CY_NPY_CLOSED \
    {                 \
        .fd = -1      \
    }

/* An array seen as [rows, steps, width], whatever its rank: the product is its `count`. */
typedef struct cy_npy_view {
    uint64_t rows, steps, width;
} cy_npy_view;

/* Opens a file and checks its header. A pipe is copied to an unnamed temporary file first.
 * CY_EXIT_OK, or CY_EXIT_FAILED after a sentence; *npy is closed then. */
int cy_npy_open(cy_npy *npy, const char *path);
void cy_npy_close(cy_npy *npy);

/* Reads rows `row` .. row+rows-1 of steps `step` .. step+steps-1 into the file's one piece, in C
 * order; the functions below look at it. CY_EXIT_OK, or CY_EXIT_FAILED after a sentence. */
int cy_npy_read(cy_npy *npy, const cy_npy_view *view, uint64_t row, size_t rows,
                uint64_t step, size_t steps);

/* 1: many rows of few steps come much faster than few rows of many (long files in Fortran order). */
int cy_npy_rows_first(const cy_npy *npy);

/* Numbers first .. first+count-1 of the piece as float32, rounded to nearest. */
void cy_npy_to_f32(const cy_npy *npy, size_t first, size_t count, float *out);

/* Number `index` of the piece as a whole number; 0 when it has a fraction or does not fit. */
int cy_npy_to_whole(const cy_npy *npy, size_t index, int64_t *value);

/* The same number as text for a sentence. */
const char *cy_npy_to_text(const cy_npy *npy, size_t index, char *text, size_t bytes);

/* "[5, 7, 2]", written into `text`. */
#define CY_SHAPE_TEXT 192
const char *cy_shape_text(char text[CY_SHAPE_TEXT], const uint64_t *shape, int rank);

/* The header of a float32 array in C order, as NumPy writes it; returns its length, at most
 * CY_NPY_HEADER. */
#define CY_NPY_HEADER 256
size_t cy_npy_header(char header[CY_NPY_HEADER], const uint64_t *shape, int rank);

#endif
