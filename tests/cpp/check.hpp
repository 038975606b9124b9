// What the C++ tests share. A check that fails says where and ends the program with 1. Arguments: model.gguf [kernel set].
#ifndef CHECK_HPP
#define CHECK_HPP

#include "inference.hpp"
#include <cstdio>
#include <cstdlib>

namespace inf = inference;

#define CHECK(condition) \
  do { if (!(condition)) { std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); std::exit(1); } } while (0)

inline std::string options_of(int argc, char **argv) { return argc > 2 ? "{\"kernels\":\"" + std::string(argv[2]) + "\"}" : "{}"; }

#endif
