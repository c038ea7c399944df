/* Damaged and dishonest files: truncated anywhere, archives that lie, HDF5 that points elsewhere or claims
 * what it does not hold. */
#include "import_support.h"

#include <criterion/criterion.h>
#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(const void *data, size_t bytes, const char *what, carry_status status,
                  const char *says)
{
    outcome out;
    cr_assert(import_checked(data, bytes, what, &out));
    cr_assert_eq(out.status, status, "%s: %s '%s'", what, carry_status_name(out.status),
                 out.sentence);
    cr_assert(strstr(out.sentence, says), "%s: '%s' does not say '%s'", what,
              out.sentence, says);
    carry_import_free(out.model);
}

/* ---- truncation --------------------------------------------------------------------------------- */

/* A file cut short is refused, wherever it is cut; an HDF5 file's end is known from its beginning. */
static void truncate_golden(const char *name, size_t step)
{
    blob file = golden_read(name);
    for (size_t bytes = 1; bytes < file.bytes; bytes += step) {
        unsigned char *copy =
            malloc(bytes); /* of exactly this size, for the sanitizers */
        memcpy(copy, file.data, bytes);
        outcome out;
        cr_assert(import_checked(copy, bytes, name, &out));
        cr_assert_neq(out.status, CARRY_OK, "%s cut to %zu bytes", name, bytes);
        free(copy);
    }
    blob_free(&file);
}

Test(import_files, truncated_archives)
{
    truncate_golden("k3_sequential.keras", 13);
    truncate_golden("k3_deflated.keras", 7);
}

Test(import_files, truncated_hdf5)
{
    truncate_golden("k3_sequential.h5", 13);
    truncate_golden("k2_0.h5", 7);
}

/* ---- archives that lie -------------------------------------------------------------------------- */

typedef struct parts {
    blob archive;
    zip_member members[3];
} parts;

static parts parts_open(void)
{
    static const char *const names[] = {"metadata.json", "config.json",
                                        "model.weights.h5"};
    parts p = {.archive = golden_read("k3_sequential.keras")};
    for (int i = 0; i < 3; i++) {
        blob member;
        cr_assert(zip_find(p.archive, names[i], &member));
        p.members[i] =
            (zip_member){.name = names[i], .data = member.data, .bytes = member.bytes};
    }
    return p;
}

static void check_zip(const zip_member *members, size_t count, const char *what,
                      carry_status status, const char *says)
{
    blob file = zip_make(members, count);
    check(file.data, file.bytes, what, status, says);
    blob_free(&file);
}

Test(import_files, an_honest_archive_passes)
{
    parts p = parts_open();
    check_zip(p.members, 3, "all three", CARRY_OK, "");
    zip_member swapped[] = {p.members[2], p.members[0], p.members[1]};
    check_zip(swapped, 3, "another order", CARRY_OK, "");
    blob_free(&p.archive);
}

Test(import_files, missing_members_are_named)
{
    parts p = parts_open();
    check_zip(p.members, 2, "no weights", CARRY_E_FORMAT, "no member model.weights.h5");
    check_zip(p.members + 1, 2, "no metadata", CARRY_E_FORMAT, "no keras_version");
    zip_member two[] = {p.members[0], p.members[2]};
    check_zip(two, 2, "no config", CARRY_E_FORMAT, "no member config.json");
    zip_member npz[] = {p.members[0], p.members[1], p.members[2]};
    npz[2].name = "model.weights.npz";
    check_zip(npz, 3, "npz", CARRY_E_UNSUPPORTED, "model.weights.npz");
    npz[2].name = "model.weights.json";
    check_zip(npz, 3, "sharded", CARRY_E_UNSUPPORTED, "sharded");
    zip_member other = {.name = "../config.json", .data = "{}", .bytes = 2};
    check_zip(&other, 1, "a path", CARRY_E_FORMAT, "no member config.json");
    blob_free(&p.archive);
}

Test(import_files, members_that_lie_are_refused)
{
    parts p = parts_open();
    for (int i = 0; i < 3; i++) {
        zip_member lie[4];
        memcpy(lie, p.members, sizeof p.members);
        lie[3] = p.members[i];
        check_zip(lie, 4, "twice", CARRY_E_FORMAT, "two members of one name");
        lie[i].crc_error = 1;
        check_zip(lie, 3, "checksum", CARRY_E_FORMAT, "damaged");
        lie[i] = p.members[i];
        lie[i].flags = 1;
        check_zip(lie, 3, "encrypted", CARRY_E_UNSUPPORTED, "encrypted");
        lie[i] = p.members[i];
        lie[i].method = 12;
        check_zip(lie, 3, "bzip2", CARRY_E_UNSUPPORTED, "method 12");
        lie[i] = p.members[i];
        lie[i].unpacked = (uint32_t)lie[i].bytes - 1;
        check_zip(lie, 3, "shorter", CARRY_E_FORMAT, "");
        lie[i].unpacked = (uint32_t)lie[i].bytes + 1;
        check_zip(lie, 3, "longer", CARRY_E_FORMAT, "");
        lie[i] = p.members[i];
        lie[i].local_error = 1;
        check_zip(lie, 3, "the local header alone", CARRY_OK, "");
        lie[i] = p.members[i];
        lie[i].zip64_lengths = UINT64_MAX / 2;
        check_zip(lie, 3, "zip64", CARRY_E_FORMAT, "");
    }
    blob_free(&p.archive);
}

Test(import_files, bombs_are_refused_before_they_unpack)
{
    parts p = parts_open();
    zip_member lie[3];
    memcpy(lie, p.members, sizeof lie);
    lie[2].method = 8;
    lie[2].unpacked = 1u << 31;
    check_zip(lie, 3, "a ratio of 100000", CARRY_E_FORMAT, "claims to grow");
    /* A packed block of 5 bytes that claims to be 4 long, and of 4 that claims to be 5. */
    static const unsigned char packed[] = {1, 5, 0, 0xfa, 0xff, '{', '}', ' ', ' ', ' '};
    lie[2] = p.members[2];
    lie[1] = (zip_member){.name = "config.json",
                          .data = packed,
                          .bytes = sizeof packed,
                          .method = 8,
                          .unpacked = 4};
    check_zip(lie, 3, "longer than it claims", CARRY_E_FORMAT, "damaged");
    lie[1].unpacked = 6;
    check_zip(lie, 3, "shorter than it claims", CARRY_E_FORMAT, "damaged");
    blob_free(&p.archive);
}

Test(import_files, a_config_is_bounded)
{
    parts p = parts_open();
    size_t bytes = 17 * 1024 * 1024;
    char *text = malloc(bytes);
    memset(text, ' ', bytes);
    p.members[1].data = text;
    p.members[1].bytes = bytes;
    check_zip(p.members, 3, "17 MiB of blanks", CARRY_E_FORMAT, "are the most");
    free(text);
    blob_free(&p.archive);
}

Test(import_files, junk_around_an_archive)
{
    blob file = golden_read("k3_sequential.keras");
    unsigned char *junk = calloc(1, file.bytes + 1000);
    memcpy(junk, "PK\3\4", 4);
    memcpy(junk + 500, file.data, file.bytes);
    check(junk, file.bytes + 500, "junk before", CARRY_E_FORMAT, "damaged");
    check(junk, 500, "junk alone", CARRY_E_FORMAT, "damaged");
    memset(junk, 0, 500);
    check(junk, file.bytes + 500, "zeros before", CARRY_E_FORMAT,
          "no known model format");
    free(junk);
    blob_free(&file);
}

/* ---- HDF5 --------------------------------------------------------------------------------------- */

/* The smallest model: Dense(2) named "d" over 3 features. What stands where its kernel belongs is the
 * trick. */
static const char config[] =
    "{\"class_name\": \"Sequential\", \"config\": {\"name\": \"m\", \"layers\": ["
    "{\"class_name\": \"InputLayer\", \"config\": {\"name\": \"x\", \"batch_shape\": "
    "[null, null, %llu]}}, {\"class_name\": \"Dense\", \"config\": {\"name\": \"d\", "
    "\"units\": %llu, \"activation\": \"linear\", \"use_bias\": false}}]}}";

static const float numbers[6] = {1, -2, 3.5f, -4.25f, 5, 6e-3f};

static void write_text(hid_t object, const char *name, const char *text)
{
    hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate(H5S_SCALAR);
    H5Tset_size(type, strlen(text) ? strlen(text) : 1);
    hid_t attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    H5Awrite(attribute, type, text);
    H5Aclose(attribute);
    H5Sclose(space);
    H5Tclose(type);
}

typedef void kernel_writer(hid_t group);

static blob hdf5_make(kernel_writer *kernel, unsigned long long features,
                      unsigned long long units, const char *weight_name)
{
    char text[1024];
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_fapl_core(access, 4096, 0);
    hid_t file = H5Fcreate("made.h5", H5F_ACC_TRUNC, H5P_DEFAULT, access);
    snprintf(text, sizeof text, config, features, units);
    write_text(file, "model_config", text);
    write_text(file, "keras_version", "3.15.1");
    hid_t weights =
        H5Gcreate2(file, "model_weights", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    hid_t layer = H5Gcreate2(weights, "d", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    if (weight_name) write_text(layer, "weight_names", weight_name);
    kernel(layer);
    H5Gclose(layer);
    H5Gclose(weights);
    H5Fflush(file, H5F_SCOPE_LOCAL);
    blob image = {.bytes = (size_t)H5Fget_file_image(file, NULL, 0)};
    image.data = malloc(image.bytes);
    H5Fget_file_image(file, image.data, image.bytes);
    H5Fclose(file);
    H5Pclose(access);
    return image;
}

static void check_kernel(kernel_writer *kernel, const char *what, carry_status status,
                         const char *says)
{
    blob file = hdf5_make(kernel, 3, 2, "kernel");
    check(file.data, file.bytes, what, status, says);
    blob_free(&file);
}

static hid_t make_dataset(hid_t group, const char *name, hid_t type, int rank,
                          const hsize_t *shape, hid_t create, const void *data)
{
    hid_t space = H5Screate_simple(rank, shape, NULL);
    hid_t dataset =
        H5Dcreate2(group, name, type, space, H5P_DEFAULT, create, H5P_DEFAULT);
    if (data) H5Dwrite(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, data);
    H5Sclose(space);
    return dataset;
}

static void make_kernel(hid_t group, hid_t type, int rank, hsize_t rows, hsize_t columns,
                        hid_t create)
{
    const hsize_t shape[4] = {rows, columns, 1, 1};
    H5Dclose(make_dataset(group, "kernel", type, rank, shape, create,
                          rows * columns == 6 ? numbers : NULL));
}

static void honest(hid_t group)
{
    make_kernel(group, H5T_IEEE_F32LE, 2, 3, 2, H5P_DEFAULT);
}
static void big_endian(hid_t group)
{
    make_kernel(group, H5T_IEEE_F32BE, 2, 3, 2, H5P_DEFAULT);
}
static void doubles(hid_t group)
{
    make_kernel(group, H5T_IEEE_F64BE, 2, 3, 2, H5P_DEFAULT);
}
static hid_t float16_type(H5T_order_t order)
{
    hid_t type = H5Tcopy(H5T_IEEE_F32LE);
    H5Tset_fields(type, 15, 10, 5, 0, 10);
    H5Tset_size(type, 2);
    H5Tset_ebias(type, 15);
    H5Tset_order(type, order);
    return type;
}
static void halves_big(hid_t group)
{
    hid_t type = float16_type(H5T_ORDER_BE);
    make_kernel(group, type, 2, 3, 2, H5P_DEFAULT);
    H5Tclose(type);
}
static void packed(hid_t group)
{
    const hsize_t chunk[2] = {2, 1};
    hid_t create = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(create, 2, chunk);
    H5Pset_shuffle(create);
    H5Pset_deflate(create, 9);
    H5Pset_fletcher32(create);
    make_kernel(group, H5T_IEEE_F32LE, 2, 3, 2, create);
    H5Pclose(create);
}
static void compact(hid_t group)
{
    hid_t create = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_layout(create, H5D_COMPACT);
    make_kernel(group, H5T_IEEE_F32LE, 2, 3, 2, create);
    H5Pclose(create);
}
static void committed_type(hid_t group)
{
    hid_t type = H5Tcopy(H5T_IEEE_F32LE);
    H5Tcommit2(group, "type", type, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    make_kernel(group, type, 2, 3, 2, H5P_DEFAULT);
    H5Tclose(type);
}

/* The kernel in the converted file: exact, but for float16's shorter fraction. */
static void check_numbers(kernel_writer *kernel, const char *what, float tolerance)
{
    blob file = hdf5_make(kernel, 3, 2, "kernel");
    outcome out;
    cr_assert(import_checked(file.data, file.bytes, what, &out));
    cr_assert_eq(out.status, CARRY_OK, "%s: %s", what, out.sentence);
    float got[6];
    memcpy(got, (char *)out.model + out.bytes - sizeof got, sizeof got);
    for (int i = 0; i < 6; i++)
        cr_assert_leq(got[i] > numbers[i] ? got[i] - numbers[i] : numbers[i] - got[i],
                      tolerance, "%s: number %d is %g", what, i, (double)got[i]);
    carry_import_free(out.model);
    blob_free(&file);
}

Test(import_files, every_way_to_store_the_same_numbers)
{
    check_numbers(honest, "as Keras", 0);
    check_numbers(big_endian, "big-endian", 0);
    check_numbers(doubles, "float64, big-endian", 0);
    check_numbers(halves_big, "float16, big-endian", 3e-6f);
    check_numbers(packed, "chunks, gzip, shuffle, fletcher32", 0);
    check_numbers(compact, "compact", 0);
    check_numbers(committed_type, "a committed type", 0);
}

static void soft_link(hid_t group)
{
    const hsize_t shape[2] = {3, 2};
    H5Dclose(make_dataset(group, "real", H5T_IEEE_F32LE, 2, shape, H5P_DEFAULT, numbers));
    H5Lcreate_soft("real", group, "kernel", H5P_DEFAULT, H5P_DEFAULT);
}
static void external_link(hid_t group)
{
    H5Lcreate_external("/etc/passwd", "/", group, "kernel", H5P_DEFAULT, H5P_DEFAULT);
}
static void external_storage(hid_t group)
{
    hid_t create = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_external(create, "/etc/passwd", 0, 24);
    const hsize_t shape[2] = {3, 2};
    H5Dclose(make_dataset(group, "kernel", H5T_IEEE_F32LE, 2, shape, create, NULL));
    H5Pclose(create);
}
static void virtual_dataset(hid_t group)
{
    const hsize_t shape[2] = {3, 2};
    hid_t create = H5Pcreate(H5P_DATASET_CREATE);
    hid_t space = H5Screate_simple(2, shape, NULL);
    H5Pset_virtual(create, space, "other.h5", "data", space);
    H5Dclose(make_dataset(group, "kernel", H5T_IEEE_F32LE, 2, shape, create, NULL));
    H5Sclose(space);
    H5Pclose(create);
}
static void a_group(hid_t group)
{
    H5Gclose(H5Gcreate2(group, "kernel", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
}
static void a_type(hid_t group)
{
    hid_t type = H5Tcopy(H5T_IEEE_F32LE);
    H5Tcommit2(group, "kernel", type, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    H5Tclose(type);
}
static void nothing(hid_t group)
{
    (void)group;
}
static void itself(hid_t group)
{
    H5Lcreate_hard(group, ".", group, "kernel", H5P_DEFAULT, H5P_DEFAULT);
}
static void integers(hid_t group)
{
    make_kernel(group, H5T_STD_I32LE, 2, 3, 2, H5P_DEFAULT);
}
static void unusual_floats(hid_t group)
{
    hid_t type = float16_type(H5T_ORDER_LE);
    H5Tset_ebias(type, 14);
    make_kernel(group, type, 2, 3, 2, H5P_DEFAULT);
    H5Tclose(type);
}
static void one_string(hid_t group)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, 4);
    const hsize_t shape[2] = {3, 2};
    H5Dclose(make_dataset(group, "kernel", type, 2, shape, H5P_DEFAULT, NULL));
    H5Tclose(type);
}
static void other_shape(hid_t group)
{
    make_kernel(group, H5T_IEEE_F32LE, 2, 2, 3, H5P_DEFAULT);
}
static void other_rank(hid_t group)
{
    make_kernel(group, H5T_IEEE_F32LE, 3, 3, 2, H5P_DEFAULT);
}
static void no_rank(hid_t group)
{
    make_kernel(group, H5T_IEEE_F32LE, 0, 1, 1, H5P_DEFAULT);
}
static void strange_filter(hid_t group)
{
    const hsize_t chunk[2] = {3, 2};
    hid_t create = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(create, 2, chunk);
    H5Pset_scaleoffset(create, H5Z_SO_FLOAT_DSCALE, 3);
    make_kernel(group, H5T_IEEE_F32LE, 2, 3, 2, create);
    H5Pclose(create);
}

Test(import_files, hdf5_that_is_something_else)
{
    check_kernel(soft_link, "soft link", CARRY_E_UNSUPPORTED, "is a soft link");
    check_kernel(external_link, "external link", CARRY_E_UNSUPPORTED,
                 "is an external link");
    check_kernel(external_storage, "external storage", CARRY_E_UNSUPPORTED,
                 "keeps its numbers in another file");
    check_kernel(virtual_dataset, "virtual dataset", CARRY_E_UNSUPPORTED,
                 "is a virtual dataset");
    check_kernel(a_group, "a group", CARRY_E_FORMAT, "is no dataset");
    check_kernel(a_type, "a type", CARRY_E_FORMAT, "is no dataset");
    check_kernel(itself, "a circle", CARRY_E_FORMAT, "is no dataset");
    check_kernel(nothing, "nothing", CARRY_E_FORMAT, "has no dataset");
    check_kernel(integers, "integers", CARRY_E_UNSUPPORTED, "holds integers of 4 bytes");
    check_kernel(unusual_floats, "floats", CARRY_E_UNSUPPORTED, "of an unusual form");
    check_kernel(one_string, "text", CARRY_E_UNSUPPORTED, "holds text");
    check_kernel(other_shape, "shape", CARRY_E_FORMAT,
                 "d/kernel is [2, 3], expected [3, 2]");
    check_kernel(other_rank, "rank", CARRY_E_FORMAT,
                 "d/kernel is [3, 2, 1], expected [3, 2]");
    check_kernel(no_rank, "no rank", CARRY_E_FORMAT, "d/kernel is [], expected [3, 2]");
    check_kernel(strange_filter, "filter", CARRY_E_UNSUPPORTED,
                 "filter 'scaleoffset'; gzip, shuffle");
}

/* Numbers that nobody wrote take no room in a file. Up to 256 MiB such a dataset is what HDF5 says it is,
 * its fill value; beyond, a small file may claim anything and gets nothing. */
static void unwritten(hid_t group)
{
    make_kernel(group, H5T_IEEE_F32LE, 2, 3, 1 << 20, H5P_DEFAULT);
}
static void bomb(hid_t group)
{
    make_kernel(group, H5T_IEEE_F32LE, 2, 32, (hsize_t)1 << 24, H5P_DEFAULT);
}
static void packed_bomb(hid_t group)
{
    const hsize_t chunk[2] = {1, 1 << 20};
    hid_t create = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(create, 2, chunk);
    H5Pset_deflate(create, 9);
    make_kernel(group, H5T_IEEE_F32LE, 2, 32, (hsize_t)1 << 24, create);
    H5Pclose(create);
}

Test(import_files, datasets_nobody_wrote)
{
    blob small = hdf5_make(unwritten, 3, 1 << 20, "kernel");
    check(small.data, small.bytes, "12 MiB unwritten", CARRY_OK, "");
    blob_free(&small);
    kernel_writer *const bombs[] = {bomb, packed_bomb};
    for (int i = 0; i < 2; i++) {
        blob file = hdf5_make(bombs[i], 32, 1 << 24, "kernel");
        cr_assert_lt(file.bytes, 100000);
        check(file.data, file.bytes, "2 GiB unwritten", CARRY_E_FORMAT,
              "claim 2147483648 bytes");
        blob_free(&file);
    }
}

/* Chunks of a size that the dataset never has: what is refused is the buffer they would need. */
static void huge_chunks(hid_t group)
{
    const hsize_t chunk[2] = {1 << 15, 1 << 14}, most[2] = {H5S_UNLIMITED, H5S_UNLIMITED};
    const hsize_t shape[2] = {3, 2};
    hid_t create = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(create, 2, chunk);
    hid_t space = H5Screate_simple(2, shape, most);
    H5Dclose(H5Dcreate2(group, "kernel", H5T_IEEE_F32LE, space, H5P_DEFAULT, create,
                        H5P_DEFAULT));
    H5Sclose(space);
    H5Pclose(create);
}

Test(import_files, chunks_beyond_reason)
{
    check_kernel(huge_chunks, "chunks of 2 GiB", CARRY_E_FORMAT, "claims chunks");
}

Test(import_files, attributes_that_are_missing_or_odd)
{
    blob file = hdf5_make(honest, 3, 2, NULL);
    check(file.data, file.bytes, "no names", CARRY_E_FORMAT, "no attribute weight_names");
    blob_free(&file);
    file = hdf5_make(honest, 3, 2, "../d/kernel");
    check(file.data, file.bytes, "a path", CARRY_E_FORMAT, "has no dataset");
    blob_free(&file);
    file = hdf5_make(honest, 3, 2, "//./kernel");
    check(file.data, file.bytes, "empty parts", CARRY_OK, "");
    blob_free(&file);
    file = hdf5_make(honest, 3, 2, "");
    check(file.data, file.bytes, "an empty name", CARRY_E_FORMAT, "is no dataset");
    blob_free(&file);

    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_fapl_core(access, 4096, 0);
    hid_t plain = H5Fcreate("plain.h5", H5F_ACC_TRUNC, H5P_DEFAULT, access);
    H5Fflush(plain, H5F_SCOPE_LOCAL);
    unsigned char image[4096];
    ssize_t bytes = H5Fget_file_image(plain, image, sizeof image);
    cr_assert_gt(bytes, 0);
    H5Fclose(plain);
    H5Pclose(access);
    check(image, (size_t)bytes, "an empty HDF5 file", CARRY_E_UNSUPPORTED,
          "has no model_config");
}

/* A host that prints HDF5's errors still does so after an import. */
Test(import_files, the_error_printing_of_the_host_is_left_as_it_was)
{
    H5E_auto2_t print, after;
    void *data, *data_after;
    H5Eget_auto2(H5E_DEFAULT, &print, &data);
    cr_assert_not_null(print);
    check_kernel(soft_link, "soft link", CARRY_E_UNSUPPORTED, "is a soft link");
    H5Eget_auto2(H5E_DEFAULT, &after, &data_after);
    cr_assert_eq(print, after);
    cr_assert_eq(data, data_after);
}
