#include "compression/updates/kernels/kernels.h"

#define TERN_KERNEL_TABLE kAvx2Kernels
#include "compression/updates/kernels/kernels-inl.h"
