/* subbyte for C and everything that calls C: load an artifact, run it, see what runs.
 *
 * Functions that can fail return NULL or a number other than 0 and write one sentence, cut to `error_size` bytes, into
 * `error` (which may be NULL). A network may be run from several threads at once; `streams` runs proceed side by side.
 */
#ifndef SUBBYTE_SUBBYTE_H
#define SUBBYTE_SUBBYTE_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define SUBBYTE_API __attribute__((visibility("default")))
#else
#define SUBBYTE_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef struct subbyte_network subbyte_network;

/* Zeros and NULL stand for the defaults. */
typedef struct {
  int threads;     /* of one run; default 1 */
  int streams;     /* runs side by side, each with its own memory and threads; default 1 */
  const char* isa; /* of subbyte_isa(); default: the best one of this CPU */
} subbyte_options;

typedef struct {
  int64_t height, width, channels; /* a vector has height and width 1 */
} subbyte_shape;

/* A step of the plan. Texts live as long as the network. */
typedef struct {
  const char *name, *op, *kernel, *isa;
  /* Formats ("int4", "uint8", "fp32") as the file asks and as the kernel reads; "" for the weights of a step without. */
  const char *requested_weights, *executed_weights, *requested_activations, *executed_activations;
  int64_t macs, weight_bytes, live_bytes; /* multiply-accumulates an image; bytes of weights, of activations alive */
  subbyte_shape shape;                    /* of the output */
} subbyte_step;

/* The instruction sets that this CPU can run, slowest first; NULL from `index` = their number on. */
SUBBYTE_API const char* subbyte_isa(int index);

/* Loads a .subbyte file. options may be NULL. NULL if it is damaged or cannot be run here. */
SUBBYTE_API subbyte_network* subbyte_load(const char* path, const subbyte_options* options, char* error,
                                          size_t error_size);
SUBBYTE_API void subbyte_free(subbyte_network* network);

SUBBYTE_API subbyte_shape subbyte_input(const subbyte_network* network);
SUBBYTE_API int subbyte_outputs(const subbyte_network* network);
SUBBYTE_API subbyte_shape subbyte_output(const subbyte_network* network, int index);

/* Runs `images` images. input: float32 [images, height, width, channels], preprocessed, finite; outputs[i]: room for
 * float32 [images, elements of output i] (codes as the numbers they stand for). 0 if that succeeded. */
SUBBYTE_API int subbyte_run(subbyte_network* network, const float* input, int images, float* const* outputs,
                            char* error, size_t error_size);

/* What is stored beside the network. The name of an element of the first output (NULL: none is stored), and JSON texts:
 * "preprocessing", "recipe", "provenance" (NULL for other keys). They live as long as the network. */
SUBBYTE_API const char* subbyte_class_name(const subbyte_network* network, int index);
SUBBYTE_API const char* subbyte_metadata(const subbyte_network* network, const char* key);

SUBBYTE_API int subbyte_steps(const subbyte_network* network);
SUBBYTE_API subbyte_step subbyte_step_at(const subbyte_network* network, int index);

#ifdef __cplusplus
}
#endif

#endif
