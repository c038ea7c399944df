#include "import/hdf5_reader.h"

#include "base/mem.h"
#include "import/half.h"

#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PATH_BYTES 4096

/* Values that a file of `bytes` bytes may hold in all: compression reaches 1032:1, and a dataset nobody
 * wrote takes no room at all. Beyond this floor a file must not grow a thousandfold. */
#define FREE_BYTES  ((uint64_t)256 * 1024 * 1024)
#define MAX_GROWTH  1000
#define MAX_STRINGS ((hsize_t)1 << 20)

struct cy_hdf5 {
    hid_t id;
    const char *what;
    uint64_t bytes;   /* of the file */
    uint64_t claimed; /* bytes of datasets read so far */
    H5E_auto2_t print;
    void *print_data;
};

/* libhdf5 copies a file image unless its callbacks hand it the caller's own bytes. */
typedef struct image {
    void *data;
} image;

static void *image_malloc(size_t bytes, H5FD_file_image_op_t op, void *context)
{
    (void)bytes;
    (void)op;
    return ((image *)context)->data;
}

static void *image_memcpy(void *to, const void *from, size_t bytes,
                          H5FD_file_image_op_t op, void *context)
{
    (void)from;
    (void)bytes;
    (void)op;
    return to == ((image *)context)->data ? to : NULL;
}

static void *image_realloc(void *block, size_t bytes, H5FD_file_image_op_t op,
                           void *context)
{
    (void)block;
    (void)bytes;
    (void)op;
    (void)context;
    return NULL; /* opened for reading: it never grows */
}

static herr_t image_free(void *block, H5FD_file_image_op_t op, void *context)
{
    (void)block;
    (void)op;
    (void)context;
    return 0;
}

static void *image_copy(void *context)
{
    image *copy = malloc(sizeof *copy);
    if (copy) *copy = *(image *)context;
    return copy;
}

static herr_t image_release(void *context)
{
    free(context);
    return 0;
}

/* libhdf5 refuses an image whose name is a file's: this cannot be one. */
#define NO_SUCH_FILE "/dev/null/image"

static hid_t open_image(const void *data, size_t bytes)
{
    image source = {(void *)data};
    H5FD_file_image_callbacks_t callbacks = {
        .image_malloc = image_malloc,
        .image_memcpy = image_memcpy,
        .image_realloc = image_realloc,
        .image_free = image_free,
        .udata_copy = image_copy,
        .udata_free = image_release,
        .udata = &source,
    };
    hid_t id = H5I_INVALID_HID;
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    if (access < 0) return id;
    if (H5Pset_fapl_core(access, 64 * 1024, 0) >= 0 &&
        H5Pset_file_image_callbacks(access, &callbacks) >= 0 &&
        H5Pset_file_image(access, (void *)data, bytes) >= 0)
        id = H5Fopen(NO_SUCH_FILE, H5F_ACC_RDONLY, access);
    H5Pclose(access);
    return id;
}

carry_status cy_hdf5_open(cy_hdf5 **file, const void *data, size_t bytes,
                          const char *what)
{
    *file = cy_alloc(sizeof **file);
    CY_CHECK(*file, CARRY_E_MEMORY, "out of memory opening %s", what);
    (*file)->what = what;
    (*file)->bytes = bytes;
    H5Eget_auto2(H5E_DEFAULT, &(*file)->print, &(*file)->print_data);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    H5PLset_loading_state(0); /* a file names filters; none may load code */
    (*file)->id = open_image(data, bytes);
    if ((*file)->id < 0) {
        cy_hdf5_close(file);
        return cy_fail(CARRY_E_FORMAT,
                       "%s is not a readable HDF5 file: truncated or damaged", what);
    }
    return CARRY_OK;
}

void cy_hdf5_close(cy_hdf5 **file)
{
    if (!*file) return;
    if ((*file)->id >= 0) H5Fclose((*file)->id);
    H5Eset_auto2(H5E_DEFAULT, (*file)->print, (*file)->print_data);
    cy_free(*file);
    *file = NULL;
}

/* ---- paths -------------------------------------------------------------------------------------- */

/* Opens one link below `group`: *id is 0 when there is none. */
static carry_status open_link(cy_hdf5 *file, hid_t group, const char *name,
                              const char *path, hid_t *id)
{
    *id = 0;
    htri_t exists = H5Lexists(group, name, H5P_DEFAULT);
    CY_CHECK(exists >= 0, CARRY_E_FORMAT, "%s is damaged at '%s'", file->what, path);
    if (!exists) return CARRY_OK;
    H5L_info_t link;
    CY_CHECK(H5Lget_info(group, name, &link, H5P_DEFAULT) >= 0, CARRY_E_FORMAT,
             "%s is damaged at '%s'", file->what, path);
    CY_CHECK(link.type == H5L_TYPE_HARD, CARRY_E_UNSUPPORTED,
             "%s: '%s' is %s link, which carry does not follow", file->what, path,
             link.type == H5L_TYPE_SOFT       ? "a soft"
             : link.type == H5L_TYPE_EXTERNAL ? "an external"
                                              : "a user-defined");
    *id = H5Oopen(group, name, H5P_DEFAULT);
    CY_CHECK(*id >= 0, CARRY_E_FORMAT, "%s is damaged at '%s'", file->what, path);
    return CARRY_OK;
}

/* Walks a path link by link, because H5Oopen on the whole would follow any kind. *id is 0 when something
 * on the way is missing or no group; otherwise the caller's: H5Oclose. */
static carry_status open_path(cy_hdf5 *file, const char *path, hid_t *id)
{
    char part[MAX_PATH_BYTES];
    *id = H5Oopen(file->id, "/", H5P_DEFAULT);
    CY_CHECK(*id >= 0, CARRY_E_FORMAT, "%s has no readable root group", file->what);
    const char *rest = path;
    while (*rest) {
        size_t length = strcspn(rest, "/");
        if (length == 0 || (length == 1 && *rest == '.')) {
            rest += length + (rest[length] == '/');
            continue;
        }
        hid_t next = 0;
        carry_status status = CARRY_OK;
        if (length >= sizeof part) {
            status = cy_fail(CARRY_E_FORMAT, "%s: a name of %zu bytes; %zu are the most",
                             file->what, length, sizeof part - 1);
        } else if (H5Iget_type(*id) == H5I_GROUP) {
            memcpy(part, rest, length);
            part[length] = '\0';
            status = open_link(file, *id, part, path, &next);
        }
        H5Oclose(*id);
        *id = status == CARRY_OK ? next : 0;
        if (*id <= 0) return status;
        rest += length + (rest[length] == '/');
    }
    return CARRY_OK;
}

carry_status cy_hdf5_find(cy_hdf5 *file, const char *path, cy_hdf5_kind *kind)
{
    hid_t id;
    *kind = CY_HDF5_NONE;
    CY_TRY(open_path(file, path, &id));
    if (!id) return CARRY_OK;
    H5I_type_t type = H5Iget_type(id);
    if (type == H5I_GROUP) *kind = CY_HDF5_GROUP;
    if (type == H5I_DATASET) *kind = CY_HDF5_DATASET;
    H5Oclose(id);
    return CARRY_OK;
}

/* ---- text attributes ---------------------------------------------------------------------------- */

typedef struct text_attribute {
    cy_hdf5 *file;
    const char *name;
    cy_arena *arena;
    char **texts;
    size_t count;
} text_attribute;

static carry_status keep_text(text_attribute *out, size_t index, const char *text,
                              size_t bytes)
{
    const char *end = text && bytes != SIZE_MAX ? memchr(text, '\0', bytes) : NULL;
    size_t length = !text               ? 0
                    : bytes == SIZE_MAX ? strlen(text)
                    : end               ? (size_t)(end - text)
                                        : bytes;
    char *copy = cy_arena_alloc(out->arena, length + 1);
    CY_CHECK(copy, CARRY_E_MEMORY, "out of memory reading attribute '%s' of %s",
             out->name, out->file->what);
    if (length) memcpy(copy, text, length);
    out->texts[index] = copy;
    return CARRY_OK;
}

static carry_status read_variable(text_attribute *out, hid_t attribute, hid_t type)
{
    hid_t memory = H5Tcopy(H5T_C_S1);
    hid_t space = H5Aget_space(attribute);
    char **raw = cy_alloc(out->count * sizeof *raw);
    carry_status status = CARRY_OK;
    if (!raw)
        status = cy_fail(CARRY_E_MEMORY, "out of memory reading attribute '%s' of %s",
                         out->name, out->file->what);
    else if (memory < 0 || space < 0 || H5Tset_size(memory, H5T_VARIABLE) < 0 ||
             H5Tset_cset(memory, H5Tget_cset(type)) < 0 ||
             H5Aread(attribute, memory, raw) < 0)
        status = cy_fail(CARRY_E_FORMAT, "%s: attribute '%s' is damaged", out->file->what,
                         out->name);
    for (size_t i = 0; status == CARRY_OK && i < out->count; i++)
        status = keep_text(out, i, raw[i], SIZE_MAX);
    if (raw && memory >= 0 && space >= 0)
        H5Dvlen_reclaim(memory, space, H5P_DEFAULT, raw);
    cy_free(raw);
    if (space >= 0) H5Sclose(space);
    if (memory >= 0) H5Tclose(memory);
    return status;
}

static carry_status read_fixed(text_attribute *out, hid_t attribute, hid_t type)
{
    size_t size = H5Tget_size(type);
    CY_CHECK(size >= 1 && size <= out->file->bytes / out->count, CARRY_E_FORMAT,
             "%s: attribute '%s' claims %zu texts of %zu bytes", out->file->what,
             out->name, out->count, size);
    char *raw = cy_alloc(out->count * size);
    CY_CHECK(raw, CARRY_E_MEMORY, "out of memory reading attribute '%s' of %s", out->name,
             out->file->what);
    carry_status status = CARRY_OK;
    if (H5Aread(attribute, type, raw) < 0)
        status = cy_fail(CARRY_E_FORMAT, "%s: attribute '%s' is damaged", out->file->what,
                         out->name);
    for (size_t i = 0; status == CARRY_OK && i < out->count; i++)
        status = keep_text(out, i, raw + i * size, size);
    cy_free(raw);
    return status;
}

static carry_status read_texts(text_attribute *out, hid_t attribute)
{
    const char *what = out->file->what;
    hid_t space = H5Aget_space(attribute);
    hssize_t points = space < 0 ? -1 : H5Sget_simple_extent_npoints(space);
    if (space >= 0) H5Sclose(space);
    CY_CHECK(points >= 0, CARRY_E_FORMAT, "%s: attribute '%s' is damaged", what,
             out->name);
    CY_CHECK((hsize_t)points <= MAX_STRINGS && (hsize_t)points <= out->file->bytes,
             CARRY_E_FORMAT, "%s: attribute '%s' claims %lld texts", what, out->name,
             (long long)points);
    out->count = (size_t)points;
    out->texts = cy_arena_alloc(out->arena, out->count * sizeof *out->texts);
    CY_CHECK(out->texts, CARRY_E_MEMORY, "out of memory reading attribute '%s' of %s",
             out->name, what);
    if (out->count == 0) return CARRY_OK; /* NumPy's empty list is of float64 */
    hid_t type = H5Aget_type(attribute);
    CY_CHECK(type >= 0, CARRY_E_FORMAT, "%s: attribute '%s' is damaged", what, out->name);
    carry_status status;
    if (H5Tget_class(type) != H5T_STRING)
        status =
            cy_fail(CARRY_E_FORMAT, "%s: attribute '%s' is no text", what, out->name);
    else if (H5Tis_variable_str(type) > 0) status = read_variable(out, attribute, type);
    else status = read_fixed(out, attribute, type);
    H5Tclose(type);
    return status;
}

carry_status cy_hdf5_texts(cy_hdf5 *file, const char *path, const char *name,
                           cy_arena *arena, char ***texts, size_t *count)
{
    text_attribute out = {.file = file, .name = name, .arena = arena};
    hid_t object;
    *texts = NULL;
    *count = 0;
    CY_TRY(open_path(file, path, &object));
    CY_CHECK(object, CARRY_E_FORMAT, "%s has no group '%s'", file->what, path);
    carry_status status = CARRY_OK;
    htri_t exists = H5Aexists(object, name);
    if (exists < 0) {
        status =
            cy_fail(CARRY_E_FORMAT, "%s: attribute '%s' is damaged", file->what, name);
    } else if (exists) {
        hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
        if (attribute < 0)
            status = cy_fail(CARRY_E_FORMAT, "%s: attribute '%s' is damaged", file->what,
                             name);
        else status = read_texts(&out, attribute);
        if (attribute >= 0) H5Aclose(attribute);
    }
    H5Oclose(object);
    if (status != CARRY_OK) return status;
    *texts = out.texts;
    *count = out.count;
    return CARRY_OK;
}

carry_status cy_hdf5_text(cy_hdf5 *file, const char *path, const char *name,
                          cy_arena *arena, char **text)
{
    char **texts;
    size_t count;
    *text = NULL;
    CY_TRY(cy_hdf5_texts(file, path, name, arena, &texts, &count));
    if (!texts) return CARRY_OK;
    CY_CHECK(count == 1, CARRY_E_FORMAT,
             "%s: attribute '%s' holds %zu texts, expected one", file->what, name, count);
    *text = texts[0];
    return CARRY_OK;
}

/* ---- numbers ------------------------------------------------------------------------------------ */

static carry_status check_shape(hid_t space, const char *label, const cy_tensor *tensor)
{
    hsize_t shape[H5S_MAX_RANK];
    int rank = H5Sget_simple_extent_ndims(space);
    CY_CHECK(rank >= 0 && H5Sget_simple_extent_dims(space, shape, NULL) == rank,
             CARRY_E_FORMAT, "%s: its shape is damaged", label);
    bool same = (uint32_t)rank == tensor->rank;
    for (int i = 0; same && i < rank; i++)
        same = shape[i] == tensor->shape[i];
    if (same) return CARRY_OK;
    char got[128] = "[", wanted[64] = "[";
    size_t used = 1;
    for (int i = 0; i < rank && i < 4; i++)
        used += (size_t)snprintf(got + used, sizeof got - used, "%s%llu", i ? ", " : "",
                                 (unsigned long long)shape[i]);
    snprintf(got + used, sizeof got - used, rank > 4 ? ", ...]" : "]");
    used = 1;
    for (uint32_t i = 0; i < tensor->rank; i++)
        used += (size_t)snprintf(wanted + used, sizeof wanted - used, "%s%llu",
                                 i ? ", " : "", (unsigned long long)tensor->shape[i]);
    snprintf(wanted + used, sizeof wanted - used, "]");
    return cy_fail(CARRY_E_FORMAT, "%s is %s, expected %s", label, got, wanted);
}

/* Where the numbers lie and how they are packed, before anything of it is read. */
static carry_status check_storage(cy_hdf5 *file, hid_t dataset, const char *label,
                                  uint64_t bytes)
{
    static const H5Z_filter_t allowed[] = {H5Z_FILTER_DEFLATE, H5Z_FILTER_SHUFFLE,
                                           H5Z_FILTER_FLETCHER32, H5Z_FILTER_SZIP};
    hid_t create = H5Dget_create_plist(dataset);
    CY_CHECK(create >= 0, CARRY_E_FORMAT, "%s: its storage is damaged", label);
    H5D_layout_t layout = H5Pget_layout(create);
    int external = layout == H5D_VIRTUAL ? 0 : H5Pget_external_count(create);
    int filters = H5Pget_nfilters(create);
    hsize_t chunk[H5S_MAX_RANK];
    uint64_t chunk_numbers = 1;
    int chunk_rank =
        layout == H5D_CHUNKED ? H5Pget_chunk(create, H5S_MAX_RANK, chunk) : 0;
    for (int i = 0; i < chunk_rank; i++)
        chunk_numbers = chunk[i] && chunk_numbers <= UINT64_MAX / chunk[i]
                            ? chunk_numbers * chunk[i]
                            : UINT64_MAX;
    bool known = true;
    char filter_name[64] = "";
    for (int i = 0; known && i < filters; i++) {
        unsigned flags, config;
        size_t values = 0;
        H5Z_filter_t filter =
            H5Pget_filter2(create, (unsigned)i, &flags, &values, NULL,
                           sizeof filter_name - 1, filter_name, &config);
        known = false;
        for (size_t k = 0; k < sizeof allowed / sizeof *allowed; k++)
            known |= filter == allowed[k] && H5Zfilter_avail(filter) > 0;
    }
    H5Pclose(create);
    CY_CHECK(layout != H5D_VIRTUAL, CARRY_E_UNSUPPORTED,
             "%s is a virtual dataset, whose numbers lie in other files", label);
    CY_CHECK(external == 0, CARRY_E_UNSUPPORTED, "%s keeps its numbers in another file",
             label);
    CY_CHECK(
        (layout == H5D_COMPACT || layout == H5D_CONTIGUOUS || layout == H5D_CHUNKED) &&
            filters >= 0 && chunk_rank >= 0,
        CARRY_E_FORMAT, "%s: its storage is damaged", label);
    CY_CHECK(known, CARRY_E_UNSUPPORTED,
             "%s is packed with the filter '%s'; gzip, shuffle, fletcher32 and szip are "
             "supported",
             label, filter_name);
    file->claimed += bytes;
    CY_CHECK(file->claimed <= FREE_BYTES || file->claimed / MAX_GROWTH <= file->bytes,
             CARRY_E_FORMAT,
             "%s: the datasets up to this one claim %llu bytes, in a file of %llu", label,
             (unsigned long long)file->claimed, (unsigned long long)file->bytes);
    CY_CHECK(chunk_numbers <= FREE_BYTES / 8 || chunk_numbers / MAX_GROWTH <= file->bytes,
             CARRY_E_FORMAT, "%s claims chunks of %llu numbers, in a file of %llu bytes",
             label, (unsigned long long)chunk_numbers, (unsigned long long)file->bytes);
    return CARRY_OK;
}

/* How a dataset's numbers become float32. */
typedef enum number_kind {
    NUMBERS_OTHER,
    NUMBERS_FLOAT, /* float32, float64 of either byte order: libhdf5 converts */
    NUMBERS_FLOAT16_LITTLE,
    NUMBERS_FLOAT16_BIG,
    NUMBERS_BFLOAT16 /* Keras writes them as two opaque bytes, little-endian */
} number_kind;

static bool is_float16(hid_t type)
{
    size_t sign, exponent, exponent_bits, fraction, fraction_bits;
    return H5Tget_size(type) == 2 && H5Tget_precision(type) == 16 &&
           H5Tget_fields(type, &sign, &exponent, &exponent_bits, &fraction,
                         &fraction_bits) >= 0 &&
           sign == 15 && exponent == 10 && exponent_bits == 5 && fraction == 0 &&
           fraction_bits == 10 && H5Tget_ebias(type) == 15;
}

static number_kind kind_of(hid_t type)
{
    H5T_class_t class = H5Tget_class(type);
    if (class == H5T_OPAQUE && H5Tget_size(type) == 2) return NUMBERS_BFLOAT16;
    if (class != H5T_FLOAT) return NUMBERS_OTHER;
    const hid_t converted[] = {H5T_IEEE_F32LE, H5T_IEEE_F32BE, H5T_IEEE_F64LE,
                               H5T_IEEE_F64BE};
    for (size_t i = 0; i < sizeof converted / sizeof *converted; i++)
        if (H5Tequal(type, converted[i]) > 0) return NUMBERS_FLOAT;
    if (!is_float16(type)) return NUMBERS_OTHER;
    return H5Tget_order(type) == H5T_ORDER_BE ? NUMBERS_FLOAT16_BIG
                                              : NUMBERS_FLOAT16_LITTLE;
}

static carry_status refuse_type(hid_t type, const char *label)
{
    static const struct {
        H5T_class_t class;
        const char *name;
    } names[] = {{H5T_INTEGER, "integers"},
                 {H5T_STRING, "text"},
                 {H5T_COMPOUND, "compounds"},
                 {H5T_OPAQUE, "opaque bytes"},
                 {H5T_FLOAT, "floating-point numbers of an unusual form"}};
    const char *name = "something else";
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (H5Tget_class(type) == names[i].class) name = names[i].name;
    return cy_fail(CARRY_E_UNSUPPORTED,
                   "%s holds %s of %zu bytes; supported are float32, float16, bfloat16 "
                   "and float64",
                   label, name, H5Tget_size(type));
}

static uint16_t half_bits(const unsigned char *bytes, number_kind kind)
{
    return kind == NUMBERS_FLOAT16_BIG ? (uint16_t)(bytes[0] << 8 | bytes[1])
                                       : (uint16_t)(bytes[1] << 8 | bytes[0]);
}

/* 16-bit numbers are read as they lie into the upper half of `values` and widened from the front, which
 * never overtakes what is still to be read. */
static bool read_halves(hid_t dataset, hid_t type, number_kind kind, float *values,
                        size_t count)
{
    unsigned char *raw = (unsigned char *)values + 2 * count;
    if (H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, raw) < 0) return false;
    for (size_t i = 0; i < count; i++) {
        uint16_t bits = half_bits(raw + 2 * i, kind);
        values[i] =
            kind == NUMBERS_BFLOAT16 ? cy_bfloat16_float(bits) : cy_float16_float(bits);
    }
    return true;
}

static carry_status read_dataset(cy_hdf5 *file, hid_t dataset, hid_t space, hid_t type,
                                 const char *label, cy_tensor *tensor, cy_arena *arena)
{
    CY_TRY(check_shape(space, label, tensor));
    number_kind kind = kind_of(type);
    if (kind == NUMBERS_OTHER) return refuse_type(type, label);
    size_t count = (size_t)cy_tensor_count(tensor);
    CY_TRY(check_storage(file, dataset, label, count * sizeof(float)));
    float *values = cy_arena_alloc(arena, count * sizeof *values);
    CY_CHECK(values, CARRY_E_MEMORY, "out of memory: %zu bytes for %s",
             count * sizeof *values, label);
    bool read = kind == NUMBERS_FLOAT ? H5Dread(dataset, H5T_NATIVE_FLOAT, H5S_ALL,
                                                H5S_ALL, H5P_DEFAULT, values) >= 0
                                      : read_halves(dataset, type, kind, values, count);
    CY_CHECK(read, CARRY_E_FORMAT, "%s cannot be read: its numbers are damaged", label);
    tensor->data = values;
    return CARRY_OK;
}

carry_status cy_hdf5_floats(cy_hdf5 *file, const char *path, const char *label,
                            cy_tensor *tensor, cy_arena *arena)
{
    hid_t dataset;
    CY_TRY(open_path(file, path, &dataset));
    CY_CHECK(dataset, CARRY_E_FORMAT, "%s: %s has no dataset '%s'", label, file->what,
             path);
    carry_status status;
    if (H5Iget_type(dataset) != H5I_DATASET) {
        status = cy_fail(CARRY_E_FORMAT, "%s: '%s' in %s is no dataset", label, path,
                         file->what);
    } else {
        hid_t space = H5Dget_space(dataset), type = H5Dget_type(dataset);
        if (space < 0 || type < 0)
            status = cy_fail(CARRY_E_FORMAT, "%s: '%s' in %s is damaged", label, path,
                             file->what);
        else status = read_dataset(file, dataset, space, type, label, tensor, arena);
        if (type >= 0) H5Tclose(type);
        if (space >= 0) H5Sclose(space);
    }
    H5Oclose(dataset);
    return status;
}
