/* The part of Godot 3's GDNative interface (core 1.0, NativeScript 1.0) that this module uses, declared from its published numbers: with Godot's own
 * headers at hand, include gdnative_api_struct.gen.h instead. */
#ifndef GDNATIVE_H
#define GDNATIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Values of the engine: opaque, copied as bytes. */
typedef struct { uint8_t bytes[24]; } godot_variant;
typedef struct { uint8_t bytes[sizeof(void *)]; } godot_string, godot_char_string;
typedef void godot_object;

typedef struct { unsigned major, minor; } godot_version;

/* Every table of functions begins so. */
typedef struct godot_api { unsigned type; godot_version version; const struct godot_api *next; } godot_api;
enum { GODOT_EXT_NATIVESCRIPT = 1 };

typedef void (*godot_function)(void);
typedef struct { godot_api head; unsigned n_extensions; const godot_api *const *extensions; godot_function functions[744]; } godot_core;

typedef struct {
  bool in_editor;
  uint64_t core_hash, editor_hash, no_hash;
  godot_function report_version, report_loading;
  godot_object *library;
  const godot_core *core;
  const godot_string *path;
} godot_init_options;

/* Places in `functions`, and their types. */
enum { VARIANT_NEW_BOOL = 510, VARIANT_NEW_REAL = 513, VARIANT_NEW_STRING = 514, VARIANT_AS_INT = 539, VARIANT_AS_STRING = 541,
       CHARS_LENGTH = 571, CHARS_DATA = 572, CHARS_DESTROY = 573, STRING_NEW = 574, STRING_UTF8 = 678, STRING_PARSE = 680, STRING_DESTROY = 721 };
typedef void (*variant_new_bool)(godot_variant *, bool);
typedef void (*variant_new_real)(godot_variant *, double);
typedef void (*variant_new_string)(godot_variant *, const godot_string *);
typedef int64_t (*variant_as_int)(const godot_variant *);
typedef godot_string (*variant_as_string)(const godot_variant *);
typedef int (*chars_length)(const godot_char_string *);
typedef const char *(*chars_data)(const godot_char_string *);
typedef void (*chars_destroy)(godot_char_string *);
typedef void (*string_new)(godot_string *);
typedef godot_char_string (*string_utf8)(const godot_string *);
typedef bool (*string_parse)(godot_string *, const char *, int);
typedef void (*string_destroy)(godot_string *);

/* NativeScript: classes and methods. */
typedef struct { void *(*create)(godot_object *, void *); void *data; void (*free)(void *); } godot_create;
typedef struct { void (*destroy)(godot_object *, void *, void *); void *data; void (*free)(void *); } godot_destroy;
typedef struct { godot_variant (*call)(godot_object *, void *, void *self, int n, godot_variant **arguments); void *data; void (*free)(void *); } godot_method;
typedef struct { int rpc; } godot_method_attributes;
typedef struct {
  godot_api head;
  void (*register_class)(void *library, const char *name, const char *base, godot_create, godot_destroy);
  godot_function register_tool_class;
  void (*register_method)(void *library, const char *class_name, const char *name, godot_method_attributes, godot_method);
} godot_nativescript;

#endif
