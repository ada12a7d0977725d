// make_script FILE FEATURES CLASSES: a TorchScript file for scripts of tests/integration.
#include <cstdio>
#include <cstdlib>

#include "tests/learning/script_file_maker.h"

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "make_script FILE FEATURES CLASSES\n");
    return 2;
  }
  tern::make_script_file(argv[1], std::atol(argv[2]), std::atol(argv[3]));
}
